"""Whole days at the providers: Anthropic's own reports, OpenRouter's bills call by call, against our books.

The last days that are over are compared again at every pass: bills come late, and corrections later. What was
compared stands in billing/drift.py's rows; running it again, or twice at once, writes the same rows.
"""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.conf import settings

from billing import drift
from billing.drift import Bill
from completions import models
from completions.anthropic_reports import Day, Report, ReportFailed, read
from completions.generations import askable

logger = logging.getLogger(__name__)

DAYS_COMPARED = 3
DATED = re.compile(r"-\d{8}$")  # a dated name of a model, which an alias without the date leads to
SHARED = "more than one provider calls with ANTHROPIC_API_KEY"
NO_KEY = "ANTHROPIC_ADMIN_KEY is not set"


def days_over(today: date | None = None) -> list[date]:
    """The newest days that are over everywhere in UTC, oldest first."""
    today = today or datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in range(DAYS_COMPARED, 0, -1)]


def compare(days: Sequence[date]) -> dict[str, str]:
    """Compare these days; by provider, why one was not compared."""
    for provider in askable():
        for day in days:
            drift.compare_looked_up(day, provider)
    names = _anthropics()
    return {name: why for name in names if (why := _compare_anthropic(name, days, is_alone=len(names) == 1))}


def _anthropics() -> list[str]:
    """The admin key is that of ANTHROPIC_BASE_URL's organization: it is sent nowhere else."""
    rows = models.Provider.objects.filter(kind=models.Provider.Kind.ANTHROPIC, base_url="")
    return list(rows.order_by("name").values_list("name", flat=True))


def _compare_anthropic(provider: str, days: Sequence[date], *, is_alone: bool) -> str:
    if not settings.ANTHROPIC_ADMIN_KEY:
        return NO_KEY
    if not is_alone:
        return SHARED  # the reports tell an organization's calls, not a provider's
    try:
        report = read(settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_ADMIN_KEY, min(days), max(days))
    except ReportFailed as failure:
        logger.warning("%s could not be compared: %s", provider, failure)
        return str(failure)
    names = _our_names(provider)
    for day in days:
        drift.compare_reported(day, provider, bills(report, day, names))
    return ""


def bills(report: Report, day: date, names: dict[str, str]) -> dict[str, Bill]:
    """One day of a report by our names of the models; one that we do not know keeps theirs."""
    sums: dict[str, Day] = {}
    searches = Decimal(0)
    for (of, theirs), told in report.items():
        if of == day:
            summed = sums.setdefault(our_name(theirs, names), Day())
            summed.cost_usd += told.cost_usd
            summed.prompt_tokens += told.prompt_tokens
            summed.completion_tokens += told.completion_tokens
            searches += told.search_usd
    found = {
        model: Bill(told.cost_usd, told.prompt_tokens, told.completion_tokens)
        for model, told in sums.items()
        if model or told.cost_usd
    }
    return found | ({drift.WEB_SEARCH: Bill(searches, 0, 0)} if searches else {})


def our_name(theirs: str, names: dict[str, str]) -> str:
    return names.get(theirs) or names.get(DATED.sub("", theirs)) or theirs


def _our_names(provider: str) -> dict[str, str]:
    """By the upstream's name. Routes that are switched off count: they were on when their calls were made."""
    rows = models.Route.objects.filter(provider__name=provider).order_by("-pk")
    return dict(rows.values_list("upstream_model", "model_id"))
