"""`GET /v1/usage`: what was used and what it cost, by day, hour, model, key or member, as JSON or CSV.

Every member of an organization may read all of it; an API key reads its own usage alone.
"""

import csv
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from io import StringIO
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.usage.report import DAY, HOUR, GroupBy, Report, Row, Span, day_start, report
from common.csv_cells import no_formula
from completions.api.account import EVERYBODY, principal
from completions.api.documented import QUERY, EndpointDoc, documented
from completions.api.inputs import query_of
from completions.api.shapes import UsageReport
from completions.decoding import Words
from completions.errors import OutOfRange

DAYS = 30  # of a report whose request names no `from`
DAYS_MAX = 400
HOURLY_DAYS_MAX = 31
# No usage lies outside these years, and arithmetic with days and zones cannot overflow inside them.
YEAR_MIN, YEAR_MAX = 2000, 2200
INSTANT = timedelta(microseconds=1)

_TIME = r"T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
Moment = Annotated[str, Meta(pattern=rf"\A[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({_TIME})?\Z")]


class UsageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The last 30 days unless told. As a date `to` is included, as a time it is not."""

    from_: Moment | None = None
    to: Moment | None = None
    time_zone: Annotated[str, Meta(max_length=64)] = "UTC"
    group_by: GroupBy = "day"
    format: Literal["json", "csv"] = "json"


A_MOMENT = (
    "a date (2026-01-31) or a time (2026-01-31T12:00:00Z; in a URL '+' is written %2B)"
    f", from {YEAR_MIN} to {YEAR_MAX - 1}"
)
WORDS = Words(
    ("from", "to", "time_zone", "group_by", "format"),
    {
        "from": A_MOMENT,
        "to": A_MOMENT,
        "time_zone": "a name of the IANA time zone database, like Europe/Berlin",
        "group_by": "one of 'day', 'hour', 'model', 'key', 'member'",
        "format": "'json' or 'csv'",
    },
)


class UsageReportView(APIView):
    name = "Usage"  # DRF's OPTIONS and its browser tell it

    @documented(
        EndpointDoc(
            answer=UsageReport,
            media=(("text/csv", "The rows, with the figures' names in the first line."),),
            query=UsageQuery,
            words=WORDS,
            callers=EVERYBODY,
            refusals=QUERY,
        )
    )
    def get(self, request: Request) -> HttpResponse | Response:
        """Usage of the organization, or of the key that asks."""
        now = timezone.now()
        query = query_of(request, UsageQuery, WORDS)
        span = span_of(query, now)
        caller = principal(request)
        found = report(caller.organization_id, caller.key_id, span, query.group_by, now)
        if query.format == "csv":
            return csv_response(found, span, named=query.group_by in ("key", "member"))
        return Response(report_body(found, span, query.group_by))


# --- The span ---------------------------------------------------------------------------------------


def span_of(query: UsageQuery, now: datetime) -> Span:
    """The span that a query names, in its time zone; the last DAYS days if it names none. Raises OutOfRange for what is
    no time or zone, and for a span that is empty or longer than DAYS_MAX days (HOURLY_DAYS_MAX by hour)."""
    zone = zone_of(query.time_zone)
    today = now.astimezone(zone).date()
    end = day_start(today + DAY, zone) if query.to is None else moment_of("to", query.to, zone, days_after=1)
    if query.from_ is None:
        last_day = (end - INSTANT).astimezone(zone).date()
        start = day_start(last_day - (DAYS - 1) * DAY, zone)
    else:
        start = moment_of("from", query.from_, zone, days_after=0)
    return bounded(Span(start, end, zone), query.group_by)


def bounded(span: Span, group_by: GroupBy) -> Span:
    days_max = HOURLY_DAYS_MAX if group_by == "hour" else DAYS_MAX
    if span.end <= span.start:
        raise OutOfRange("'to' must be after 'from'.", param="to")
    if span.end - span.start > days_max * DAY + HOUR:  # the hour that a change of the clocks adds
        by = " by hour" if group_by == "hour" else ""
        raise OutOfRange(f"'from' and 'to' must be at most {days_max} days apart{by}.", param="from")
    return span


def zone_of(name: str) -> ZoneInfo:
    if name not in zone_names():
        raise OutOfRange(f"'time_zone' must be {WORDS.rules['time_zone']}.", param="time_zone")
    return ZoneInfo(name)


@cache
def zone_names() -> set[str]:
    return available_timezones()


def moment_of(field: str, text: Moment, zone: ZoneInfo, *, days_after: int) -> datetime:
    """A time as it is, or on the zone's clocks; a date as the beginning of that day, or of one after it."""
    given = date_or_time(text)
    if given is None or not YEAR_MIN <= given.year < YEAR_MAX:
        raise OutOfRange(f"'{field}' must be {WORDS.rules[field]}.", param=field)
    if isinstance(given, datetime):
        return (given if given.tzinfo else given.replace(tzinfo=zone)).astimezone(UTC)
    return day_start(given + days_after * DAY, zone)


def date_or_time(text: Moment) -> date | datetime | None:
    """None for a day or minute that no calendar or clock has."""
    with suppress(ValueError):
        return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
    return None


# --- The answer -------------------------------------------------------------------------------------


def report_body(found: Report, span: Span, group_by: GroupBy) -> UsageReport:
    return UsageReport(
        from_=span.start.astimezone(span.zone),
        to=span.end.astimezone(span.zone),
        time_zone=span.zone.key,
        group_by=group_by,
        data=found.rows,
        total=found.total,
    )


def csv_response(found: Report, span: Span, *, named: bool) -> HttpResponse:
    """The rows of the JSON answer, without the total; whole micro-credits and tokens."""
    file = StringIO()
    rows = [msgspec.structs.asdict(row) for row in found.rows]
    columns = [name for name in Row.__struct_fields__ if named or name != "name"]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**row, "name": no_formula(row["name"])} for row in rows)
    first, last = span.start.astimezone(span.zone), (span.end - INSTANT).astimezone(span.zone)
    name = f"usage-{first:%Y-%m-%d}-{last:%Y-%m-%d}.csv"
    response = HttpResponse(file.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
