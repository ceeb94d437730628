"""`POST /v1/chat/completions`: the DRF view of the model API, on the lean lane.

Authentication class, methods and exception handler are DRF's, awaited; the rest is the gateway's.
"""

import asyncio
import hashlib
from typing import cast

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from accounts.principals import Principal
from completions.api.base import EVENT_STREAM, AsyncAPIView, EventStream, JsonAnswer, departure, runtime_of
from completions.api.documented import COMPLETIONS, documented
from completions.calls.call import PROVIDER_HEADER
from completions.calls.gateway import Gateway
from completions.calls.idempotency import Claim, StoredAnswer
from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat
from completions.errors import InvalidJson, RoleForbidden


class CompletionsView(AsyncAPIView):
    @documented(COMPLETIONS)
    async def post(self, request: Request) -> HttpResponseBase:
        """A completion of the conversation, or a stream of its chunks."""
        require_spender(cast(Principal, request.user))
        chat = self.chat(request._request.body)
        provider = request.META.get("HTTP_X_QUANTIZED_PROVIDER") or None
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        if key is None:
            return await self.answer(request, chat, provider, None)
        organization_id = cast(Principal, request.user).organization_id
        claim = await runtime_of(request).gateway.idempotency.claim(organization_id, key, fingerprint(chat, provider))
        if isinstance(claim, StoredAnswer):
            return await self.replay(request, chat, claim)
        return await self.answer(request, chat, provider, claim)

    async def answer(self, request: Request, chat: Chat, provider: str | None, claim: Claim | None) -> HttpResponseBase:
        principal = cast(Principal, request.user)
        gateway: Gateway = runtime_of(request).gateway
        if not chat.stream:
            completion = await gateway.complete(principal, chat, provider, claim)
            return JsonAnswer(completion.body, completion.call.headers())
        leaving = asyncio.ensure_future(departure(request._request.receive))  # type: ignore[attr-defined]
        try:
            events = await gateway.stream(principal, chat, provider, leaving, claim)
        except BaseException:
            leaving.cancel()
            raise
        return EventStream(events, leaving)

    @staticmethod
    async def replay(request: Request, chat: Chat, stored: StoredAnswer) -> HttpResponse:
        body = await runtime_of(request).gateway.replay(chat, stored)
        content_type = EVENT_STREAM if stored.streamed else "application/json"
        headers = {
            "x-generation-id": f"gen-{stored.settle.hold_id.hex}",
            PROVIDER_HEADER: stored.provider,
            "idempotent-replayed": "true",
        }
        return HttpResponse(body, content_type=content_type, headers=headers)

    @staticmethod
    def chat(body: bytes) -> Chat:
        if not body:
            raise InvalidJson("The request body is empty; send a JSON object.")
        return parse_chat(body)


def require_spender(principal: Principal) -> None:
    if not principal.may_spend:
        raise RoleForbidden(f"Your role '{principal.role}' may not spend the organization's credits.")


def fingerprint(chat: Chat, provider: str | None) -> bytes:
    """The same request again, byte for byte, has the same one."""
    return hashlib.sha256(f"{provider or ''}\n".encode() + chat.body).digest()
