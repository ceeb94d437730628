"""Every answer carries `x-request-id`: the caller's own when it is sane, a new one otherwise."""

import re
import secrets
from collections.abc import Awaitable, Callable

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


class RequestIdMiddleware:
    """Of both colours: sync under a sync handler, async under an async one, without a thread hop."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        request.request_id = request_id(request.META.get(META_NAME))  # type: ignore[attr-defined]
        response = self.get_response(request)
        if isinstance(response, HttpResponseBase):
            return labelled(request, response)
        return self._later(request, response)

    async def _later(self, request: HttpRequest, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        return labelled(request, await response)


def labelled(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response[HEADER] = request.request_id  # type: ignore[attr-defined]
    return response
