"""DRF's APIView on the lean lane: authentication and handlers are coroutines, answers plain mappings of headers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.callers import Principal
from accounts.principals import Directory
from completions.calls.gateway import Gateway
from completions.calls.sinks import StreamSink
from completions.dialects import OPENAI_CHAT
from completions.dialects.base import Dialect

STREAM_HEADERS = {
    "cache-control": "no-cache, no-transform",
    "content-encoding": "identity",
    "x-accel-buffering": "no",
}


class Serving(Protocol):
    """What a server process owns, as the model API needs it; its lifespan puts it into every request's scope."""

    directory: Directory
    gateway: Gateway

    @property
    def reader(self) -> "RowReader": ...


class RowReader(Protocol):
    """Reads single rows of the database without leaving the event loop. Raises DatabaseUnavailable."""

    async def fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None: ...


class DirectoryAuthentication(BaseAuthentication):
    """Credentials → Principal from the process's memory; only a caller not met lately costs a query."""

    async def authenticate(self, request: Request) -> tuple[Principal, None]:  # type: ignore[override]
        dialect: Dialect = request.parser_context["dialect"]
        owned: Serving = request.parser_context["serving"]
        return await owned.directory.authenticate(dialect.credentials(request.META), owned.reader.fetch_one), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class AsyncAPIView(APIView):
    """APIView whose dispatch awaits: authentication and handler are coroutines. Nothing hops to a thread."""

    authentication_classes = [DirectoryAuthentication]
    dialect: Dialect = OPENAI_CHAT  # of the clients of this endpoint: credentials, request, answers and errors

    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        self.args, self.kwargs, self.headers = args, kwargs, {}
        self.serving = cast(Serving, request.scope["state"]["runtime"])
        self.request = self.initialize_request(request, *args, **kwargs)
        self.request.parser_context = {"dialect": self.dialect, "serving": self.serving}
        try:
            handler = self.handler()
            await self.authenticate(self.request)
            return await handler(self.request)
        except Exception as error:
            return self.refused(error)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Without parsers to choose from: the view reads the body, of any content type."""
        ours = Request(request, authenticators=self.get_authenticators())
        # DRF's own context leads back to the request, and would leave each one to the garbage collector.
        ours.parser_context = {}
        return ours

    def refused(self, error: Exception) -> HttpResponseBase:
        response = self.handle_exception(error)
        if response.status_code == 405:
            response["Allow"] = ", ".join(self.allowed_methods)
        return response

    @property
    def allowed_methods(self) -> list[str]:
        return [method for method in super().allowed_methods if method != "OPTIONS"]

    async def authenticate(self, request: Request) -> None:
        for authenticator in cast(list[DirectoryAuthentication], request.authenticators):
            request.user, request.auth = await authenticator.authenticate(request)  # type: ignore[assignment]

    def handler(self) -> Callable[[Request], Awaitable[HttpResponseBase]]:
        name = cast(str, self.request.method).lower()
        handler = getattr(self, name, None) if name in self.http_method_names and name != "options" else None
        return handler or self.http_method_not_allowed  # type: ignore[return-value]


class Answer(HttpResponseBase):
    """A 200 whose headers are our own words, in a plain mapping: Django's converts and checks each of them."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers  # type: ignore[assignment]


class WholeAnswer(Answer):
    """An answer whose body is there in full."""

    streaming = False

    def __init__(self, content: bytes, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(headers | {"content-type": media_type})
        self.content = content


class EventStream(Answer):
    """Server-sent events from a sink, which the lean lane writes; proxies shall not gather or compress them.
    `disconnected` is done when the client is gone, and cancelled when the response is closed."""

    streaming = True

    def __init__(self, sink: StreamSink, headers: dict[str, str], disconnected: asyncio.Future[None]) -> None:
        super().__init__(headers | {"content-type": sink.media_type} | STREAM_HEADERS)
        self.parts = sink.buffer
        self._sink = sink
        self._disconnected = disconnected

    def close(self) -> None:
        self._sink.disconnect()
        self._disconnected.cancel()
