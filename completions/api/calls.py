"""The model API's one view: whatever the dialect, a request becomes an Ask, and the gateway serves it.

Authentication class, methods and exception handler are DRF's, awaited; the words are the dialect's, the rest is the
gateway's. completions/dialects has the table of addresses.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from accounts.callers import Principal
from common.ids import generation_id
from completions.api.base import AsyncAPIView, EventStream, WholeAnswer
from completions.api.documented import COMPLETIONS, documented
from completions.ask import Ask
from completions.calls.gateway import Gateway
from completions.calls.headers import PROVIDER_HEADER, call_headers
from completions.calls.idempotency import StoredAnswer
from completions.calls.sinks import StreamSink, WholeSink
from completions.errors import RoleForbidden


class CallView(AsyncAPIView):
    @documented(COMPLETIONS)
    async def post(self, request: Request) -> HttpResponseBase:
        """A completion of the conversation, or a stream of its chunks."""
        principal = cast(Principal, request.user)
        if not principal.may_spend:
            raise RoleForbidden(f"Your role '{principal.role}' may not spend the organization's credits.")
        gateway = self.serving.gateway
        ask = self.dialect.parse(request._request.body)
        provider = request.META.get("HTTP_X_QUANTIZED_PROVIDER") or None
        key, claim = request.META.get("HTTP_IDEMPOTENCY_KEY"), None
        if key is not None:
            found = await gateway.idempotency.claim(principal.organization_id, key, fingerprint(ask, provider))
            if isinstance(found, StoredAnswer):
                return await self.replay(gateway, ask, found)
            claim = found
        if not ask.stream:
            whole = WholeSink(self.dialect)
            await gateway.serve(principal, ask, provider, claim, whole)
            return WholeAnswer(whole.body, whole.media_type, call_headers(whole.call))
        streamed = StreamSink(self.dialect, gateway.stream_times)
        disconnected = asyncio.ensure_future(client_disconnected(request._request.receive))  # type: ignore[attr-defined]
        disconnected.add_done_callback(lambda _: streamed.disconnect())
        try:
            await gateway.serve(principal, ask, provider, claim, streamed)
        except BaseException:
            disconnected.cancel()
            raise
        return EventStream(streamed, call_headers(streamed.call), disconnected)

    async def replay(self, gateway: Gateway, ask: Ask, stored: StoredAnswer) -> HttpResponseBase:
        body, media_type = await gateway.replay(self.dialect, ask, stored)
        headers = {
            "x-generation-id": generation_id(stored.settle.hold_id),
            PROVIDER_HEADER: stored.provider,
            "idempotent-replayed": "true",
        }
        return WholeAnswer(body, media_type, headers)


def fingerprint(ask: Ask, provider: str | None) -> bytes:
    """SHA-256: equal for the same body, byte for byte, at the same endpoint with the same forced provider."""
    return hashlib.sha256(f"{ask.endpoint}\n{provider or ''}\n".encode() + ask.body).digest()


async def client_disconnected(receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Returns when the client has disconnected; `receive` is ASGI's, after the body."""
    while (await receive())["type"] != "http.disconnect":
        pass
