"""OpenRouter's activity: what an account spent on each model on one UTC day that is over, for a management key. Pure.

https://openrouter.ai/docs/api/api-reference/analytics/get-user-activity. One item per model and endpoint; `usage` is
USD of OpenRouter's credits, web searches included.
"""

from collections.abc import Sequence
from datetime import date

from completions.providers.record import Day, Dialogue, Inquiry, Report, Unreadable, usd


def read(days: Sequence[date]) -> Dialogue:
    report: Report = {}
    for day in days:
        answer = yield Inquiry("/activity", (("date", str(day)),))
        for item in answer["data"]:
            if item["date"][:10] != str(day):
                raise Unreadable(f"{item['date'][:10]} was told for {day}")
            told = report.setdefault((day, item["model"]), Day())
            told.cost_usd += usd(item["usage"])
            told.prompt_tokens += item["prompt_tokens"]
            told.completion_tokens += item["completion_tokens"]
    return report
