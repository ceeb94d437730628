"""An organization's month as a statement: what it had, what came and went, what it has.

Usage is summed by day and model, from roll-ups and what they have not closed yet; other entries are listed one by one.
One statement of SQL reads all of it, so the parts are of the same moment. The balances are the ledger's own
`balance_after` at the borders of the month, and a statement whose lines do not lead from one to the other is not
given out. Months are UTC's. The running month is stated to date.
"""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection

from accounts.models import Organization
from billing.usage.rollups import FINAL, final_hours_else_rows
from common.checks import Invalid
from common.csv_cells import no_formula
from common.numbers import fixed_credits

KINDS = ("purchase", "grant", "usage", "correction", "refund", "expiry", "adjustment")
YEAR_MIN, YEAR_MAX = 2000, 2999

# A correction of a call is a line by day: reconciliation makes thousands of them.
USED = final_hours_else_rows("hour AS at, model, requests, charged", "recorded_at, model, 1, charged")
BOOKS = f"""
WITH {FINAL}, used AS ({USED}
), moved AS (
    SELECT seq, kind, created_at, amount, reason FROM billing_entry
    WHERE wallet_id = %(organization)s AND kind NOT IN ('usage', 'late_usage', 'correction')
      AND created_at >= %(start)s AND created_at < %(end)s
    UNION ALL
    SELECT seq, kind, created_at, amount, reason FROM billing_entry
    WHERE wallet_id = %(organization)s AND kind = 'correction' AND hold_id IS NULL
      AND created_at >= %(start)s AND created_at < %(end)s
), corrected AS (
    SELECT created_at, amount, reason FROM billing_entry
    WHERE wallet_id = %(organization)s AND kind = 'correction' AND hold_id IS NOT NULL
      AND created_at >= %(start)s AND created_at < %(end)s
)
SELECT 1, 0, (created_at AT TIME ZONE 'UTC')::date, kind, '' AS model, reason, 0 AS calls, amount, seq FROM moved
UNION ALL
SELECT 2, 0, (created_at AT TIME ZONE 'UTC')::date, 'correction', '', reason, count(*), sum(amount)::bigint, 0
FROM corrected GROUP BY 3, 6
UNION ALL
SELECT 3, 0, (at AT TIME ZONE 'UTC')::date, 'usage', model, '', sum(requests)::bigint, -sum(charged)::bigint, 0
FROM used GROUP BY 3, 5
UNION ALL
SELECT 0, border.number, now()::date, '', '', '', 0, coalesce((
    SELECT balance_after FROM billing_entry WHERE wallet_id = %(organization)s AND created_at < border.at
    ORDER BY created_at DESC, seq DESC LIMIT 1), 0), 0
FROM (VALUES (1, %(start)s::timestamptz), (2, %(end)s::timestamptz)) AS border(number, at)
"""  # noqa: S608 - of constants
NOW = "SELECT now()"


class Mismatch(Exception):
    """The lines do not lead from the opening to the closing balance: a statement that would be wrong is not made."""


class Line(msgspec.Struct, frozen=True):
    """A movement, or the sum of a day's. Within a day credits that came are listed before usage: `balance_after` of a
    day's last line is the ledger's."""

    day: date
    kind: str
    model: str  # of usage
    reason: str  # of all others
    calls: int
    amount: int
    balance_after: int


class ModelTotal(msgspec.Struct, frozen=True):
    model: str
    calls: int
    amount: int


class Statement(msgspec.Struct, frozen=True):
    organization_id: UUID
    organization_name: str
    start: datetime
    end: datetime
    through: datetime  # the end, or the moment of the figures while the month runs
    opening: int
    lines: tuple[Line, ...]
    totals: dict[str, int]  # every kind
    models: tuple[ModelTotal, ...]  # the dearest first
    closing: int

    @property
    def is_final(self) -> bool:
        return self.through == self.end

    @property
    def month(self) -> str:
        return f"{self.start:%Y-%m}"


class File(msgspec.Struct, frozen=True):
    name: str
    content_type: str
    content: bytes


def statement(organization_id: UUID, year: int, month: int) -> Statement:
    """The statement of a month that has begun, in micro-credits. Raises Invalid("month", ...) for another month, and
    Mismatch rather than tell what the books do not bear out."""
    start, end = span_of(year, month)
    organization = Organization.objects.get(pk=organization_id)
    now = database_now()
    if start > now:
        raise Invalid("month", f"{year:04}-{month:02} has not begun yet")
    found = read(organization_id, start, end)
    (opening, closing), moved = balances_of(found), [row for row in found if row[0]]
    lines = tuple(running(opening, moved))
    if (lines[-1].balance_after if lines else opening) != closing:
        raise Mismatch(f"the entries of {organization_id} in {year:04}-{month:02} do not add up: run verifyledger")
    return Statement(
        organization_id=organization.pk,
        organization_name=organization.name,
        start=start,
        end=end,
        through=min(end, now),
        opening=opening,
        lines=lines,
        totals={kind: sum(line.amount for line in lines if line.kind == kind) for kind in KINDS},
        models=models_of(lines),
        closing=closing,
    )


