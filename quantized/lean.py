"""The model API's lane: Django's ASGI handler without what costs more than the call itself.

Left out, and measured in docs/adr/0003: a thread pool per request, sync signal receivers, closing
the response in a thread, a second task per request that listens for a disconnect (a stream's view
listens itself), and the dashboard's middleware. Kept: Django's request, URL map, views, responses
and its last-chance error handling.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from completions.errors import RequestTooLarge, error_response
from completions.views import EventStream
from quantized.middleware import RequestIdMiddleware

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_TIMEOUT_S = 60


class ClientLeft(Exception):
    """Gone before the request was complete."""


class LeanHandler(ASGIHandler):
    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        self._middleware_chain = RequestIdMiddleware(convert_exception_to_response(self._get_response_async))  # type: ignore[attr-defined]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            body = await read_body(scope, receive)
        except (ClientLeft, TimeoutError):
            return
        request = ASGIRequest(scope, BytesIO(body or b""))
        request.receive = receive  # type: ignore[attr-defined]
        # Not get_response_async: it would log every 4xx from a thread.
        response = await self.respond(request) if body is not None else too_large(request)
        await send_response(response, send)

    async def respond(self, request: ASGIRequest) -> HttpResponseBase:
        return await cast(Awaitable[HttpResponseBase], self._middleware_chain(request))


async def read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than MAX_BODY_BYTES."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > settings.MAX_BODY_BYTES:
        return None
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        return body if len(body) <= settings.MAX_BODY_BYTES else None
    async with asyncio.timeout(BODY_TIMEOUT_S):
        return await read_parts(message, receive)


async def read_parts(message: MutableMapping[str, Any], receive: Receive) -> bytes | None:
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        size += len(message["body"])
        if size > settings.MAX_BODY_BYTES:
            return None
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def too_large(request: ASGIRequest) -> HttpResponse:
    return RequestIdMiddleware(lambda _: error_response(RequestTooLarge(settings.MAX_BODY_BYTES)))(request)  # type: ignore[return-value]


async def send_response(response: HttpResponseBase, send: Send) -> None:
    if isinstance(response, HttpResponse):
        response["content-length"] = str(len(response.content))
    headers = [(name.lower().encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    if not isinstance(response, EventStream):
        assert isinstance(response, HttpResponse), type(response)
        await send({"type": "http.response.body", "body": response.content})
        return
    try:
        async for events in response.events:
            await send({"type": "http.response.body", "body": events, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        response.close()
