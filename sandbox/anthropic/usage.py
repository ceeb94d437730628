"""The usage object, whole and as a stream tells it, in its regular form and in those that are feared."""

from collections.abc import Callable
from typing import Any

from sandbox.exchange import Exchange

ABSURD_TOKENS = 10**18
FIRST_OUTPUT_TOKENS = 1  # what `message_start` says of the output


def usage(x: Exchange) -> dict[str, Any]:
    """The key `usage` in the form that was asked for, or nothing."""
    return _formed(x, _whole(x))


def at_start(x: Exchange) -> dict[str, Any]:
    """Of `message_start`: the prompt, and a beginning of the output."""
    told = {key: part for key, part in _whole(x).items() if key != "output_tokens_details"}
    return _formed(x, told | {"output_tokens": FIRST_OUTPUT_TOKENS})


def at_end(x: Exchange) -> dict[str, Any]:
    """Of `message_delta`: cumulative, without what does not change."""
    unchanged = ("cache_creation", "service_tier", "inference_geo")
    return _formed(x, {key: part for key, part in _whole(x).items() if key not in unchanged})


def _whole(x: Exchange) -> dict[str, Any]:
    used = x.bill.usage
    told: dict[str, Any] = {
        "input_tokens": used.prompt_tokens - used.cached_tokens - used.cache_write_tokens,
        "cache_creation_input_tokens": used.cache_write_tokens,
        "cache_read_input_tokens": used.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": used.cache_write_1h_tokens,
        },
        "output_tokens": used.completion_tokens,
        "service_tier": "standard",
        "inference_geo": "global",
    }
    if used.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": used.reasoning_tokens}
    if searches := used.web_searches:
        told["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return told


def _formed(x: Exchange, told: dict[str, Any]) -> dict[str, Any]:
    form = x.directive.usage_form
    if form == "missing":
        return {}
    return {"usage": None if form == "null" else _FORMS[form](told)}


def _numbers(change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changed(value: dict[str, Any]) -> dict[str, Any]:
        return {
            key: changed(part) if isinstance(part, dict) else change(part) if isinstance(part, int) else part
            for key, part in value.items()
        }

    return changed


_TOTALS = ("input_tokens", "output_tokens")

_FORMS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "full": lambda told: told,
    "zero": _numbers(lambda _: 0),
    "negative": _numbers(lambda number: -(abs(number) or 1)),
    "absurd": _numbers(lambda _: ABSURD_TOKENS),
    "bare": lambda told: {key: told[key] for key in _TOTALS},
    "no_details": lambda told: {key: part for key, part in told.items() if not isinstance(part, dict)},
    "wrong_types": _numbers(str),
}
