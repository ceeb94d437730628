import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.principals import Principal
from completions.calls.buffer import Events

EVENT_STREAM = "text/event-stream; charset=utf-8"
STREAM_HEADERS = {
    "content-type": EVENT_STREAM,
    "cache-control": "no-cache, no-transform",
    "content-encoding": "identity",
    "x-accel-buffering": "no",
}


class DirectoryAuthentication(BaseAuthentication):
    """Authorization → Principal from the process's memory; only a caller not met lately costs a query."""

    async def authenticate(self, request: Request) -> tuple[Principal, None]:  # type: ignore[override]
        runtime = runtime_of(request)
        header = request.META.get("HTTP_AUTHORIZATION")
        return await runtime.directory.authenticate(header, runtime.reader.fetch_one), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class AsyncAPIView(APIView):
    """APIView whose dispatch awaits: authentication and handler are coroutines. Nothing hops to a thread."""

    authentication_classes = [DirectoryAuthentication]

    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        self.args, self.kwargs, self.headers = args, kwargs, {}
        self.request = self.initialize_request(request, *args, **kwargs)
        try:
            handler = self.handler()
            await self.authenticate(self.request)
            return await handler(self.request)
        except Exception as error:
            return self.refused(error)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Without parsers to choose from: the view reads the body, of any content type."""
        ours = Request(request, authenticators=self.get_authenticators())
        ours.parser_context = {}  # DRF's leads back to the request, and would leave each one to the garbage collector
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


class JsonAnswer(Answer):
    """The whole of it."""

    streaming = False

    def __init__(self, content: bytes, headers: dict[str, str]) -> None:
        super().__init__(headers | {"content-type": "application/json"})
        self.content = content


class EventStream(Answer):
    """Server-sent events. The lean lane writes them; proxies shall not gather or compress them."""

    streaming = True

    def __init__(self, events: Events, leaving: asyncio.Future[None]) -> None:
        super().__init__(events.call.headers() | STREAM_HEADERS)
        self.events = events
        self._leaving = leaving

    def close(self) -> None:
        self.events.leave()
        self._leaving.cancel()


async def departure(receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def runtime_of(request: Request) -> Any:
    """What the server process owns (quantized/runtime.py), put into every request's scope by the lifespan."""
    return request._request.scope["state"]["runtime"]  # type: ignore[attr-defined]
