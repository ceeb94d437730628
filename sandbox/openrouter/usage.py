"""The usage object, in its regular form and in all the others that were seen or are feared."""

from collections.abc import Callable
from typing import Any

from sandbox.bill import Bill
from sandbox.exchange import Exchange

ABSURD_TOKENS = 10**18


def usage(x: Exchange) -> dict[str, Any]:
    """The key `usage` with the object in the form that was asked for, or nothing."""
    form = x.directive.usage_form
    if form == "missing":
        return {}
    return {"usage": None if form == "null" else _USAGE_FORMS[form](_usage(x.bill))}


def _usage(bill: Bill) -> dict[str, Any]:
    used = bill.usage
    searches = used.web_searches
    searched = {"server_tool_cost": float(bill.search_usd)} if searches else {}
    shown = {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "cost": float(bill.cost_usd),
        "is_byok": False,
        "prompt_tokens_details": {
            "cached_tokens": used.cached_tokens,
            "cache_write_tokens": used.cache_write_5m_tokens,
            "audio_tokens": used.audio_input_tokens,
            "video_tokens": 0,
        },
        "cost_details": {
            "upstream_inference_cost": float(bill.inference_usd),
            "upstream_inference_prompt_cost": float(bill.prompt_usd),
            "upstream_inference_completions_cost": float(bill.completion_usd),
            **searched,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "image_tokens": 0,
            "audio_tokens": used.audio_output_tokens,
        },
    }
    return shown | ({"server_tool_use_details": {"web_search_requests": searches}} if searched else {})


_TOTALS = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details", "cost_details")


def _numbers(change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Change every number of the object and of the objects in it."""

    def changed(value: dict[str, Any]) -> dict[str, Any]:
        return {
            key: changed(part) if isinstance(part, dict) else part if isinstance(part, bool) else change(part)
            for key, part in value.items()
        }

    return changed


def _bare(full: dict[str, Any]) -> dict[str, Any]:
    return {key: full[key] for key in _TOTALS}


def _no_details(full: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in full.items() if key not in _DETAILS}


_USAGE_FORMS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "full": lambda full: full,
    "zero": _numbers(lambda _: 0),
    "negative": _numbers(lambda number: -(abs(number) or 1)),
    "absurd": _numbers(lambda _: ABSURD_TOKENS),
    "bare": _bare,
    "no_details": _no_details,
    "wrong_types": _numbers(str),
}
