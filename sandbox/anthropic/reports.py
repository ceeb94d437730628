"""Anthropic's Admin API: the usage and cost reports, daily, made of the calls that the sandbox served.

Strict where it matters to who compares bills: an admin's key, times in RFC 3339, known parameters only, pages.
`billed` bends a call's cost here as it does for OpenRouter's look-up: the difference is billed as output tokens.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from sandbox.anthropic.request import VERSIONS
from sandbox.calls import Call
from sandbox.cards import Card
from sandbox.conversation import Refusal
from sandbox.prices import Usage, lines, usd

ADMIN_PREFIX = "sk-ant-admin"
MESSAGES = "/v1/messages"
DAYS_DEFAULT, DAYS_MAX = 7, 31
ONCE = ("starting_at", "ending_at", "bucket_width", "limit", "page")
TOKEN_TYPES = {
    "input": "uncached_input_tokens",
    "output": "output_tokens",
    "reasoning": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write_5m": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
}
SEARCH = "web_search"

CardOf = Callable[[str], Card]
Costs = dict[tuple[str, str], Decimal]  # by model and kind of token


class Query(msgspec.Struct, frozen=True):
    first: date
    end: date  # exclusive
    limit: int
    grouped: frozenset[str]


def authorize(headers: dict[str, str]) -> None:
    key = headers.get("x-api-key", "")
    if not key:
        raise Refusal(401, "x-api-key header is required")
    if not key.startswith(ADMIN_PREFIX):
        raise Refusal(401, "invalid x-api-key")
    if headers.get("anthropic-version", "") not in VERSIONS:
        raise Refusal(400, "anthropic-version: header is required")


def usage_report(query_string: str, calls: Iterable[Call]) -> dict[str, Any]:
    query = read_query(query_string, groups=("model", "api_key_id", "workspace_id", "service_tier", "context_window"))
    return _buckets(query, calls, lambda of_day: _usage(of_day, "model" in query.grouped))


def cost_report(query_string: str, calls: Iterable[Call], card_of: CardOf) -> dict[str, Any]:
    query = read_query(query_string, groups=("description", "workspace_id"))
    return _buckets(query, calls, lambda of_day: _costs(of_day, card_of, "description" in query.grouped))


# --- what is asked --------------------------------------------------------------------------


def read_query(query_string: str, *, groups: tuple[str, ...]) -> Query:
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in parse_qsl(query_string, keep_blank_values=True):
        given[name].append(value)
    grouped = given.pop("group_by[]", [])
    _check(given, grouped, groups)
    # The end defaults to now, which bounds buckets that have begun.
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    start = _day("starting_at", given["starting_at"][0])
    if "page" in given:
        start = _day("page", given["page"][0].removeprefix("page_"))
    end = _day("ending_at", given["ending_at"][0]) if "ending_at" in given else tomorrow
    if end <= start:
        raise Refusal(400, "ending_at: must be after starting_at")
    return Query(start, end, _limit(given), frozenset(grouped))


def _check(given: dict[str, list[str]], grouped: list[str], groups: tuple[str, ...]) -> None:
    for name, values in given.items():
        if name not in ONCE:
            raise Refusal(400, f"{name}: Extra inputs are not permitted")
        if len(values) > 1:
            raise Refusal(400, f"{name}: Input should be a single value")
    if "starting_at" not in given:
        raise Refusal(400, "starting_at: Field required")
    if given.get("bucket_width", ["1d"]) != ["1d"]:
        raise Refusal(400, "bucket_width: Input should be '1d'")
    for word in grouped:
        if word not in groups:
            raise Refusal(400, f"group_by: Input should be one of {', '.join(groups)}")


def _limit(given: dict[str, list[str]]) -> int:
    text = given.get("limit", [str(DAYS_DEFAULT)])[0]
    if not text.isdecimal() or not 1 <= int(text) <= DAYS_MAX:
        raise Refusal(400, f"limit: Input should be between 1 and {DAYS_MAX}")
    return int(text)


def _day(name: str, text: str) -> date:
    """Times are snapped to the start of their day in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, f"{name}: Input should be a valid datetime") from None
    if moment.tzinfo is None:
        raise Refusal(400, f"{name}: Input should have timezone info")
    return moment.astimezone(UTC).date()


