"""OpenRouter's side endpoints: models, generations, the key and the account's credits."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sandbox.calls import Call
from sandbox.cards import Card
from sandbox.conversation import Refusal
from sandbox.prices import Price, Rates, Tier, usd

TOTAL_CREDITS_USD = 1000
COMPLETIONS = "/api/v1/chat/completions"
ACTIVITY_DAYS = 30
MANAGEMENT_PREFIX = "Bearer sk-or-management"

# OpenRouter's word for what the catalog calls so; both mean USD, theirs per token or unit, as a string.
_PRICE_WORDS = {
    "input": "prompt",
    "output": "completion",
    "cache_read": "input_cache_read",
    "cache_write_5m": "input_cache_write",
    "cache_write_1h": "input_cache_write_1h",
    "reasoning": "internal_reasoning",
    "audio_input": "audio",
    "audio_output": "audio_output",
    "image": "image",
    "request": "request",
    "web_search": "web_search",
}
_PARAMETERS = (
    "frequency_penalty",
    "logit_bias",
    "max_tokens",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)
_ABLE_PARAMETERS = {
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "structured_outputs": ("structured_outputs",),
    "json_mode": ("response_format",),
    "reasoning": ("reasoning", "include_reasoning"),
    "logprobs": ("logprobs", "top_logprobs"),
    "web_search": ("web_search_options",),
}


def models(cards: Iterable[Card]) -> dict[str, Any]:
    data = [_model(card) for card in cards]
    return {"data": data, "total_count": len(data), "links": {"next": None}}


def _model(card: Card) -> dict[str, Any]:
    inputs, outputs = _modalities(card, "_input"), _modalities(card, "_output")
    return {
        "id": card.id,
        "canonical_slug": card.id,
        "name": card.name,
        "created": card.created,
        "description": "",
        "context_length": card.context_length,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->{'+'.join(outputs)}",
            "input_modalities": inputs,
            "output_modalities": outputs,
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": _pricing(card.price),
        "top_provider": {
            "context_length": card.context_length,
            "max_completion_tokens": card.max_output_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": _parameters(card),
        "default_parameters": {},
        "expiration_date": None,
    }


def _modalities(card: Card, suffix: str) -> list[str]:
    return ["text", *sorted(word.removesuffix(suffix) for word in card.capabilities if word.endswith(suffix))]


def _parameters(card: Card) -> list[str]:
    able = [name for ability, names in _ABLE_PARAMETERS.items() if ability in card.capabilities for name in names]
    return sorted([*_PARAMETERS, *able])


def _pricing(price: Price) -> dict[str, Any]:
    shown: dict[str, Any] = _figures(price.base)
    if price.tiers:
        shown["overrides"] = [_override(price.base, tier) for tier in price.tiers]
    return shown


def _figures(rates: Rates) -> dict[str, str]:
    return {word: _usd(rates[name]) for name, word in _PRICE_WORDS.items() if name in rates}


def _override(base: Rates, tier: Tier) -> dict[str, Any]:
    usual = _figures(base)
    changed = {word: figure for word, figure in _figures(tier.rates).items() if figure != usual.get(word)}
    return {"min_prompt_tokens": tier.above_prompt_tokens, **changed}


def _usd(pico: int) -> str:
    return f"{usd(pico).normalize():f}"


def generation(call: Call) -> dict[str, Any]:
    usage, cost = call.bill.usage, float(call.total_usd)
    ended = call.finished_at or call.received_at
    milliseconds = round((ended - call.received_at) * 1000)
    return {
        "data": {
            "id": call.id,
            "upstream_id": None,
            "request_id": None,
            "session_id": None,
            "model": call.model,
            "provider_name": call.provider,
            "router": None,
            "created_at": datetime.fromtimestamp(call.received_at, UTC).isoformat(),
            "api_type": "completions",
            "streamed": call.stream,
            "cancelled": call.state == "cancelled",
            "finish_reason": call.finish_reason,
            "native_finish_reason": call.native_finish_reason,
            "total_cost": cost,
            "usage": cost,
            "upstream_inference_cost": 0,
            "cache_discount": None,
            "is_byok": False,
            "tokens_prompt": usage.prompt_tokens,
            "tokens_completion": usage.completion_tokens,
            "native_tokens_prompt": usage.prompt_tokens,
            "native_tokens_completion": usage.completion_tokens,
            "native_tokens_reasoning": usage.reasoning_tokens,
            "native_tokens_cached": usage.cached_tokens,
            "native_tokens_completion_images": None,
            "num_media_prompt": None,
            "num_media_completion": usage.images or None,
            "num_input_audio_prompt": None,
            "num_search_results": usage.web_searches or None,
            "latency": milliseconds,
            "generation_time": milliseconds,
            "moderation_latency": None,
            "provider_responses": [
                {"provider_name": call.provider, "status": 200, "latency": milliseconds, "is_byok": False}
            ],
            "service_tier": None,
            "origin": "",
            "http_referer": None,
            "user_agent": None,
            "external_user": call.user or None,
            "app_id": None,
        }
    }


def activity(calls: Iterable[Call], wanted: str) -> dict[str, Any]:
    """One day of the last 30 that are over, by model and by who served it."""
    today = datetime.now(UTC).date()
    try:
        day = date.fromisoformat(wanted)
    except ValueError:
        raise Refusal(400, "date must be a date, YYYY-MM-DD") from None
    if not 1 <= (today - day).days <= ACTIVITY_DAYS:
        raise Refusal(400, f"Date must be within the last {ACTIVITY_DAYS} (completed) UTC days")
    served: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        is_of_day = datetime.fromtimestamp(call.received_at, UTC).date() == day
        if is_of_day and call.path == COMPLETIONS and call.is_over and call.state != "refused":
            served.setdefault((call.model, call.provider), []).append(call)
    return {"data": [_activity(day, *names, made) for names, made in served.items()]}


def _activity(day: date, model: str, provider: str, calls: list[Call]) -> dict[str, Any]:
    return {
        "date": str(day),
        "model": model,
        "model_permaslug": model,
        "endpoint_id": f"{provider}/{model}",
        "provider_name": provider,
        "usage": float(sum(call.total_usd for call in calls)),
        "byok_usage_inference": 0,
        "requests": len(calls),
        "prompt_tokens": sum(call.bill.usage.prompt_tokens for call in calls),
        "completion_tokens": sum(call.bill.usage.completion_tokens for call in calls),
        "reasoning_tokens": sum(call.bill.usage.reasoning_tokens for call in calls),
    }


def key(usage_usd: Decimal) -> dict[str, Any]:
    used = float(usage_usd)
    return {
        "data": {
            "label": "sk-or-v1-...",
            "limit": None,
            "limit_remaining": None,
            "limit_reset": None,
            "usage": used,
            "usage_daily": used,
            "usage_weekly": used,
            "usage_monthly": used,
            "byok_usage": 0,
            "is_free_tier": False,
            "is_management_key": False,
            "include_byok_in_limit": False,
            "expires_at": None,
        }
    }


def account(usage_usd: Decimal) -> dict[str, Any]:
    return {"data": {"total_credits": TOTAL_CREDITS_USD, "total_usage": float(usage_usd)}}
