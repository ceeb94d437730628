"""The figures of pages, from roll-ups alone: no function here reads a usage row, and each is one or two queries.

Figures are as old as the last roll-up (a minute while the worker runs), a span is widened to whole hours of UTC, and
an hour belongs to the day in which it begins. `/v1/usage` (billing/usage/report.py) is exact to the moment instead.
Corrections count when they were made. Amounts are micro-credits, costs picodollars, averages whole milliseconds.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection

from billing.pricing import money
from billing.usage.report import DAY, Bucket, Span, buckets_of, names_of
from billing.usage.rollups import ceiling, floor

By = Literal["model", "key", "member"]
# Outcomes of an attempt that are the provider's failure: not a refusal of the request, nor a client who disconnected.
FAILURES = ["provider_auth", "unavailable", "malformed_response"]

SUMS = """sum(requests)::bigint, sum(errors)::bigint, sum(cancelled)::bigint, sum(estimated)::bigint,
       sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(cached_tokens)::bigint,
       sum(cache_write_tokens)::bigint, sum(reasoning_tokens)::bigint, sum(charged)::bigint, sum(corrected)::bigint"""

TENANT = f"""
WITH used AS (
    SELECT key_id, user_id, model, requests, errors, cancelled, estimated, prompt_tokens,
           completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, charged, 0 AS corrected
    FROM billing_usagehour WHERE wallet_id = %(organization)s AND hour >= %(start)s AND hour < %(end)s
    UNION ALL
    SELECT h.key_id, h.user_id, h.model, 0, 0, 0, 0, 0, 0, 0, 0, 0, -e.amount, -e.amount
    FROM billing_entry e LEFT JOIN billing_hold h ON h.id = e.hold_id
    WHERE e.wallet_id = %(organization)s AND e.kind = 'correction' AND e.created_at >= %(start)s
      AND e.created_at < %(end)s
)
SELECT CASE %(by)s WHEN 'model' THEN model WHEN 'key' THEN key_id::text WHEN 'member' THEN user_id::text END, {SUMS}
FROM used GROUP BY 1 ORDER BY sum(charged) DESC, 1 LIMIT %(limit)s
"""  # noqa: S608 - of constants

# Picodollars of all tenants are not cut to a bigint, which would hold nine million dollars.
OPERATOR = """
WITH used AS (
    SELECT hour AS at, requests, errors, cancelled, estimated, charged, 0::bigint AS corrected, cost_pico,
           reported, reported_cost_usd, reported_expected_pico, 0::bigint AS loss
    FROM billing_providerhour WHERE hour >= %(start)s AND hour < %(end)s
    UNION ALL
    SELECT created_at, 0, 0, 0, 0, -amount, -amount, 0, 0, 0, 0, 0 FROM billing_entry
    WHERE kind = 'correction' AND created_at >= %(start)s AND created_at < %(end)s
    UNION ALL
    SELECT resolved_at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, actual - charged FROM billing_hold
    WHERE actual > charged AND resolved_at >= %(start)s AND resolved_at < %(end)s
)
SELECT width_bucket(at, %(starts)s::timestamptz[]), sum(requests)::bigint, sum(errors)::bigint, sum(cancelled)::bigint,
       sum(estimated)::bigint, sum(charged)::bigint, sum(corrected)::bigint, sum(loss)::bigint, sum(reported)::bigint,
       sum(cost_pico), sum(reported_expected_pico), sum(reported_cost_usd)
FROM used GROUP BY 1
"""

HEALTH = """
WITH asked AS (
    SELECT model, provider, sum(attempts)::bigint AS attempts,
           coalesce(sum(attempts) FILTER (WHERE outcome = ANY(%(failures)s)), 0)::bigint AS failed,
           coalesce(sum(attempts) FILTER (WHERE outcome = 'circuit_open'), 0)::bigint AS skipped
    FROM billing_attempthour
    WHERE hour >= %(start)s AND hour < %(end)s AND (%(model)s::text IS NULL OR model = %(model)s) GROUP BY 1, 2
), answered AS (
    SELECT model, provider, sum(requests)::bigint AS requests, sum(errors)::bigint AS errors,
           sum(completion_tokens)::bigint AS completion_tokens,
           (sum(first_token_ms) / nullif(sum(first_tokens), 0))::bigint AS first_token_ms,
           (sum(latency_ms) / nullif(sum(timed), 0))::bigint AS latency_ms
    FROM billing_providerhour
    WHERE hour >= %(start)s AND hour < %(end)s AND (%(model)s::text IS NULL OR model = %(model)s) GROUP BY 1, 2
)
SELECT model, provider, coalesce(requests, 0), coalesce(errors, 0), coalesce(completion_tokens, 0),
       coalesce(attempts, 0), coalesce(failed, 0), coalesce(skipped, 0), first_token_ms, latency_ms
FROM answered FULL JOIN asked USING (model, provider) ORDER BY 3 DESC, 1, 2
"""

COSTS = """
SELECT model, provider, sum(requests)::bigint, sum(charged)::bigint, sum(reported)::bigint,
       sum(cost_pico), sum(reported_expected_pico), sum(reported_cost_usd)
FROM billing_providerhour WHERE hour >= %(start)s AND hour < %(end)s GROUP BY 1, 2 ORDER BY 6 DESC, 1, 2
"""

AS_OF = "SELECT through FROM billing_rollupstate WHERE id = 1"


class Spend(msgspec.Struct, frozen=True):
    """What a tenant's calls used. `corrections` is within `credits_used`: negative was given back."""

    requests: int
    errors: int
    cancelled: int
    estimated: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    credits_used: int
    corrections: int


