"""The sweeper: frees what calls that never ended still hold.

A call whose process died leaves an open hold. Past its time it expires: the tenant pays nothing, and
should the call end after all, its settlement is booked late. Any number of sweepers may run at once;
the kernel checks state and time again under the wallet's lock.
"""

from typing import NamedTuple

from django.db import connection

from billing import ledger
from billing.kernel import Done, Expire

BATCH = 500
OVERDUE = """
SELECT id, wallet_id, key_id FROM billing_hold WHERE state = 'open' AND expires_at <= clock_timestamp()
ORDER BY expires_at LIMIT %s
"""
OPEN = "SELECT count(*) FROM billing_hold WHERE state = 'open'"


class Sweep(NamedTuple):
    expired: int
    settled: int
    pending: int  # holds still open: calls in flight


def sweep() -> Sweep:
    """Expire every overdue hold."""
    expired = 0
    while commands := _overdue():
        changed = sum(isinstance(outcome, Done) and outcome.changed for outcome in ledger.execute(commands))
        expired += changed
        if len(commands) < BATCH or not changed:
            break
    with connection.cursor() as cursor:
        cursor.execute(OPEN)
        return Sweep(expired, 0, cursor.fetchone()[0])


def _overdue() -> list[Expire]:
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, [BATCH])
        return [Expire(wallet_id=wallet, hold_id=hold, key_id=key) for hold, wallet, key in cursor.fetchall()]
