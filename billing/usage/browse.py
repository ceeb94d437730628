"""Pages of calls and of ledger entries, the newest first, for those who look through them.

Each page begins after the last row of the one before (never OFFSET), so the millionth row costs what the first one
does. Every query starts from the organization.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Literal
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from billing.ledger.balances import CALL_KINDS
from billing.ledger.models import Entry
from billing.usage.models import RollUpState, Usage, UsageHour
from billing.usage.report import HOUR
from billing.usage.rollups import floor

BALANCES = """
SELECT (SELECT e.balance_after FROM billing_entry e WHERE e.wallet_id = %s AND e.created_at < m.at
        ORDER BY e.created_at DESC, e.seq DESC LIMIT 1)
FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS m(at, place) ORDER BY m.place
"""

Outcome = Literal["", "answered", "failed"]
Kinds = Literal["", "credits", "calls", "corrections"]


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty: all of them. From `start` until just before `end`."""

    key_id: UUID | None = None
    model: str = ""
    provider: str = ""
    outcome: Outcome = ""
    start: datetime | None = None
    end: datetime | None = None

    @property
    def is_narrow(self) -> bool:
        return bool(self.key_id or self.model or self.provider or self.outcome)


class Position(msgspec.Struct, frozen=True):
    """The last row of a page of calls."""

    recorded_at: datetime
    hold_id: UUID


class PutIn(msgspec.Struct, frozen=True):
    """Credits by how they came, and went, other than by calls."""

    bought: int
    granted: int
    adjusted: int  # adjustments, refunds, expiries

    @property
    def total(self) -> int:
        return self.bought + self.granted + self.adjusted


# --- Calls ------------------------------------------------------------------------------------------


def calls(organization_id: UUID, wanted: CallFilter, after: Position | None, rows_max: int) -> list[Usage]:
    found = Usage.objects.filter(wallet_id=organization_id, **matching(wanted, Usage))
    found = found.filter(*within("recorded_at", wanted.start, wanted.end))
    if after is not None:
        # The first condition is implied; it is what the index can begin at.
        same_moment = Q(recorded_at=after.recorded_at, hold_id__lt=after.hold_id)
        found = found.filter(Q(recorded_at__lt=after.recorded_at) | same_moment, recorded_at__lte=after.recorded_at)
    if wanted.is_narrow:
        found = found.filter(where_they_are(organization_id, wanted, after, rows_max))
    return list(found.select_related("key", "user").order_by("-recorded_at", "-hold_id")[:rows_max])


def position(usage: Usage) -> Position:
    return Position(usage.recorded_at, usage.hold_id)


def matching(wanted: CallFilter, rows: type[Usage] | type[UsageHour]) -> dict[str, object]:
    told: dict[str, object] = {}
    if wanted.key_id:
        told["key_id"] = wanted.key_id
    if wanted.model:
        told["model"] = wanted.model
    if wanted.provider:
        told["provider"] = wanted.provider
    if rows is UsageHour:
        return told
    if wanted.outcome == "failed":
        told["error_code__gt"] = ""
    elif wanted.outcome == "answered":
        told["error_code"] = ""
    return told


def within(field: str, start: datetime | None, end: datetime | None) -> Iterator[Q]:
    if start is not None:
        yield Q(**{f"{field}__gte": start})
    if end is not None:
        yield Q(**{f"{field}__lt": end})


def where_they_are(organization_id: UUID, wanted: CallFilter, after: Position | None, rows_max: int) -> Q:
    """The hours that hold the next matching calls, told by the roll-up: one rare model among a million calls is found
    without reading the million. What is not rolled up yet is read as it is."""
    state = RollUpState.objects.filter(pk=1).first()
    if state is None:
        return Q()
    open_since = floor(state.through)
    found = UsageHour.objects.filter(wallet_id=organization_id, hour__lt=open_since, **matching(wanted, UsageHour))
    found = found.filter(*within("hour", wanted.start and floor(wanted.start), wanted.end))
    if after is not None:
        found = found.filter(hour__lte=floor(after.recorded_at))
    counted = {"failed": F("errors"), "answered": F("requests") - F("errors")}.get(wanted.outcome, F("requests"))
    by_hour = found.values("hour").annotate(calls=Sum(counted)).filter(calls__gt=0).order_by("-hour")
    hours = enough([(row["hour"], row["calls"]) for row in by_hour[: rows_max + 2]], rows_max)
    spans = [Q(recorded_at__gte=start, recorded_at__lt=end) for start, end in joined(hours)]
    return reduce(or_, spans, Q(recorded_at__gte=open_since))


def enough(hours: Sequence[tuple[datetime, int]], rows_max: int) -> list[datetime]:
    """The newest hours that fill the page. The first one is not relied on: the page before may end in it, as the
    range that was asked for may."""
    taken, calls_found = [], 0
    for number, (hour, calls_in_it) in enumerate(hours):
        taken.append(hour)
        calls_found += calls_in_it if number else 0
        if calls_found >= rows_max:
            break
    return taken


def joined(hours: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Hours, the newest first, as spans: neighbours are one."""
    spans: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if spans and spans[-1][0] == hour + HOUR:
            spans[-1] = (hour, spans[-1][1])
        else:
            spans.append((hour, hour + timedelta(hours=1)))
    return spans


# --- Entries ----------------------------------------------------------------------------------------


def entries(organization_id: UUID, kinds: Kinds, before_seq: int | None, rows_max: int) -> list[Entry]:
    found = entries_of(organization_id, kinds)
    if before_seq is not None:
        found = found.filter(seq__lt=before_seq)
    return list(found.select_related("hold").order_by("-seq")[:rows_max])


def entries_of(organization_id: UUID, kinds: Kinds) -> QuerySet[Entry]:
    found = Entry.objects.filter(wallet_id=organization_id)
    if kinds == "credits":
        return found.exclude(kind__in=CALL_KINDS)
    if kinds == "calls":
        return found.filter(kind__in=CALL_KINDS)
    if kinds == "corrections":
        return found.filter(kind=Entry.Kind.CORRECTION)
    return found


def put_in(organization_id: UUID) -> PutIn:
    rows = entries_of(organization_id, "credits").values("kind").annotate(amount=Sum("amount"))
    by_kind = {row["kind"]: row["amount"] for row in rows}
    bought = by_kind.pop(Entry.Kind.PURCHASE, 0)
    granted = by_kind.pop(Entry.Kind.GRANT, 0)
    return PutIn(bought, granted, sum(by_kind.values()))


def balances_at(organization_id: UUID, moments: Sequence[datetime]) -> list[int | None]:
    """The ledger's balance just before each moment, in one statement; None before the first entry."""
    with connection.cursor() as cursor:
        cursor.execute(BALANCES, [organization_id, list(moments)])
        return [balance for (balance,) in cursor.fetchall()]
