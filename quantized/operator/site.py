"""The admin's site: unfold's pages behind quantized/admin_gate.py, and what they may load."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from unfold.sites import UnfoldAdminSite

from quantized.admin_gate import GatedAdminSite

# Alpine, which unfold's pages stand on, makes functions of their attributes; styles stand in the page. Looser than a
# tenant's pages may be, and still nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


class OperatorSite(GatedAdminSite, UnfoldAdminSite):
    """Behind the admin's door, with a second factor where that is asked for."""

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        inner = super().admin_view(view, cacheable)

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response = inner(request, *args, **kwargs)
            response.headers.setdefault("Content-Security-Policy", POLICY)
            return response

        return cast(View, guarded)
