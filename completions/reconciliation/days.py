"""Whole days at the providers: their own reports, or OpenRouter's bills call by call, against our books.

The last days that are over are compared again at every pass: bills come late, and corrections later. What was
compared stands in billing/reconciliation/drift.py's rows; running it again, or twice at once, writes the same rows.
"""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.conf import settings

from billing.reconciliation import drift
from billing.reconciliation.drift import Bill
from completions.catalog import models
from completions.reconciliation import anthropic_reports, openrouter_activity
from completions.reconciliation.reports import Day, Report, ReportFailed

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
    found = {provider.name: _compare(provider, days) for provider in models.Provider.objects.order_by("name")}
    return {name: why for name, why in found.items() if why}


def _compare(provider: models.Provider, days: Sequence[date]) -> str:
    """ "" when it was compared, or has no bills that we could ask for."""
    try:
        match provider.kind:
            case models.Provider.Kind.ANTHROPIC:
                return _compare_anthropic(provider, days)
            case models.Provider.Kind.OPENROUTER:
                return _compare_openrouter(provider, days)
    except ReportFailed as failure:
        logger.warning("%s could not be compared: %s", provider.name, failure)
        return str(failure)
    return ""


def _compare_anthropic(provider: models.Provider, days: Sequence[date]) -> str:
    if provider.base_url:
        return ""  # another account, whose Admin key we do not have
    if not settings.ANTHROPIC_ADMIN_KEY:
        return NO_KEY
    if not _has_the_account(provider):
        return SHARED
    report = anthropic_reports.read(settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_ADMIN_KEY, min(days), max(days))
    _compare_report(provider, days, report, searches_apart=True)
    return ""


def _compare_openrouter(provider: models.Provider, days: Sequence[date]) -> str:
    """By the account's own activity, where we may read it; else by the bills that were looked up."""
    if provider.base_url or not settings.OPENROUTER_MANAGEMENT_KEY or not _has_the_account(provider):
        for day in days:
            drift.compare_looked_up(day, provider.name)
        return ""
    report = openrouter_activity.read(settings.OPENROUTER_BASE_URL, settings.OPENROUTER_MANAGEMENT_KEY, days)
    _compare_report(provider, days, report, searches_apart=False)
    return ""


def _has_the_account(provider: models.Provider) -> bool:
    """The settings' keys are of one account, and its reports tell an account's calls, not a provider's."""
    return not models.Provider.objects.filter(kind=provider.kind, base_url="").exclude(pk=provider.pk).exists()


def _compare_report(provider: models.Provider, days: Sequence[date], report: Report, *, searches_apart: bool) -> None:
    names = _our_names(provider)
    for day in days:
        drift.compare_reported(day, provider.name, bills(report, day, names), searches_apart=searches_apart)


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


def _our_names(provider: models.Provider) -> dict[str, str]:
    """By the upstream's name. Routes that are switched off count: they were on when their calls were made."""
    rows = models.Route.objects.filter(provider=provider).order_by("-pk")
    return dict(rows.values_list("upstream_model", "model_id"))
