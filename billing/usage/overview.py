"""The last days of an organization at a glance: every day by model, and every key, in one statement.

Stands on the rows that billing/usage/report.py adds up, so its figures are those of `GET /v1/usage` to the
micro-credit.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection

from billing.usage.report import USED, Bucket, Span, buckets_of
from billing.usage.rollups import floor

OVERVIEW = f"""{USED}
SELECT day, model, key_id, grouping(key_id) = 1, sum(requests)::bigint, sum(errors)::bigint,
       sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint, sum(charged)::bigint
FROM (SELECT *, width_bucket(at, %(starts)s::timestamptz[]) - 1 AS day FROM used) AS dated
GROUP BY GROUPING SETS ((day, model), (key_id))
"""  # noqa: S608 - a constant of ours

DAY_S = timedelta(days=1).total_seconds()


class Tally(msgspec.Struct, frozen=True):
    """Sums over calls; `credits_used` in micro-credits, corrections of earlier calls included."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    credits_used: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*map(sum, zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)))


class Overview(msgspec.Struct, frozen=True):
    """`days` have begun, the oldest first; a day and model without calls has no cell. A key of None: calls that were
    made with a member's access token, such as the playground's."""

    days: list[Bucket]
    cells: dict[tuple[int, str], Tally]
    keys: dict[UUID | None, Tally]

    def total(self) -> Tally:
        return total_of(self.cells.values())

    def of_day(self, day: int) -> Tally:
        return total_of(tally for (number, _), tally in self.cells.items() if number == day)

    def models(self) -> dict[str, Tally]:
        """The dearest first."""
        found: dict[str, Tally] = {}
        for (_, model), tally in self.cells.items():
            found[model] = found.get(model, Tally()) + tally
        return dict(sorted(found.items(), key=lambda item: (-item[1].credits_used, item[0])))


class BurnRate(msgspec.Struct, frozen=True):
    """What the last `days` took in a day, on average: so many whole days, and today as far as it has come."""

    micro_per_day: int
    days: int


def overview(organization_id: UUID, span: Span, now: datetime) -> Overview:
    buckets = list(buckets_of(span, "day"))
    starts = [bucket.start for bucket in buckets]
    cells: dict[tuple[int, str], Tally] = {}
    keys: dict[UUID | None, Tally] = {}
    with connection.cursor() as cursor:
        cursor.execute(OVERVIEW, parameters(organization_id, span, starts))
        for day, model, key_id, is_cell, *figures in cursor.fetchall():
            if is_cell:
                cells[day, model or ""] = Tally(*figures)
            else:
                keys[key_id] = Tally(*figures)
    used = max((day for day, _ in cells), default=0)  # by the database's clock
    begun = [bucket for day, bucket in enumerate(buckets) if bucket.start <= now or day <= used]
    return Overview(begun, cells, keys)


def burn_rate(found: Overview, now: datetime, days_max: int = 7) -> BurnRate | None:
    """Over the last days, or since the first call of these days if that was later; None without a call."""
    first = min((day for day, _ in found.cells), default=None)
    if first is None:
        return None
    first = max(first, len(found.days) - days_max)
    used = total_of(tally for (day, _), tally in found.cells.items() if day >= first).credits_used
    if used <= 0:
        return None
    elapsed_days = max((now - found.days[first].start).total_seconds() / DAY_S, 1.0)
    return BurnRate(round(used / elapsed_days), len(found.days) - first)


def parameters(organization_id: UUID, span: Span, starts: list[datetime]) -> dict[str, Any]:
    return {
        "organization": organization_id,
        "start": span.start,
        "end": span.end,
        "first_hour": floor(span.start),
        "starts": starts,
        "cut_hours": sorted({floor(edge) for edge in (*starts, span.start, span.end) if edge != floor(edge)}),
    }


def total_of(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total += tally
    return total
