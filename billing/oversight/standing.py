"""How the books stand now, over all tenants: what the operator's first page says beside the reports. A query each."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection

from billing.oversight.models import Heartbeat, VerifierRun

LOW_DAYS = 3
LOW_SHOWN = 8

# Each line has an index of its own for what is open; wallets are as many as there are tenants, and together may hold
# more than a bigint.
STANDING = """
SELECT (SELECT coalesce(sum(posted) FILTER (WHERE posted > 0), 0) FROM billing_wallet),
       (SELECT coalesce(-sum(posted) FILTER (WHERE posted < 0), 0) FROM billing_wallet),
       (SELECT count(*) FROM billing_hold WHERE state = 'open'),
       (SELECT coalesce(sum(amount), 0)::bigint FROM billing_hold WHERE state = 'open'),
       (SELECT min(created_at) FROM billing_hold WHERE state = 'open'),
       (SELECT count(*) FROM billing_operation WHERE state = 'waiting'),
       (SELECT count(*) FROM billing_extracharge WHERE state = 'waiting'),
       (SELECT coalesce(sum(amount_micro), 0)::bigint FROM billing_extracharge WHERE state = 'waiting'),
       (SELECT count(*) FROM billing_providerday WHERE alerted_at IS NOT NULL),
       (SELECT count(*) FROM billing_loss WHERE noted_at >= %(since)s),
       (SELECT coalesce(sum(cost_usd), 0) FROM billing_loss WHERE noted_at >= %(since)s)
"""

# What is left for new calls does not last so many days at the rate of the week before.
LOW = """
WITH spent AS (
    SELECT wallet_id, sum(charged) AS week FROM billing_usagehour WHERE hour >= %(week)s GROUP BY 1
)
SELECT w.organization_id, o.name, w.posted - w.held + w.overdraft AS available, s.week / 7
FROM billing_wallet w JOIN spent s ON s.wallet_id = w.organization_id
     JOIN accounts_organization o ON o.id = w.organization_id
WHERE NOT w.unlimited AND o.status = 'active' AND s.week > 0
  AND (w.posted - w.held + w.overdraft) * 7 < s.week * %(days)s
ORDER BY (w.posted - w.held + w.overdraft) / s.week, o.name LIMIT %(limit)s
"""


class Standing(msgspec.Struct, frozen=True):
    """`outstanding_micro` is what tenants may still use, `overdrawn_micro` what they owe. Losses are of the span."""

    outstanding_micro: int
    overdrawn_micro: int
    open_holds: int
    held_micro: int
    oldest_hold_at: datetime | None
    waiting_requests: int
    extra_charges: int
    extra_charges_micro: int
    drift_alerts: int
    losses: int
    losses_usd: Decimal


class Low(msgspec.Struct, frozen=True):
    organization_id: UUID
    name: str
    available_micro: int
    per_day_micro: int

    @property
    def days(self) -> float:
        return max(0.0, self.available_micro / self.per_day_micro) if self.per_day_micro else 0.0


def standing(losses_since: datetime) -> Standing:
    [(outstanding, overdrawn, *rest)] = _rows(STANDING, {"since": losses_since})
    return Standing(int(outstanding), int(overdrawn), *rest)


def running_low(now: datetime) -> list[Low]:
    """Those that run out soonest first."""
    week = now - timedelta(days=7)
    return [
        Low(id, name, int(available), int(per_day))
        for id, name, available, per_day in _rows(LOW, {"week": week, "days": LOW_DAYS, "limit": LOW_SHOWN})
    ]


def last_runs() -> Sequence[VerifierRun]:
    """The last one of each kind."""
    return list(VerifierRun.objects.order_by("kind", "-started_at").distinct("kind"))


def heartbeats() -> Sequence[Heartbeat]:
    return list(Heartbeat.objects.order_by("task"))


def _rows(sql: str, params: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()
