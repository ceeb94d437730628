"""Anthropic's daily usage and cost reports (Admin API). Pure.

Both are pages of daily buckets: https://docs.claude.com/en/api/admin-api/usage-cost/get-messages-usage-report and
https://docs.claude.com/en/api/admin-api/usage-cost/get-cost-report. Costs are decimal strings of cents.
"""

from collections.abc import Generator, Sequence
from datetime import date, timedelta
from typing import Any

from completions.providers.record import Day, Dialogue, Inquiry, Report, Unreadable, usd

PAGES_MAX = 50
DAYS_PER_PAGE = 31
USAGE, COST = "/v1/organizations/usage_report/messages", "/v1/organizations/cost_report"

Item = tuple[date, dict[str, Any]]


def read(days: Sequence[date]) -> Dialogue:
    """Both reports of all days from the first to the last, put together."""
    report: Report = {}
    for day, item in (yield from _items(USAGE, min(days), max(days), "model")):
        _count(_day(report, day, item), item)
    for day, item in (yield from _items(COST, min(days), max(days), "description")):
        _price(_day(report, day, item), item)
    return report


def _items(path: str, first: date, last: date, group_by: str) -> Generator[Inquiry, Any, list[Item]]:
    """Every result of every bucket, over all pages."""
    asked = (
        ("starting_at", f"{first}T00:00:00Z"),
        ("ending_at", f"{last + timedelta(days=1)}T00:00:00Z"),
        ("bucket_width", "1d"),
        ("group_by[]", group_by),
        ("limit", str(DAYS_PER_PAGE)),
    )
    items: list[Item] = []
    page: tuple[tuple[str, str], ...] = ()
    for _ in range(PAGES_MAX):
        answer = yield Inquiry(path, asked + page)
        for bucket in answer["data"]:
            day = date.fromisoformat(bucket["starting_at"][:10])
            items += [(day, item) for item in bucket["results"]]
        if not answer["has_more"]:
            return items
        page = (("page", answer["next_page"]),)
    raise Unreadable(f"more than {PAGES_MAX} pages")


def _day(report: Report, day: date, item: dict[str, Any]) -> Day:
    return report.setdefault((day, item["model"] or ""), Day())


def _count(day: Day, item: dict[str, Any]) -> None:
    written = item["cache_creation"]
    day.prompt_tokens += (
        item["uncached_input_tokens"]
        + item["cache_read_input_tokens"]
        + written["ephemeral_5m_input_tokens"]
        + written["ephemeral_1h_input_tokens"]
    )
    day.completion_tokens += item["output_tokens"]


def _price(day: Day, item: dict[str, Any]) -> None:
    if item["currency"] != "USD":
        raise Unreadable(f"a cost in {item['currency']}")
    amount_usd = usd(item["amount"]) / 100
    if item["cost_type"] == "web_search":
        day.search_usd += amount_usd
    else:
        day.cost_usd += amount_usd
