"""`GET /v1/credits`, `/v1/key` and `/v1/generation`: what a key may know of its organization's books."""

from decimal import Decimal
from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import ApiKey
from accounts.principals import Principal
from billing import lookups, money
from billing.models import Hold, Price, Usage
from completions import shapes
from completions.errors import MissingField, NotFound


class CreditsView(APIView):
    """The organization's balance and what its running calls hold."""

    def get(self, request: Request) -> Response:
        balance = lookups.balance(principal(request).organization_id)
        return Response(
            {
                "object": "credits",
                "credits_remaining": balance.remaining,
                "credits_held": balance.held,
                "credits_granted": balance.granted,
                "credits_used": balance.used,
                "overdraft": balance.overdraft,
                "unlimited": balance.unlimited,
            }
        )


class KeyView(APIView):
    """The key that asks: its limits, and what is left of them."""

    def get(self, request: Request) -> Response:
        key_id = principal(request).key_id
        if key_id is None:
            raise NotFound("This request was not made with an API key.")
        key = ApiKey.objects.get(pk=key_id)
        return Response(key_body(key))


class GenerationView(APIView):
    """The receipt of one call."""

    def get(self, request: Request) -> Response:
        generation_id = request.query_params.get("id")
        if not generation_id:
            raise MissingField("id")
        receipt = lookups.receipt(principal(request).organization_id, generation_id)
        if receipt is None:
            raise NotFound("There is no such generation.", param="id")
        return Response(receipt_body(receipt))


def principal(request: Request) -> Principal:
    return cast(Principal, request.user)


def key_body(key: ApiKey) -> shapes.Key:
    windows = lookups.windows(key)
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


def receipt_body(receipt: lookups.Receipt) -> dict[str, Any]:
    hold, usage = receipt.hold, receipt.usage or Usage()
    charged = (hold.charged or 0) - sum(entry.amount for entry in receipt.corrections)
    remaining = None if receipt.unlimited else receipt.balance
    return {
        "object": "generation",
        "id": lookups.generation_id(hold.pk),
        "created_at": hold.created_at,
        "model": hold.model,
        "provider": usage.provider or hold.provider,
        "status": receipt.status,
        "streamed": usage.streamed,
        "cancelled": usage.cancelled,
        "finish_reason": usage.finish_reason or None,
        "error": usage.error_code or None,
        "usage": usage_body(usage, charged, remaining),
        "credits_used": charged,
        "credits_held": hold.amount if hold.state == Hold.State.OPEN else 0,
        "credits_remaining": remaining,
        "price": price_body(receipt.price),
        "cost_usd": decimal_string(money.usd(usage.cost_pico)),
        "corrections": [
            {"credits": -entry.amount, "created_at": entry.created_at, "reason": entry.reason}
            for entry in receipt.corrections
        ],
        "attempts": usage.attempts,
        "first_token_ms": usage.first_token_ms,
        "latency_ms": usage.latency_ms,
        "key": hold.key_id,
    }


def usage_body(usage: Usage, credits_used: int, credits_remaining: int | None) -> dict[str, Any]:
    """As in a completion; see completions/answers.py."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "credits_used": credits_used,
        "credits_remaining": credits_remaining,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            "audio_tokens": usage.audio_input_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
        },
    }


def price_body(price: Price) -> dict[str, Any]:
    """USD per million tokens, or per unit; classes without a price of their own are left out."""
    prices = {name: getattr(price, name) for name in money.CLASSES}
    body: dict[str, Any] = {"version": price.version}
    body |= {name: decimal_string(value) for name, value in prices.items() if value is not None}
    return body | ({"tiers": price.tiers} if price.tiers else {})


def decimal_string(value: Decimal) -> str:
    """Plain digits, no exponent, no trailing zeros: 0.40 → "0.4"."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
