"""The model API's lane: Django's ASGI handler without what costs more than the call itself.

Left out, and measured in docs/adr/0003: a thread pool per request, sync signal receivers, closing
the response in a thread, a second task per request that listens for a disconnect (a stream's view
listens itself), the dashboard's middleware, and the URL map: the table of dialects says which view an
address has. Kept: Django's request, views, responses and its last-chance error handling.
"""

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, cast

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from completions.api.base import EventStream, WholeAnswer
from completions.api.calls import CallView
from completions.dialects.base import Dialect
from completions.errors import GatewayError
from quantized.bodies import ClientLeft, Receive, Scope, Send, read_body, refusal
from quantized.middleware import RequestIdMiddleware
from quantized.runtime import Runtime


class LeanRequest(ASGIRequest):
    """Django's, made of what this lane is asked for."""

    _encoding = "utf-8"

    def __init__(self, scope: Scope, body: bytes, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.resolver_match = None
        self.script_name = ""
        self.path = self.path_info = scope["path"]
        self.method = scope["method"]
        host, port = scope["server"] or ("unknown", 0)
        self.META = {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": self.path,
            "QUERY_STRING": scope["query_string"].decode("latin1"),
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
        }
        for name, value in scope["headers"]:
            if (key := meta_name(name)) is not None:
                text = value.decode("latin1")
                self.META[key] = f"{self.META[key]},{text}" if key in self.META else text
        self._body = body


@lru_cache(maxsize=256)
def meta_name(header: bytes) -> str | None:
    """Django's name of a header. None with an underscore, which could be taken for a hyphen."""
    if b"_" in header:
        return None
    name = header.decode("latin1").upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


class LeanHandler(ASGIHandler):
    """Serves the addresses of `dialects`."""

    def __init__(self, dialects: Mapping[str, Dialect]) -> None:
        self._dialects = dialects
        self._views = {path: CallView.as_view(dialect=dialect) for path, dialect in dialects.items()}
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        self._middleware_chain = RequestIdMiddleware(convert_exception_to_response(self._viewed))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            body = await read_body(scope, receive)
        except ClientLeft:
            return
        except GatewayError as error:
            return await send_response(refusal(scope, error, self._dialects[scope["path"]]), send)
        request = LeanRequest(scope, body, receive)
        # Not get_response_async: it would log every 4xx from a thread.
        response = await self.respond(request)
        runtime: Runtime = scope["state"]["runtime"]
        runtime.answers[scope["path"], response.status_code] += 1
        await send_response(response, send)

    async def respond(self, request: ASGIRequest) -> HttpResponseBase:
        return await cast(Awaitable[HttpResponseBase], self._middleware_chain(request))

    async def _viewed(self, request: ASGIRequest) -> HttpResponseBase:
        return await cast(Awaitable[HttpResponseBase], self._views[request.path_info](request))


async def send_response(response: HttpResponseBase, send: Send) -> None:
    headers = [(name.lower().encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    if isinstance(response, EventStream):
        return await send_stream(response, headers, send)
    assert isinstance(response, WholeAnswer | HttpResponse), type(response)
    body = response.content
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_stream(response: EventStream, headers: Sequence[tuple[bytes, bytes]], send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    try:
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head waits for no event
        async with aclosing(aiter(response.parts)) as parts:
            async for events in parts:
                await send({"type": "http.response.body", "body": events, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        response.close()
