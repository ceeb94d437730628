"""Anthropic's daily usage and cost reports (Admin API), read with `requests`.

Both are pages of daily buckets: https://docs.claude.com/en/api/admin-api/usage-cost/get-messages-usage-report and
https://docs.claude.com/en/api/admin-api/usage-cost/get-cost-report. Costs are decimal strings of cents.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from completions.reconciliation.reports import Day, Report, ReportFailed, Session, get_page, reading, usd

PAGES_MAX = 50
DAYS_PER_PAGE = 31
VERSION = "2023-06-01"
USAGE, COST = "/v1/organizations/usage_report/messages", "/v1/organizations/cost_report"


def read(base_url: str, admin_key: str, first: date, last: date) -> Report:
    """Both reports of these days, put together. Raises ReportFailed."""
    report: Report = {}
    with reading({"x-api-key": admin_key, "anthropic-version": VERSION}) as session:
        for day, item in _items(session, base_url + USAGE, first, last, "model"):
            _count(_day(report, day, item), item)
        for day, item in _items(session, base_url + COST, first, last, "description"):
            _price(_day(report, day, item), item)
    return report


def _items(session: Session, url: str, first: date, last: date, group_by: str) -> Iterator[tuple[date, dict[str, Any]]]:
    """Every result of every bucket, over all pages."""
    asked = [
        ("starting_at", f"{first}T00:00:00Z"),
        ("ending_at", f"{last + timedelta(days=1)}T00:00:00Z"),
        ("bucket_width", "1d"),
        ("group_by[]", group_by),
        ("limit", str(DAYS_PER_PAGE)),
    ]
    page: Sequence[tuple[str, str]] = ()
    for _ in range(PAGES_MAX):
        answer = get_page(session, url, [*asked, *page])
        for bucket in answer["data"]:
            day = date.fromisoformat(bucket["starting_at"][:10])
            yield from ((day, item) for item in bucket["results"])
        if not answer["has_more"]:
            return
        page = [("page", answer["next_page"])]
    raise ReportFailed(f"more than {PAGES_MAX} pages")


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
        raise ReportFailed(f"a cost in {item['currency']}")
    amount_usd = usd(item["amount"]) / 100
    if item["cost_type"] == "web_search":
        day.search_usd += amount_usd
    else:
        day.cost_usd += amount_usd