# --- what is answered -----------------------------------------------------------------------


def _buckets(
    query: Query, calls: Iterable[Call], results: Callable[[list[Call]], list[dict[str, Any]]]
) -> dict[str, Any]:
    by_day: defaultdict[date, list[Call]] = defaultdict(list)
    for call in calls:
        if call.path == MESSAGES and call.is_over and call.state != "refused":
            by_day[datetime.fromtimestamp(call.received_at, UTC).date()].append(call)
    days = [query.first + timedelta(days=n) for n in range((query.end - query.first).days)]
    shown, rest = days[: query.limit], days[query.limit :]
    data = [
        {"starting_at": _start(day), "ending_at": _start(day + timedelta(days=1)), "results": results(by_day[day])}
        for day in shown
    ]
    return {"data": data, "has_more": bool(rest), "next_page": f"page_{_start(rest[0])}" if rest else None}


def _start(day: date) -> str:
    return datetime.combine(day, time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _usage(calls: list[Call], by_model: bool) -> list[dict[str, Any]]:
    sums: dict[str | None, list[Usage]] = {}
    for call in calls:
        sums.setdefault(call.model if by_model else None, []).append(call.bill.usage)
    return [_usage_result(model, used) for model, used in sums.items()]


def _usage_result(model: str | None, used: list[Usage]) -> dict[str, Any]:
    def total(count: Callable[[Usage], int]) -> int:
        return sum(map(count, used))

    return {
        "uncached_input_tokens": total(lambda u: u.prompt_tokens - u.cached_tokens - u.cache_write_tokens),
        "cache_creation": {
            "ephemeral_1h_input_tokens": total(lambda u: u.cache_write_1h_tokens),
            "ephemeral_5m_input_tokens": total(lambda u: u.cache_write_5m_tokens),
        },
        "cache_read_input_tokens": total(lambda u: u.cached_tokens),
        "output_tokens": total(lambda u: u.completion_tokens),
        "server_tool_use": {"web_search_requests": total(lambda u: u.web_searches)},
        "api_key_id": None,
        "workspace_id": None,
        "model": model,
        "service_tier": None,
        "context_window": None,
    }


def _costs(calls: list[Call], card_of: CardOf, described: bool) -> list[dict[str, Any]]:
    costs: Costs = defaultdict(Decimal)
    for call in calls:
        _add_costs(costs, call, card_of(call.model))
    if not described:
        return [_cost_result(None, None, sum(costs.values()))] if costs else []
    return [_cost_result(model, kind, cost_usd) for (model, kind), cost_usd in costs.items()]


def _add_costs(costs: Costs, call: Call, card: Card) -> None:
    if call.bill.cost_usd:
        for line in lines(call.bill.usage, card.price):
            kind = TOKEN_TYPES.get(line.name, SEARCH)
            costs["" if kind == SEARCH else call.model, kind] += usd(line.cost_pico)
    if call.billed_usd is not None:
        costs[call.model, "output_tokens"] += call.billed_usd - call.bill.cost_usd


def _cost_result(model: str | None, kind: str | None, cost_usd: Decimal | int) -> dict[str, Any]:
    is_search = kind == SEARCH
    description = "Web Search Usage" if is_search else f"{model} Usage - {kind}"
    return {
        "currency": "USD",
        "amount": f"{Decimal(cost_usd) * 100:f}",  # cents
        "workspace_id": None,
        "description": None if kind is None else description,
        "cost_type": None if kind is None else SEARCH if is_search else "tokens",
        "context_window": None,
        "model": None if is_search else model,
        "service_tier": None,
        "token_type": None if is_search else kind,
    }
