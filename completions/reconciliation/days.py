"""Whole days at the providers: their own reports, or their bills call by call, against our books.

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
from completions.catalog.loader import endpoint
from completions.providers import kinds
from completions.providers.record import Day, DayReports, ProviderKind, Report
from completions.reconciliation.reports import ReportFailed, fetch

logger = logging.getLogger(__name__)

DAYS_COMPARED = 3
DATED = re.compile(r"-\d{8}$")  # a dated name of a model, which an alias without the date leads to


def days_over(today: date | None = None) -> list[date]:
    """The newest days that are over everywhere in UTC, oldest first."""
    today = today or datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in range(DAYS_COMPARED, 0, -1)]


def compare(days: Sequence[date]) -> dict[str, str]:
    """Compare these days; by provider, why one was not compared."""
    found = {provider.name: _compare(provider, days) for provider in models.Provider.objects.order_by("name")}
    return {name: why for name, why in found.items() if why}


def _compare(provider: models.Provider, days: Sequence[date]) -> str:
    """ "" when it was compared, or has no bills that we could ask for. By the account's own reports, where we may read
    them; else by the bills that were looked up, where the kind has look-ups."""
    kind = kinds.KINDS.get(provider.kind)
    if kind is None:
        return ""
    reports, unread = kind.day_reports, ""
    if provider.base_url:
        reports = None  # another account, whose reports we have no key for
    elif reports is not None:
        unread = _why_unread(provider, kind, reports)
    if reports is None or unread:
        if kind.lookup is None:
            return unread
        for day in days:
            drift.compare_looked_up(day, provider.name)
        return ""
    base_url, _ = endpoint(provider)
    try:
        report = fetch(reports, base_url, kind.credentials(getattr(settings, reports.key_setting)), days)
    except ReportFailed as failure:
        logger.warning("%s could not be compared: %s", provider.name, failure)
        return str(failure)
    names = _our_names(provider)
    for day in days:
        found = bills(report, day, names)
        drift.compare_reported(day, provider.name, found, searches_apart=reports.searches_apart)
    return ""


def _why_unread(provider: models.Provider, kind: ProviderKind, reports: DayReports) -> str:
    """Why the reports say nothing of this provider; "" if they do. They are those of the settings' key: an account's
    calls, not a provider's."""
    if not getattr(settings, reports.key_setting):
        return f"{reports.key_setting} is not set"
    if models.Provider.objects.filter(kind=provider.kind, base_url="").exclude(pk=provider.pk).exists():
        return f"more than one provider calls with {kind.key_setting}"
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


def _our_names(provider: models.Provider) -> dict[str, str]:
    """By the upstream's name. Routes that are switched off count: they were on when their calls were made."""
    rows = models.Route.objects.filter(provider=provider).order_by("-pk")
    return dict(rows.values_list("upstream_model", "model_id"))
