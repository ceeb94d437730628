"""Usage rows by month: partitions made ahead, and dropped as a whole when they are too old.

The id of a call is a UUIDv7, its first bits are its time, so a month is a range of ids and a look-up by id reads
one partition. An id of no known month goes to the default partition: a settlement never fails for a missing one.
The work is done by the functions of migration 0020, with the rights of the tables' owner and a short lock time-out.
"""

import logging
import time
from datetime import date, datetime

import msgspec
from django.db import connection, transaction
from django.db.utils import OperationalError
from psycopg import errors

logger = logging.getLogger(__name__)

MONTHS_AHEAD = 3
TRIES, PAUSE_S = 5, 0.5

ADD = "SELECT billing_add_usage_month(%s)"
DROP = "SELECT billing_drop_usage_month(%s)"
TODAY = "SELECT (now() AT TIME ZONE 'UTC')::date"
MONTHS = """
SELECT to_date(right(c.relname, 7), 'YYYY_MM') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'billing_usage'::regclass AND c.relname ~ '^billing_usage_[0-9]{4}_[0-9]{2}$' ORDER BY 1
"""


class Kept(msgspec.Struct, frozen=True):
    """A month that could not be dropped, and why."""

    month: date
    reason: str


class Dropped(msgspec.Struct, frozen=True):
    months: list[date]
    kept: list[Kept]


def months() -> list[date]:
    """The months that have a partition, by their first days."""
    with connection.cursor() as cursor:
        cursor.execute(MONTHS)
        return [month for (month,) in cursor.fetchall()]


def ensure_ahead(months_ahead: int = MONTHS_AHEAD) -> list[date]:
    """Partitions of this month and the next ones; those that were missing and are there now. May run at any time,
    and several times at once. What cannot be had for a lock is left to the next run: there is time."""
    known = set(months())
    now = today()
    wanted = [month_after(now, ahead) for ahead in range(months_ahead + 1)]
    return [month for month in wanted if month not in known and _patiently(ADD, month)]


def retire(months_kept: int) -> Dropped:
    """Drop what is older than so many whole months before this one; 0 keeps everything."""
    return drop_before(month_after(today(), -months_kept)) if months_kept else Dropped([], [])


def drop_before(month: date) -> Dropped:
    """Drop the months before this one, the oldest first, never one that is not over. A month stays whose roll-ups are
    not final, or that has a call which waits for reconciliation or for the operator."""
    dropped, kept = [], []
    over = min(month, month_after(today(), 0))
    for old in months():
        if old >= over:
            break
        reason = _patiently(DROP, old)
        if reason:
            kept.append(Kept(old, str(reason)))
        elif reason is not None:
            dropped.append(old)
    return Dropped(dropped, kept)


def today() -> date:
    with connection.cursor() as cursor:
        cursor.execute(TODAY)
        found: date = cursor.fetchone()[0]
        return found


def month_after(day: date | datetime, months: int) -> date:
    """The first day of the month so many months later, or earlier."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _patiently(sql: str, month: date) -> object:
    """The answer; None if the locks could not be had. The ledger never waits behind us for longer than the time-out
    of one try, and has its turn in between."""
    for attempt in range(TRIES):
        time.sleep(PAUSE_S if attempt else 0)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(sql, [month])
                answer: object = cursor.fetchone()[0]
                return answer
        except OperationalError as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable):
                raise
    logger.warning("no lock for the partition of usage of %s, the next run tries again", month)
    return None
