"""`GET /v1/credits`, `/v1/key` and `/v1/generation`: what a key may know of its organization's books."""

from typing import cast

import msgspec
from msgspec import UNSET, Struct
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.callers import Principal
from accounts.models import ApiKey
from billing.credits import lots
from billing.ledger import balances
from billing.models import Hold, Price, Usage
from billing.pricing import money
from billing.usage import receipts
from common.ids import generation_id
from common.numbers import plain
from completions.api import shapes
from completions.api.documented import QUERY, Caller, EndpointDoc, documented
from completions.api.inputs import query_of
from completions.decoding import Words
from completions.dialects.base import Charge
from completions.dialects.openai_chat.answers import usage_view
from completions.errors import MissingField, NotFound

EVERYBODY: tuple[Caller, ...] = ("api_key", "access_token")


class GenerationQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """It is there from the moment of the hold."""

    id: str


GENERATION_WORDS = Words(GenerationQuery.__struct_fields__, {"id": "the id of a completion, gen-..."})


class CreditsView(APIView):
    @documented(EndpointDoc(answer=shapes.Credits, callers=EVERYBODY))
    def get(self, request: Request) -> Response:
        """The organization's balance, what its running calls hold, and what will expire."""
        organization_id = principal(request).organization_id
        balance = balances.balance(organization_id)
        expiring = lots.open_lots(organization_id)
        return Response(
            shapes.Credits(
                credits_remaining=balance.remaining,
                credits_held=balance.held,
                credits_granted=balance.granted,
                credits_used=balance.used,
                overdraft=balance.overdraft,
                unlimited=balance.unlimited,
                expiring=[shapes.ExpiringCredits(lot.left, lot.expires_at) for lot in expiring],
            )
        )


class KeyView(APIView):
    @documented(EndpointDoc(answer=shapes.Key, callers=EVERYBODY, refusals=(NotFound,)))
    def get(self, request: Request) -> Response:
        """The key that asks: its limits, and what is left of them."""
        key_id = principal(request).key_id
        if key_id is None:
            raise NotFound("This request was not made with an API key.")
        key = ApiKey.objects.get(pk=key_id)
        return Response(key_body(key))


class GenerationView(APIView):
    @documented(
        EndpointDoc(
            answer=shapes.Generation,
            query=GenerationQuery,
            words=GENERATION_WORDS,
            callers=EVERYBODY,
            refusals=(*QUERY, MissingField, NotFound),
        )
    )
    def get(self, request: Request) -> Response:
        """The receipt of one call."""
        asked = query_of(request, GenerationQuery, GENERATION_WORDS)
        receipt = receipts.receipt(principal(request).organization_id, asked.id)
        if receipt is None:
            raise NotFound("There is no such generation.", param="id")
        return Response(receipt_body(receipt))


def principal(request: Request) -> Principal:
    return cast(Principal, request.user)


def key_body(key: ApiKey) -> shapes.Key:
    windows = balances.windows(key)
    return shapes.Key(
        id=key.pk,
        name=key.name,
        prefix=key.prefix,
        last_four=key.last_four,
        organization=key.organization_id,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        limit=key.limit_micro,
        limit_period=cast(shapes.Period | None, key.limit_period),
        limit_remaining=windows.limit_remaining,
        limit_resets_at=windows.limit_resets_at,
        usage=shapes.Spent(windows.day, windows.week, windows.month, windows.total),
        models=key.models,
        rate_limits=shapes.RateLimits(key.requests_per_minute, key.tokens_per_minute, key.concurrency),
    )


def receipt_body(receipt: receipts.CallReceipt) -> shapes.Generation:
    hold, usage = receipt.hold, receipt.usage or Usage()
    charged = (hold.charged or 0) - sum(entry.amount for entry in receipt.corrections)
    remaining = None if receipt.unlimited else receipt.balance
    return shapes.Generation(
        id=generation_id(hold.pk),
        created_at=hold.created_at,
        endpoint=hold.endpoint,
        model=hold.model,
        provider=usage.provider or hold.provider,
        status=cast(shapes.GenerationStatus, receipt.status),
        streamed=usage.streamed,
        cancelled=usage.cancelled,
        finish_reason=usage.finish_reason or None,
        error=usage.error_code or None,
        usage=usage_view(Charge(usage.to_struct(), charged, remaining)),
        credits_used=charged,
        credits_held=hold.amount if hold.state == Hold.State.OPEN else 0,
        credits_remaining=remaining,
        price=price_body(receipt.price),
        cost_usd=plain(money.usd(usage.cost_pico)),
        corrections=[shapes.Correction(-entry.amount, entry.created_at, entry.reason) for entry in receipt.corrections],
        attempts=msgspec.convert(usage.attempts, list[shapes.Attempt]),
        first_token_ms=usage.first_token_ms,
        latency_ms=usage.latency_ms,
        key=hold.key_id,
    )


def price_body(price: Price) -> shapes.PriceVersion:
    told = {name: plain(usd) for name, usd in price.usd.items()}
    tiers = msgspec.convert(price.tiers, list[shapes.TierRates]) if price.tiers else UNSET
    return shapes.PriceVersion(version=price.version, tiers=tiers, **told)
