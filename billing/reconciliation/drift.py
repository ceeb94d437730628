"""Drift: what providers say a model cost on a UTC day, against what our usage rows say.

`compare` stores the difference per provider, model and day, and raises an alert, once, for one above both thresholds
(DRIFT_ALERT_PERCENT of what we expect, and DRIFT_ALERT_USD). A day that is compared again and agrees ends its alert.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import msgspec
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from billing.notices import outbox
from billing.pricing.classes import BY_NAME
from billing.reconciliation.models import ProviderDay

logger = logging.getLogger(__name__)

WEB_SEARCH = "web_search"  # what providers bill apart from any model

# Web searches are billed beside the model that made them. Bills known for single calls are summed as well.
OURS = """
SELECT u.model, sum(u.cost_pico - s.pico) * 1e-12, sum(s.pico) * 1e-12,
       sum(u.charged), sum(u.prompt_tokens), sum(u.completion_tokens), sum(u.billed_cost_usd)
FROM billing_usage u JOIN billing_price p ON p.id = u.price_id, LATERAL (
     SELECT coalesce((u.units ->> %s)::bigint, 0) * coalesce((p.rates ->> %s)::numeric, 0) * 1e12 AS pico) s
WHERE u.provider = %s AND u.recorded_at >= %s AND u.recorded_at < %s AND (u.billed_cost_usd IS NOT NULL OR NOT %s)
GROUP BY 1
"""


class Bill(msgspec.Struct, frozen=True):
    """What a provider says of one model and day; without counts where it has none."""

    cost_usd: Decimal
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Ours(msgspec.Struct, frozen=True):
    expected_usd: Decimal = Decimal(0)
    charged_micro: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def compare_reported(day: date, provider: str, bills: Mapping[str, Bill], *, searches_apart: bool = False) -> None:
    """A provider's own report of a day, by our name of the model, against all of our calls there. Web searches are
    part of their model, or with `searches_apart` a line of their own."""
    ours = _ours(day, provider, searches_apart)
    for model in sorted(bills.keys() | ours.keys()):
        _store(day, provider, model, ours.get(model, Ours()), bills.get(model, Bill(Decimal(0), 0, 0)))


def compare_looked_up(day: date, provider: str) -> None:
    """The sum of the bills that were looked up call by call, against what we expected of the same calls."""
    for model, expected, searched, charged, prompt, completion, billed in _rows(day, provider, only_billed=True):
        ours = Ours(expected + searched, int(charged), int(prompt), int(completion))
        _store(day, provider, model, ours, Bill(billed))


def open_alerts() -> list[ProviderDay]:
    """Days on which a provider and we disagree by more than the thresholds, newest first."""
    return list(ProviderDay.objects.filter(alerted_at__isnull=False).order_by("-day", "provider", "model"))


def is_above_threshold(expected_usd: Decimal, reported_usd: Decimal) -> bool:
    difference = abs(reported_usd - expected_usd)
    return difference > settings.DRIFT_ALERT_USD and difference * 100 > settings.DRIFT_ALERT_PERCENT * expected_usd


def _ours(day: date, provider: str, searches_apart: bool) -> dict[str, Ours]:
    found, searches = {}, Decimal(0)
    for model, expected, searched, charged, prompt, completion, _ in _rows(day, provider, only_billed=False):
        with_model, apart = (Decimal(0), searched) if searches_apart else (searched, Decimal(0))
        found[model] = Ours(expected + with_model, int(charged), int(prompt), int(completion))
        searches += apart
    return found | ({WEB_SEARCH: Ours(searches)} if searches else {})


def _rows(day: date, provider: str, *, only_billed: bool) -> list[tuple[str, Decimal, Decimal, int, int, int, Decimal]]:
    start = datetime.combine(day, time(), UTC)
    with connection.cursor() as cursor:
        cursor.execute(
            OURS, [BY_NAME[WEB_SEARCH].counted_as, WEB_SEARCH, provider, start, start + timedelta(days=1), only_billed]
        )
        return cursor.fetchall()


@transaction.atomic
def _store(day: date, provider: str, model: str, ours: Ours, bill: Bill) -> None:
    """The row of this day as it is known now. Its alert is set once, by whoever finds it first."""
    now = timezone.now()
    figures = {
        "expected_usd": ours.expected_usd,
        "charged_micro": ours.charged_micro,
        "prompt_tokens": ours.prompt_tokens,
        "completion_tokens": ours.completion_tokens,
        "reported_usd": bill.cost_usd,
        "reported_prompt_tokens": bill.prompt_tokens,
        "reported_completion_tokens": bill.completion_tokens,
        "checked_at": now,
    }
    row, _ = ProviderDay.objects.update_or_create(day=day, provider=provider, model=model, defaults=figures)
    _alert(row, now)


def _alert(row: ProviderDay, now: datetime) -> None:
    """The first to find the difference tells of it; who finds none ends the alert."""
    mine = ProviderDay.objects.filter(pk=row.pk)
    if not is_above_threshold(row.expected_usd, row.reported_usd):
        mine.update(alerted_at=None)
    elif mine.filter(alerted_at=None).update(alerted_at=now):
        billed, expected = (f"{usd.normalize():f}" for usd in (row.reported_usd, row.expected_usd))
        logger.error(
            "%s billed %s USD for %s on %s, we expected %s", row.provider, billed, row.model, row.day, expected
        )
        figures = {"provider": row.provider, "model": row.model, "day": str(row.day)}
        figures |= {"billed_usd": billed, "expected_usd": expected}
        outbox.notify_operator("provider.drift", f"drift:{row.pk}:{now.isoformat()}", figures)
