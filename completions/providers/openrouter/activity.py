"""OpenRouter's activity: what an account spent on each model on one UTC day that is over, for a management key.

https://openrouter.ai/docs/api/api-reference/analytics/get-user-activity. One item per model and endpoint; `usage` is
USD of OpenRouter's credits, web searches included.
"""

from collections.abc import Sequence
from datetime import date

from completions.reconciliation.reports import Day, Report, ReportFailed, get_page, reading, usd


def read(base_url: str, management_key: str, days: Sequence[date]) -> Report:
    """The activity of these days. Raises ReportFailed."""
    report: Report = {}
    with reading({"authorization": f"Bearer {management_key}"}) as session:
        for day in days:
            for item in get_page(session, f"{base_url}/activity", [("date", str(day))])["data"]:
                if item["date"][:10] != str(day):
                    raise ReportFailed(f"{item['date'][:10]} was told for {day}")
                told = report.setdefault((day, item["model"]), Day())
                told.cost_usd += usd(item["usage"])
                told.prompt_tokens += item["prompt_tokens"]
                told.completion_tokens += item["completion_tokens"]
    return report
