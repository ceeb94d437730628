"""Who belongs to the organization, and as what."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe

from quantized.dashboard.frame import Visitor, member_page, show

PAGE_MEMBERS = 50
ROLES = (
    ("owner", "Everything, and naming other owners."),
    ("admin", "Keys, team and credits."),
    ("developer", "Makes calls; sees everything."),
    ("billing", "Credits and statements; makes no calls."),
    ("viewer", "Sees everything; changes nothing and makes no calls."),
)


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    members = visitor.organization.memberships.select_related("user").order_by("created_at", "pk")
    shown = Paginator(members, PAGE_MEMBERS).get_page(request.GET.get("page"))
    return show(request, visitor, "team.html", {"members": shown, "roles": ROLES, "query": request.GET.copy()})