class Ranked(msgspec.Struct, frozen=True):
    """A model, key or member: `id` is None for calls without one, `name` what people call it."""

    id: str | None
    name: str | None
    spend: Spend


class Totals(msgspec.Struct, frozen=True):
    """All tenants together. `credits_used` includes corrections; `loss_micro` is what wallets could not pay."""

    requests: int
    errors: int
    cancelled: int
    estimated: int
    credits_used: int
    corrections: int
    loss_micro: int
    reported: int  # calls whose provider told a cost; the last two are theirs
    cost_pico: int  # expected, by our price versions
    reported_expected_pico: int
    reported_cost_pico: int

    @property
    def cost_micro(self) -> int:
        """The expected cost in micro-credits at par, rounded up: what the calls would bring without a margin."""
        return cost_micro(self.cost_pico)

    @property
    def margin_micro(self) -> int:
        return self.credits_used - self.cost_micro


class OperatorDay(msgspec.Struct, frozen=True):
    day: str
    totals: Totals


class Health(msgspec.Struct, frozen=True):
    """A model at a provider: calls it ended, and every attempt, also those after which another provider answered.
    `failed` are its own failures; `skipped` were not made because its circuit was open."""

    model: str
    provider: str
    requests: int
    errors: int
    completion_tokens: int
    attempts: int
    failed: int
    skipped: int
    first_token_ms: int | None
    latency_ms: int | None

    @property
    def uptime(self) -> float | None:
        return uptime(self.attempts, self.failed, self.skipped)


class Cost(msgspec.Struct, frozen=True):
    """Expected against provider-reported cost of a model at a provider."""

    model: str
    provider: str
    requests: int
    charged: int
    reported: int
    cost_pico: int
    reported_expected_pico: int
    reported_cost_pico: int


NO_SPEND = Spend(*(0 for _ in Spend.__struct_fields__))
NO_TOTALS = Totals(*(0 for _ in Totals.__struct_fields__))


def uptime(attempts: int, failed: int, skipped: int) -> float | None:
    """Of the attempts that reached a provider, the part from 0 to 1 that did not fail; None without any."""
    made = attempts - skipped
    return (made - failed) / made if made else None


def as_of() -> datetime | None:
    """Every call until then is in the figures; None before the first roll-up."""
    found = _rows(AS_OF, {})
    return found[0][0] if found else None


# --- A tenant's -------------------------------------------------------------------------------------


def spend(organization_id: UUID, span: Span) -> Spend:
    """What the organization's calls used in the span, tokens and micro-credits."""
    return next((figures for _, figures in _tenant(organization_id, span, None, None)), NO_SPEND)


def top(organization_id: UUID, span: Span, by: By, limit: int = 5) -> list[Ranked]:
    """The dearest first, at most `limit`."""
    found = _tenant(organization_id, span, by, limit)
    names = names_of(by, [id for id, _ in found])
    return [Ranked(id, id if names is None else names.get(id or ""), figures) for id, figures in found]


def _tenant(organization_id: UUID, span: Span, by: By | None, limit: int | None) -> list[tuple[str | None, Spend]]:
    """By the id of the group; all in one without `by`."""
    params = _hours(span, []) | {"organization": organization_id, "by": by, "limit": limit}
    return [(group, Spend(*figures)) for group, *figures in _rows(TENANT, params)]


# --- The operator's ---------------------------------------------------------------------------------


def operator_by_day(span: Span) -> list[OperatorDay]:
    """Of all tenants together, every day of the span's zone that the span touches, also those without a call."""
    days = list(buckets_of(span, "day"))
    found = _operator(span, days)
    return [OperatorDay(day.group, found.get(number, NO_TOTALS)) for number, day in enumerate(days, start=1)]


def provider_health(span: Span, model: str | None = None) -> list[Health]:
    """By model and provider, the busiest first; of one model alone if it is given. Averages are milliseconds."""
    params = _hours(span, []) | {"model": model, "failures": FAILURES}
    return [Health(*row) for row in _rows(HEALTH, params)]


def costs(span: Span) -> list[Cost]:
    """By model and provider, the dearest first: charged micro-credits beside picodollars of cost."""
    return [Cost(*_in_pico(row)) for row in _rows(COSTS, _hours(span, []))]


def cost_micro(cost_pico: int) -> int:
    """Picodollars as micro-credits at par, rounded up."""
    return money.CreditRate.of(settings.CREDITS_PER_USD, Decimal(0)).micro(cost_pico)


def _operator(span: Span, days: Sequence[Bucket]) -> dict[int, Totals]:
    return {number: Totals(*_in_pico(row)) for number, *row in _rows(OPERATOR, _hours(span, days))}


def _in_pico(row: Sequence[Any]) -> list[Any]:
    """A row's last three are costs of all tenants, numeric in PostgreSQL: beyond a bigint, the last one in dollars."""
    *figures, expected, expected_of_reported, reported_usd = row
    return [*figures, int(expected), int(expected_of_reported), money.pico(reported_usd)]


def _hours(span: Span, days: Sequence[Bucket]) -> dict[str, Any]:
    """A day begins with the first full hour in it; the first one has the whole hour in which the span begins."""
    starts = [floor(span.start) if number == 0 else ceiling(day.start) for number, day in enumerate(days)]
    return {"start": floor(span.start), "end": ceiling(span.end), "starts": starts}


def last_days(now: datetime, span_days: int, zone: Any) -> Span:
    """Today and the days before it, on the clocks of a zone: as many as `span_days` in all."""
    first = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0) - (span_days - 1) * DAY
    return Span(first, now, zone)


def _rows(sql: str, params: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()
