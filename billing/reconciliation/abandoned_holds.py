"""The sweeper's share of the books: frees what calls that never ended still hold.

A call whose process died leaves an open hold. Past its time it expires: the tenant pays nothing, and should the call
end after all, or its provider tell what it cost, the settlement is booked late. A call that had reached its provider
is then the operator's loss, with a reason. Any number of sweepers may run at once; the kernel checks state and time
again under the wallet's lock. Who asks the providers is completions/reconciliation/abandoned_calls.py.
"""

import logging
from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from billing.ledger import journal
from billing.ledger.commands import Done, Expire
from billing.ledger.models import Hold
from billing.reconciliation import losses
from billing.reconciliation.models import Loss
from common.attempts import Attempts

logger = logging.getLogger(__name__)

BATCH = 500
# A call that its provider may yet know waits for it, but never so long that the next sweep would be the third.
OVERDUE = """
SELECT id, wallet_id, key_id FROM billing_hold
WHERE state = 'open' AND expires_at <= clock_timestamp()
  AND (dispatched_at IS NULL OR provider_ref = '' OR NOT provider = ANY(%s)
       OR expires_at <= clock_timestamp() - make_interval(secs => %s))
ORDER BY expires_at LIMIT %s
"""
OPEN = "SELECT count(*) FROM billing_hold WHERE state = 'open'"

# Whom to ask for: overdue calls, and those that have expired since and may still be settled late. By the time of
# the statement: unlike the clock, it can use an index. MATERIALIZED, because a plan may run a subquery with SKIP LOCKED
# for every row, and then takes more than its LIMIT.
CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id FROM billing_hold WHERE {} AND provider = %s AND provider_ref <> '' AND charged IS NULL
    ORDER BY expires_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE billing_hold SET sweep_attempts = sweep_attempts + 1,
    sweep_at = statement_timestamp() + make_interval(secs => %s)
FROM due WHERE billing_hold.id = due.id RETURNING billing_hold.id
"""
CLAIM_OVERDUE = CLAIM.format(
    "state = 'open' AND expires_at <= statement_timestamp() AND dispatched_at IS NOT NULL"
    " AND (sweep_at IS NULL OR sweep_at <= statement_timestamp())"
)
CLAIM_EXPIRED = CLAIM.format(
    "state IN ('open', 'expired') AND state = 'expired' AND sweep_at <= statement_timestamp()"
    " AND expires_at > statement_timestamp() - interval '2 days'"
)
# How long after its first, second ... look-up a call is asked for again; then never.
LOOK_UPS = Attempts("sweep_at", "sweep_attempts", pauses_s=(10, 300, 3600, 4 * 3600, 24 * 3600))
ASK_AFTER_FAILURE_S = 60


class Sweep(NamedTuple):
    expired: int
    settled: int
    pending: int  # holds still open: calls in flight


def sweep(askable: Collection[str] = ()) -> Sweep:
    """Expire every overdue hold. One that a provider of `askable` may know gets until the next sweep."""
    expired = 0
    while commands := _overdue(askable):
        changed = _expire(commands, askable)
        expired += changed
        if len(commands) < BATCH or not changed:
            break
    with connection.cursor() as cursor:
        cursor.execute(OPEN)
        return Sweep(expired, 0, cursor.fetchone()[0])


def _overdue(askable: Collection[str]) -> list[Expire]:
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE, [list(askable), settings.SWEEP_EVERY_S, BATCH])
        return [Expire(wallet_id=wallet, hold_id=hold, key_id=key) for hold, wallet, key in cursor.fetchall()]


@transaction.atomic
def _expire(commands: list[Expire], askable: Collection[str]) -> int:
    """How many expired; those of them that had reached a provider are noted as losses in the same transaction."""
    outcomes = zip(commands, journal.execute(commands), strict=True)
    expired = [command.hold_id for command, done in outcomes if isinstance(done, Done) and done.changed]
    for hold in Hold.objects.filter(pk__in=expired, dispatched_at__isnull=False):
        _note_loss(hold, askable)
    return len(expired)


def _note_loss(hold: Hold, askable: Collection[str]) -> None:
    if not hold.provider_ref or hold.provider not in askable:
        reason = Loss.Reason.NO_REFERENCE
    elif hold.sweep_attempts:
        reason = Loss.Reason.UNKNOWN_TO_PROVIDER
    else:
        reason = Loss.Reason.PROVIDER_SILENT
    losses.note(hold.pk, reason)
    logger.error("a call was lost at its provider: %s at %s, %s", hold.pk, hold.provider, reason)
    if reason != Loss.Reason.NO_REFERENCE:
        Hold.objects.filter(pk=hold.pk).update(sweep_at=Coalesce(F("sweep_at"), Now()))


# --- calls that a provider may know ---------------------------------------------------------


def claim(provider: str, limit: int, *, for_s: float) -> list[Hold]:
    """Overdue and expired calls of this provider, at most `limit`, that nobody else asks for now."""
    ids: list[UUID] = []
    with connection.cursor() as cursor:
        for sql in (CLAIM_OVERDUE, CLAIM_EXPIRED):
            cursor.execute(sql, [provider, limit - len(ids), for_s])
            ids += [row[0] for row in cursor.fetchall()]
    return list(Hold.objects.filter(pk__in=ids).select_related("rate", "price").order_by("expires_at"))


def ask_again(hold: Hold) -> None:
    """The provider does not know it: later, or never again."""
    pause_s = LOOK_UPS.pause_s(hold)
    due = None if pause_s is None else Now() + timedelta(seconds=pause_s)
    LOOK_UPS.claimed(_unresolved(), hold).update(sweep_at=due)


def put_off(hold: Hold, *, after_s: float = 0) -> None:
    """The provider could not be asked, or was not: as if it had not been claimed."""
    LOOK_UPS.give_back(_unresolved(), hold, Now() + timedelta(seconds=after_s))


def _unresolved() -> QuerySet[Hold]:
    return Hold.objects.filter(state__in=("open", "expired"), charged=None)
