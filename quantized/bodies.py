"""A request's body, bounded in size and time, for both lanes: Django itself would spool whatever comes to the disk."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse

from completions.api.border import error_response
from completions.dialects import OPENAI_CHAT
from completions.dialects.base import Dialect
from completions.errors import GatewayError, RequestTimeout, RequestTooLarge
from quantized.middleware import RequestIdMiddleware

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientLeft(Exception):
    """Gone before the request was complete."""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises RequestTooLarge, RequestTimeout or ClientLeft."""
    bytes_max: int = settings.MAX_BODY_BYTES
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > bytes_max:
        raise RequestTooLarge(bytes_max)
    try:
        async with asyncio.timeout(settings.BODY_TIMEOUT_S):
            return await read_parts(receive, bytes_max)
    except TimeoutError:
        raise RequestTimeout(settings.BODY_TIMEOUT_S) from None


async def read_parts(receive: Receive, bytes_max: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        size += len(message["body"])
        if size > bytes_max:
            raise RequestTooLarge(bytes_max)
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """For a handler that reads its body itself: the body in one message, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def refusal(scope: Scope, error: GatewayError, dialect: Dialect = OPENAI_CHAT) -> HttpResponse:
    """The answer to a request whose body was not read to its end."""
    response = error_response(error, dialect)
    if isinstance(error, RequestTimeout):
        response["connection"] = "close"  # what comes later would be taken for the next request
    return cast(HttpResponse, RequestIdMiddleware(lambda _: response)(ASGIRequest(scope, BytesIO())))
