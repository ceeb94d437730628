"""OpenRouter's look-up of one generation: what it cost, for the key that made it. Pure.

https://openrouter.ai/docs/api-reference/get-a-generation. A generation is known a little after it ended.
"""

import json
from decimal import Decimal
from typing import Any

from billing.pricing.money import Usage
from completions.providers.record import Generation, Inquiry, Unreadable

AFTER_S = 5
TOKENS_MAX = 2**53
COST_USD_MAX = 100_000


def inquiry(call_id: str) -> Inquiry:
    return Inquiry("/generation", (("id", call_id),))


def read(body: bytes) -> Generation:
    try:
        told = json.loads(body, parse_float=Decimal, parse_int=Decimal)["data"]
        cost = told["total_cost"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable("no cost") from error
    if not isinstance(cost, Decimal) or not cost.is_finite() or not 0 <= cost <= COST_USD_MAX:
        raise Unreadable("a cost that is none")
    return Generation(
        cost_usd=cost,
        usage=Usage(
            prompt_tokens=_count(told, "native_tokens_prompt"),
            completion_tokens=_count(told, "native_tokens_completion"),
            cached_tokens=_count(told, "native_tokens_cached"),
            reasoning_tokens=_count(told, "native_tokens_reasoning"),
        ),
        streamed=told.get("streamed") is True,
        cancelled=told.get("cancelled") is True,
        finish_reason=_word(told, "finish_reason"),
    )


def _count(told: dict[str, Any], name: str) -> int:
    """The money is the cost: a count that is missing or absurd is 0, and costs nobody anything."""
    value = told.get(name)
    is_count = isinstance(value, Decimal) and value.is_finite() and 0 <= value < TOKENS_MAX
    return int(value) if is_count and value is not None else 0


def _word(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return "".join(filter(str.isprintable, value))[:200] if isinstance(value, str) else ""
