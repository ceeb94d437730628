"""What every answer carries: `x-request-id`, the caller's own when it is sane, a new one otherwise; and what a page may
load (Content-Security-Policy)."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "x-request-id"
META_NAME = "HTTP_X_REQUEST_ID"  # request.headers would turn all of them into a mapping to find this one

# What goes into our logs and back to the caller unchanged: nothing that could break a line or a header.
_SANE = re.compile(r"[A-Za-z0-9._-]{8,128}")

Respond = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


def request_id(given: str | None) -> str:
    if given is not None and _SANE.fullmatch(given):
        return given
    return f"req-{secrets.token_hex(16)}"


class Middleware:
    """Of both colours: sync under a sync handler, async under an async one, without a thread hop."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        self.before(request)
        response = self.get_response(request)
        if isinstance(response, HttpResponseBase):
            return self.after(request, response)
        return self._later(request, response)

    async def _later(self, request: HttpRequest, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        return self.after(request, await response)

    def before(self, request: HttpRequest) -> None:
        """Nothing, unless a subclass does."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response


class RequestIdMiddleware(Middleware):
    def before(self, request: HttpRequest) -> None:
        request.request_id = request_id(request.META.get(META_NAME))  # type: ignore[attr-defined]

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response[HEADER] = request.request_id  # type: ignore[attr-defined]
        return response


# --- What a page may load ---------------------------------------------------------------------------

POLICY = "Content-Security-Policy"
OURS_ALONE = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
# Others' pages, which we serve and did not write: their styles stand in the page. The admin's say it themselves
# (quantized/operator/site.py).
OTHERS = {"/docs": {"style-src": "'self' 'unsafe-inline'"}}


def policy(directives: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


POLICIES = {path: policy(OURS_ALONE | more) for path, more in OTHERS.items()}
OUR_POLICY = policy(OURS_ALONE)


class ContentSecurityPolicyMiddleware(Middleware):
    """For pages. A view that needs another policy says so itself."""

    def after(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.get("Content-Type", "").startswith("text/html"):
            policies = (given for start, given in POLICIES.items() if request.path.startswith(start))
            response.headers.setdefault(POLICY, next(policies, OUR_POLICY))
        return response
