"""The front door. Two lanes: the model API runs on a lean handler, all the rest on Django's own."""

import gc
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import msgspec
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantized.settings")
django_lane = get_asgi_application()  # before our own imports: it makes Django's apps ready

from completions.dialects import DIALECTS  # noqa: E402
from completions.dialects.base import Dialect  # noqa: E402
from completions.errors import GatewayError  # noqa: E402
from quantized.bodies import ClientLeft, Receive, Scope, Send, read_body, refusal, replayed  # noqa: E402
from quantized.lean import LeanHandler, send_response  # noqa: E402
from quantized.metrics import CONTENT_TYPE, refusal_status  # noqa: E402
from quantized.middleware import HEADER, request_id  # noqa: E402
from quantized.protocol import Protocol  # noqa: E402
from quantized.runtime import Runtime  # noqa: E402

__all__ = ["Protocol", "application"]  # a worker process finds both here, after Django's apps are ready

logger = logging.getLogger(__name__)

Lane = Callable[[Scope, Receive, Send], Awaitable[None]]

# New objects between two looks for garbage in cycles. A few calls make Python's own 700: each look would go through
# the calls under way and find next to nothing.
YOUNG_MAX = 20_000


async def ordinary_lane(scope: Scope, receive: Receive, send: Send) -> None:
    """Django's own handler, with the body's bounds."""
    try:
        body = await read_body(scope, receive)
    except ClientLeft:
        return
    except GatewayError as error:
        return await send_response(refusal(scope, error), send)
    await cast(Lane, django_lane)(scope, replayed(body, receive), send)


class Application:
    """`dialects` are what the model API speaks, by address."""

    def __init__(self, dialects: Mapping[str, Dialect] = DIALECTS) -> None:
        lean_lane = LeanHandler(dialects)
        self._lanes: dict[str, Lane] = {**HEALTH, **dict.fromkeys(dialects, lean_lane)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self._lanes.get(scope["path"], ordinary_lane)(scope, receive, send)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and drain what the process owns; views find it in their request's scope."""
    await receive()
    runtime = Runtime()
    try:
        await runtime.start()
    except Exception as error:
        logger.error("the server cannot start: %s: %s", type(error).__name__, error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    scope["state"]["runtime"] = runtime
    spare()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await runtime.close()
    await send({"type": "lifespan.shutdown.complete"})


def spare() -> None:
    """Take the work of the garbage collector off every call."""
    # What is there now stays: each full collection would look through all of Django's objects, while nobody is served.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX)


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """Alive: the event loop turns."""
    await answer(scope, send, 200, {"status": "ok"})


async def readyz(scope: Scope, receive: Receive, send: Send) -> None:
    """Able to serve: the database, the ledger's writer, and at least one provider."""
    runtime: Runtime = scope["state"]["runtime"]
    checks = await runtime.readiness()
    ready = all(checks.values())
    await answer(scope, send, 200 if ready else 503, {"status": "ok" if ready else "unavailable", "checks": checks})


async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
    """Prometheus's text, for those who may see it."""
    refused = refusal_status(scope["client"], dict(scope["headers"]), settings.METRICS_TOKEN)
    if refused is not None:
        return await answer(scope, send, refused, {"error": REFUSED[refused]})
    runtime: Runtime = scope["state"]["runtime"]
    body = await runtime.metrics.page()
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


HEALTH: dict[str, Lane] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}
REFUSED = {
    401: {"message": "Show METRICS_TOKEN as a bearer token.", "type": "authentication_error", "code": "invalid_token"},
    404: {"message": "There is nothing at this address.", "type": "not_found_error", "code": "not_found"},
}


async def answer(scope: Scope, send: Send, status: int, body: object) -> None:
    given = dict(scope["headers"]).get(HEADER.encode(), b"").decode("latin1")
    headers = [(b"content-type", b"application/json"), (HEADER.encode(), request_id(given or None).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


application = Application()
