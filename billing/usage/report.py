"""What an organization's calls used and cost, cut into days or hours of any time zone, or by model, key or member.

Exact to the micro-credit at every moment: final hours come from the roll-up (billing/usage/rollups.py); what it has
not closed yet, and the few hours that a boundary of the report cuts in two, come from the rows themselves. One
statement reads all of it, so the parts are of the same moment. `credits_used` of a period is what the ledger
took in it for calls, corrections of earlier calls included: minus the sum of those entries.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from django.db import connection
from msgspec import UNSET, UnsetType

from accounts.models import ApiKey, User
from billing.usage.rollups import FINAL, final_hours_else_rows, floor

GroupBy = Literal["day", "hour", "model", "key", "member"]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

OF_HOUR = """hour AS at, key_id, user_id, model, requests, errors, prompt_tokens, cached_tokens, cache_write_tokens,
           completion_tokens, reasoning_tokens, charged, 0 AS corrected"""
OF_ROW = """recorded_at, key_id, user_id, model, 1, (error_code <> '')::int, prompt_tokens, cached_tokens,
           cache_write_5m_tokens + cache_write_1h_tokens, completion_tokens, reasoning_tokens, charged, 0"""
WHOLE = "hour <> ALL(%(cut_hours)s::timestamptz[])"
# OFFSET 0 keeps PostgreSQL from joining the cut hours with all rows of the organization instead of looking each up.
USED = f"""
WITH {FINAL}, used AS ({final_hours_else_rows(OF_HOUR, OF_ROW, hours=WHOLE)}
    UNION ALL
    SELECT u.* FROM unnest(%(cut_hours)s::timestamptz[]) AS cut(hour), LATERAL (
        SELECT {OF_ROW} FROM billing_usage
        WHERE wallet_id = %(organization)s AND recorded_at >= greatest(%(start)s, cut.hour)
          AND recorded_at < least(%(end)s, cut.hour + interval '1 hour') OFFSET 0) u
    WHERE cut.hour < (SELECT before FROM final)
    UNION ALL
    SELECT e.created_at, h.key_id, h.user_id, coalesce(u.model, h.model), 0, 0, 0, 0, 0, 0, 0, -e.amount, -e.amount
    FROM billing_entry e LEFT JOIN billing_hold h ON h.id = e.hold_id LEFT JOIN billing_usage u ON u.hold_id = e.hold_id
    WHERE e.wallet_id = %(organization)s AND e.kind = 'correction' AND e.created_at >= %(start)s
      AND e.created_at < %(end)s
)
"""  # noqa: S608 - of constants
USAGE = f"""{USED}
SELECT grouped::text, requests, errors, prompt, cached, written, completion, reasoning, charged, corrected FROM (
    SELECT {{}} AS grouped, sum(requests)::bigint AS requests, sum(errors)::bigint AS errors,
           sum(prompt_tokens)::bigint AS prompt, sum(cached_tokens)::bigint AS cached,
           sum(cache_write_tokens)::bigint AS written, sum(completion_tokens)::bigint AS completion,
           sum(reasoning_tokens)::bigint AS reasoning, sum(charged)::bigint AS charged,
           sum(corrected)::bigint AS corrected
    FROM used WHERE %(key)s::uuid IS NULL OR key_id = %(key)s GROUP BY 1) summed
"""  # noqa: S608 - a constant of ours
# As the rows have it: a text of each of them would take longer than the sums.
GROUPS = {
    "day": "width_bucket(at, %(starts)s::timestamptz[])",
    "hour": "width_bucket(at, %(starts)s::timestamptz[])",
    "model": "model",
    "key": "key_id",
    "member": "user_id",
}


class Figures(msgspec.Struct, frozen=True):
    """Sums over calls. `corrections` is what corrected earlier calls, within `credits_used`: negative is given back."""

    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    credits_used: int
    corrections: int


NOTHING = Figures(*(0 for _ in Figures.__struct_fields__))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One group: a day, the beginning of an hour, or the id of a model, key or member; None: calls without one."""

    group: str | None
    name: str | UnsetType | None = UNSET  # of a key or member
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    credits_used: int
    corrections: int


class Report(msgspec.Struct, frozen=True):
    rows: list[Row]
    total: Figures


