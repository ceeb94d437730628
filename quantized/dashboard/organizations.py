"""Which organization one looks at."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.current import switch
from quantized.dashboard.frame import to_log_in


@require_POST
def switch_to(request: HttpRequest, organization_id: UUID) -> HttpResponse:
    """Another tenant's id is not found, whether it exists or not."""
    if not request.user.is_authenticated:
        return to_log_in(request)
    switch(request, organization_id)
    return redirect("home")
