"""Statements as files, and the word that a new one is there. A door of this room."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from billing.notices import outbox
from billing.statements import monthly, pdf
from common.checks import checked_choice

READY = "statement.ready"  # the notification
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "pdf": "application/pdf"}
NAME_CHARACTERS_MAX = 60
# An entry carries the time of its batch, which may commit a little later than that.
SETTLED_MINUTES = 5

MOVED = """
SELECT w.organization_id FROM billing_wallet w
WHERE EXISTS (SELECT FROM billing_entry e WHERE e.wallet_id = w.organization_id AND e.created_at >= %(start)s
                AND e.created_at < %(end)s)
  AND NOT EXISTS (SELECT FROM billing_notification n WHERE n.organization_id = w.organization_id
                AND n.dedupe_key = %(dedupe_key)s)
ORDER BY w.organization_id LIMIT %(limit)s
"""
ORGANIZATIONS_PER_PASS = 500


def statement_file(organization_id: UUID, month: str, format: str) -> monthly.File:
    """`month` is like 2026-11, `format` csv or pdf."""
    checked_choice("format", format, list(CONTENT_TYPES))
    return file_of(monthly.statement(organization_id, *monthly.parse_month(month)), format)


def file_of(statement: monthly.Statement, format: str) -> monthly.File:
    return monthly.File(f"{name_of(statement)}.{format}", CONTENT_TYPES[format], WRITERS[format](statement))


def as_pdf(statement: monthly.Statement) -> bytes:
    return pdf.as_pdf(statement, settings.STATEMENT_ISSUER)


def as_csv(statement: monthly.Statement) -> bytes:
    return monthly.as_csv(statement).encode()


WRITERS = {"csv": as_csv, "pdf": as_pdf}


def name_of(statement: monthly.Statement) -> str:
    """`statement-acme-inc-2026-11`."""
    words = re.sub(r"[^a-z0-9]+", "-", statement.organization_name.lower())[:NAME_CHARACTERS_MAX].strip("-")
    return "-".join(filter(None, ("statement", words, statement.month)))


def announce() -> int:
    """Tell the organizations that moved credits last month of their statement, each once. How many were told."""
    now = monthly.database_now()
    if (now.day, now.hour) == (1, 0) and now.minute < SETTLED_MINUTES:
        return 0
    year, month = monthly.month_before(now)
    start, end = monthly.span_of(year, month)
    told = [announce_to(organization_id, start) for organization_id in moved_in(start, end)]
    return sum(told)


def moved_in(start: datetime, end: datetime) -> list[UUID]:
    wanted: dict[str, Any] = {
        "start": start,
        "end": end,
        "dedupe_key": dedupe_key(start),
        "limit": ORGANIZATIONS_PER_PASS,
    }
    with connection.cursor() as cursor:
        cursor.execute(MOVED, wanted)
        return [organization_id for (organization_id,) in cursor.fetchall()]


def announce_to(organization_id: UUID, start: datetime) -> bool:
    try:
        statement = monthly.statement(organization_id, start.year, start.month)
    except monthly.Mismatch as mismatch:  # the others get theirs
        outbox.notify_operator("statement.mismatch", f"{mismatch}", {"error": str(mismatch)})
        return False
    payload = {
        "month": statement.month,
        "opening_balance": statement.opening,
        "closing_balance": statement.closing,
        "credits_used": -(statement.totals["usage"] + statement.totals["correction"]),
    }
    return outbox.notify(organization_id, READY, payload, dedupe_key=dedupe_key(start)) is not None


def dedupe_key(start: datetime) -> str:
    return f"statement:{start:%Y-%m}"


def attachments(organization_id: UUID, month: str) -> list[monthly.File]:
    """Both files of a month, for the mail that brings them."""
    checked = monthly.statement(organization_id, *monthly.parse_month(month))
    return [file_of(checked, format) for format in CONTENT_TYPES]