class Span(msgspec.Struct, frozen=True):
    """From `start` until just before `end`, on the clocks of a zone."""

    start: datetime
    end: datetime
    zone: ZoneInfo


class Bucket(msgspec.Struct, frozen=True):
    start: datetime
    group: str


def report(organization_id: UUID, key_id: UUID | None, span: Span, group_by: GroupBy, now: datetime) -> Report:
    """Of the whole organization, or of one key alone. Days and hours are listed without a gap until `now`."""
    buckets = list(buckets_of(span, group_by))
    found = read(organization_id, key_id, span, group_by, buckets)
    rows = by_time(buckets, found, now) if buckets else by_cost(found, names_of(group_by, found))
    return Report(rows, total_of(found.values()))


# --- The calendar -----------------------------------------------------------------------------------


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day. Where the clocks go forward at midnight that is not 0:00, but the same moment."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def buckets_of(span: Span, group_by: GroupBy) -> Iterator[Bucket]:
    """The days or hours that the span touches, cut to it; none for other groups."""
    if group_by == "day":
        yield from days(span)
    elif group_by == "hour":
        yield from hours(span)


def days(span: Span) -> Iterator[Bucket]:
    """Days of the zone, of 23 to 25 hours."""
    day = span.start.astimezone(span.zone).date()
    begin = span.start
    while begin < span.end:
        next_begin = day_start(day + DAY, span.zone)
        if begin < next_begin:  # a zone that crosses the date line skips a day
            yield Bucket(begin, day.isoformat())
        day, begin = day + DAY, max(begin, next_begin)


def hours(span: Span) -> Iterator[Bucket]:
    """Whole hours of UTC, which begin at half past on some zones' clocks: only those are rolled up."""
    begin = span.start
    while begin < span.end:
        yield Bucket(begin, begin.astimezone(span.zone).isoformat().replace("+00:00", "Z"))
        begin = floor(begin) + HOUR


# --- The figures ------------------------------------------------------------------------------------

Found = dict[str | None, Figures]


def read(organization_id: UUID, key_id: UUID | None, span: Span, group_by: GroupBy, buckets: Sequence[Bucket]) -> Found:
    """Figures by group; by the number of the bucket, from 1, for days and hours."""
    starts = [bucket.start for bucket in buckets]
    params = {
        "organization": organization_id,
        "key": key_id,
        "start": span.start,
        "end": span.end,
        "first_hour": floor(span.start),
        "starts": starts,
        "cut_hours": sorted({floor(edge) for edge in (*starts, span.start, span.end) if edge != floor(edge)}),
    }
    with connection.cursor() as cursor:
        cursor.execute(USAGE.format(GROUPS[group_by]), params)
        return {group: Figures(*figures) for group, *figures in cursor.fetchall()}


def by_time(buckets: Sequence[Bucket], found: Found, now: datetime) -> list[Row]:
    """Every day or hour that has begun, also those without a call."""
    begun = bisect_right(buckets, now, key=lambda bucket: bucket.start)
    used = max((int(number or 0) for number in found), default=0)  # by the database's clock
    return [
        row_of(bucket.group, found.get(str(number), NOTHING))
        for number, bucket in enumerate(buckets[: max(begun, used)], start=1)
    ]


def by_cost(found: Found, names: dict[str, str] | None) -> list[Row]:
    """The dearest first."""
    rows = [
        row_of(group, figures, UNSET if names is None else names.get(group or "")) for group, figures in found.items()
    ]
    return sorted(rows, key=lambda row: (-row.credits_used, row.group or ""))


def row_of(group: str | None, figures: Figures, name: str | UnsetType | None = UNSET) -> Row:
    return Row(group=group, name=name, **msgspec.structs.asdict(figures))


def total_of(found: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*map(msgspec.structs.astuple, [NOTHING, *found]), strict=True)))


def names_of(group_by: GroupBy, groups: Iterable[str | None]) -> dict[str, str] | None:
    """What people call these keys or members, also after they have gone. The ids are the organization's own."""
    ids = [group for group in groups if group is not None]
    if group_by == "key":
        return {str(pk): name for pk, name in ApiKey.objects.filter(pk__in=ids).values_list("pk", "name")}
    if group_by == "member":
        return {str(pk): email for pk, email in User.objects.filter(pk__in=ids).values_list("pk", "email")}
    return None
