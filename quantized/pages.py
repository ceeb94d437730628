"""The pages of the front door: the way in for strangers, and what is said when it fails."""

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from completions.api.border import error_response
from completions.errors import GatewayError, InternalError, InvalidRequest, NotFound, PermissionFailed
from quantized.dashboard import overview

ROBOTS = """User-agent: *
Disallow: /accounts/
Disallow: /activity
Disallow: /admin/
Disallow: /billing
Disallow: /keys
Disallow: /playground
Disallow: /v1/
"""


@require_safe
def home(request: HttpRequest) -> HttpResponseBase:
    if isinstance(request.user, AnonymousUser):
        return render(
            request, "landing.html", {"public_url": settings.PUBLIC_URL, "sign_up_open": settings.SIGNUP_OPEN}
        )
    response: HttpResponseBase = overview.page(request)
    return response


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
    again = request.get_full_path() if request.method == "GET" and error.status >= 500 else ""
    page = render_to_string(template, {"request_id": getattr(request, "request_id", ""), "again": again})
    return HttpResponse(page, status=error.status)
