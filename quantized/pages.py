"""The pages of the front door: the way in for strangers, the overview for members, and what is said when it fails."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.paginator import Paginator
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.models import Membership, User
from accounts.services import as_uuid
from billing.models import Wallet
from completions.errors import GatewayError, InternalError, InvalidRequest, NotFound, PermissionFailed, error_response

KEYS_PER_PAGE = 50

ROBOTS = """User-agent: *
Disallow: /accounts/
Disallow: /admin/
Disallow: /v1/
"""


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, AnonymousUser):
        return render(request, "landing.html", {"public_url": settings.PUBLIC_URL})
    memberships = memberships_of(request.user)
    if not memberships:
        return render(request, "no_organization.html")
    membership = chosen(memberships, request.GET.get("organization"))
    return render(request, "home.html", overview(membership, request.GET.get("page")) | {"memberships": memberships})


def memberships_of(user: User) -> list[Membership]:
    return list(user.memberships.select_related("organization").order_by("created_at", "pk"))


def chosen(memberships: list[Membership], organization: str | None) -> Membership:
    """Another tenant's id is not found, whether it exists or not."""
    if organization is None:
        return memberships[0]
    wanted = as_uuid(organization)
    for membership in memberships:
        if membership.organization_id == wanted:
            return membership
    raise Http404


def overview(membership: Membership, page: str | None) -> dict[str, Any]:
    organization = membership.organization
    newest_first = organization.keys.order_by(F("revoked_at").desc(nulls_first=True), "-created_at", "pk")
    return {
        "membership": membership,
        "organization": organization,
        "wallet": Wallet.objects.filter(pk=organization.pk).first(),
        "keys": Paginator(newest_first, KEYS_PER_PAGE).get_page(page),
        "now": timezone.now(),
        "public_url": settings.PUBLIC_URL,
        "query": f"organization={organization.pk}&",
    }


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    return HttpResponse(ROBOTS, content_type="text/plain")


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    return redirect(static("quantized/favicon.svg"))


# --- When it fails --------------------------------------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return failure(request, InvalidRequest("This request cannot be understood."), "400.html")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return failure(request, PermissionFailed("This is not allowed."), "403.html")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return failure(request, NotFound(), "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    return failure(request, InternalError(), "500.html")


def failure(request: HttpRequest, error: GatewayError, template: str) -> HttpResponse:
    """Under /v1 the API's error shape, elsewhere a page. The page asks neither session nor database: they may be
    what failed."""
    if request.path == "/v1" or request.path.startswith("/v1/"):
        return error_response(error)
    page = render_to_string(template, {"request_id": getattr(request, "request_id", "")})
    return HttpResponse(page, status=error.status)