def parse_month(text: str) -> tuple[int, int]:
    """`2026-11` → (2026, 11). Raises Invalid("month", ...)."""
    if not re.fullmatch(r"\d{4}-\d{2}", text, re.ASCII):
        raise Invalid("month", f"must be like 2026-11, not {text!r}")
    year, month = map(int, text.split("-"))
    span_of(year, month)
    return year, month


def span_of(year: int, month: int) -> tuple[datetime, datetime]:
    """The first moment of a month of UTC and the first one after it. Raises Invalid("month", ...) beyond the years that
    are kept."""
    if not (YEAR_MIN <= year <= YEAR_MAX and 1 <= month <= 12):
        raise Invalid("month", f"must be between {YEAR_MIN}-01 and {YEAR_MAX}-12, not {year:04}-{month:02}")
    return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def month_before(moment: datetime) -> tuple[int, int]:
    """Year and month of the month before the moment's own, on the moment's clock."""
    return (moment.year - 1, 12) if moment.month == 1 else (moment.year, moment.month - 1)


def months_of(organization_id: UUID) -> list[tuple[int, int]]:
    """The months that have a statement, the newest first: since the organization's beginning."""
    first = Organization.objects.get(pk=organization_id).created_at.astimezone(UTC)
    now = database_now()
    count = (now.year - first.year) * 12 + now.month - first.month + 1
    newest = now.year * 12 + now.month - 1
    return [(number // 12, number % 12 + 1) for number in range(newest, newest - count, -1)]


# --- The books --------------------------------------------------------------------------------------

Row = tuple[Any, ...]  # (section, border, day, kind, model, reason, calls, amount, seq)


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute(NOW)
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)


def read(organization_id: UUID, start: datetime, end: datetime) -> list[Row]:
    """All that a statement is made of, in one snapshot: rows of section 0 are the balances at the borders of the span,
    1 entries, 2 corrections by day and reason, 3 usage by day and model. Amounts are micro-credits."""
    with connection.cursor() as cursor:
        cursor.execute(BOOKS, {"organization": organization_id, "start": start, "first_hour": start, "end": end})
        return list(cursor.fetchall())


def balances_of(found: list[Row]) -> tuple[int, int]:
    borders = {border: amount for section, border, *_, amount, _seq in found if section == 0}
    return borders[1], borders[2]


def running(opening: int, moved: list[Row]) -> Iterator[Line]:
    """The lines in the order of the statement, each with the balance after it, from the opening one on."""
    balance = opening
    # By day; in it entries as they were made, then corrections, then usage, the dearest model first.
    for _section, _, day, kind, model, reason, calls, amount, _seq in sorted(
        moved, key=lambda row: (row[2], row[0], row[8], row[7] if row[0] == 3 else 0, row[4], row[5])
    ):
        balance += amount
        yield Line(day, kind, model, reason, calls, amount, balance)


def models_of(lines: tuple[Line, ...]) -> tuple[ModelTotal, ...]:
    used = sorted((line for line in lines if line.kind == "usage"), key=lambda line: line.model)
    totals = []
    for model, group in groupby(used, key=lambda line: line.model):
        of_model = list(group)
        totals.append(ModelTotal(model, sum(line.calls for line in of_model), sum(line.amount for line in of_model)))
    return tuple(sorted(totals, key=lambda total: (total.amount, total.model)))


# --- As text ----------------------------------------------------------------------------------------

COLUMNS = (
    "date",
    "kind",
    "description",
    "model",
    "calls",
    "micro_credits",
    "credits",
    "balance_micro_credits",
    "balance_credits",
)


def as_csv(of: Statement) -> str:
    """RFC 4180, between an opening and a closing row. A text that would be a formula begins with '."""
    rows: list[tuple[object, ...]] = [
        (of.start.date(), "opening_balance", "", "", "", "", "", of.opening, fixed_credits(of.opening)),
        *map(cells_of, of.lines),
        (of.through.date(), "closing_balance", "", "", "", "", "", of.closing, fixed_credits(of.closing)),
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def cells_of(line: Line) -> tuple[object, ...]:
    told = (line.day, line.kind, no_formula(line.reason), no_formula(line.model), line.calls or "")
    return (*told, line.amount, fixed_credits(line.amount), line.balance_after, fixed_credits(line.balance_after))
