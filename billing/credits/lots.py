"""Credit that expires: lots, what is left of them, and what is taken when their time is over.

A lot is a grant with an end. Promotional credit is spent first, the soonest to expire before the others, so what is
left of a lot follows from the wallet's entries, which never change: calls do not write to lots and pay nothing for
them. `spend` is the rule. Each lot remembers what was left of it after how many entries; `count` looks at the entries
since, and `expire` moves that mark every few minutes, so that no look-up reads more than those minutes' entries.

The rule, entry by entry: what calls and adjustments take comes out of the open lots, then out of credit that does not
expire; money paid back (`refund`) comes out of bought credit first; all that comes in is credit that does not expire,
corrections of calls included. A grant into a debt pays the debt first.

A lot expires at its time, but for what running calls hold; that much follows once they have ended, unless they used it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models.functions import Now

from billing.credits.models import Lot
from billing.ledger import journal
from billing.ledger.commands import Post, Posted
from billing.ledger.journal import LedgerRefused
from common.invariants import EntryKey, Invariant

WALLETS_PER_PASS_MAX = 10_000

LOCK_WALLET = "SELECT posted, held, seq FROM billing_wallet WHERE organization_id = %s FOR NO KEY UPDATE"

# Wallet and lots in one snapshot; the entries up to its `seq` can be read later, they do not change.
OPEN_LOTS = """
SELECT w.posted, w.held, w.seq, clock_timestamp(),
       l.id, l.amount, l.left, l.counted_seq, l.expires_at, l.reason, l.expired, l.expiries
FROM billing_wallet w LEFT JOIN billing_lot l ON l.wallet_id = w.organization_id AND l.closed_at IS NULL
WHERE w.organization_id = %s ORDER BY l.expires_at, l.id
"""

# A refund ends its stretch: whether it reaches the lots depends on what was left beside them at its moment.
MOVEMENTS = """
SELECT coalesce(-sum(amount) FILTER (WHERE amount < 0 AND NOT is_refund), 0)::bigint,
       coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint,
       coalesce(-sum(amount) FILTER (WHERE is_refund), 0)::bigint
FROM (SELECT amount, is_refund, coalesce(sum(is_refund::int) OVER (
          ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS stretch
      FROM (SELECT seq, amount, kind = 'refund' AND amount < 0 AS is_refund
            FROM billing_entry WHERE wallet_id = %s AND seq > %s AND seq <= %s) entry) marked
GROUP BY stretch ORDER BY stretch
"""

WRITE_LOTS = """
UPDATE billing_lot l SET "left" = x."left", counted_seq = x.counted_seq, expired = x.expired, expiries = x.expiries,
    closed_at = CASE WHEN x."left" = 0 THEN clock_timestamp() END
FROM json_to_recordset(%s::json) AS x(id bigint, "left" bigint, counted_seq bigint, expired bigint, expiries int)
WHERE l.id = x.id
"""

# Due first, then those with the most entries that are not counted yet.
WALLETS = """
SELECT l.wallet_id FROM billing_lot l JOIN billing_wallet w ON w.organization_id = l.wallet_id
WHERE l.closed_at IS NULL AND (l.expires_at <= clock_timestamp() OR w.seq > l.counted_seq)
GROUP BY l.wallet_id
ORDER BY bool_or(l.expires_at <= clock_timestamp()) DESC, max(w.seq - l.counted_seq) DESC LIMIT %s
"""

EXPIRY = EntryKey("expiry")  # of a lot, and how many expiries it had before
INVARIANT = Invariant(
    "a lot is its grant, and what expired of it",
    f"""l.id::text,
       format('%%s, %%s expired; entries %%s and %%s', l.amount, l.expired, g.amount, coalesce(-x.amount, 0))
FROM billing_lot l LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry WHERE wallet_id = l.wallet_id AND seq = l.granted_seq OFFSET 0) g ON true,
LATERAL (
    SELECT sum(amount) AS amount FROM generate_series(0, l.expiries - 1) AS expiry(number), LATERAL (
        SELECT amount FROM billing_entry
        WHERE wallet_id = l.wallet_id AND idempotency_key = {EXPIRY.sql("l.id", "number")} AND kind = 'expiry'
        OFFSET 0) taken) x
WHERE (g.kind, g.amount) IS DISTINCT FROM ('grant', l.amount) OR coalesce(-x.amount, 0) <> l.expired""",  # noqa: S608 - of constants
)


class Movement(NamedTuple):
    """What a stretch of entries did, and the money paid back at its end."""

    taken: int = 0
    given: int = 0
    refunded: int = 0


class OpenLot(msgspec.Struct, frozen=True):
    """For pages: what is left of an expiring grant."""

    left: int
    amount: int
    expires_at: datetime
    reason: str


class Row(msgspec.Struct):
    id: int
    amount: int
    left: int
    counted_seq: int
    expires_at: datetime
    reason: str
    expired: int
    expiries: int


class Counted(msgspec.Struct):
    """A wallet and its open lots, the soonest to expire first, with `left` as of entry `seq`."""

    posted: int
    held: int
    seq: int
    now: datetime
    lots: list[Row]


def spend(lefts: Sequence[int], permanent: int, movements: Sequence[Movement]) -> tuple[list[int], int]:
    """What is left of each lot, and of the credit beside them, after the movements. Pure.

    `lefts` in the order in which they are spent. `permanent` is below 0 only when no lot has anything left.
    """
    left = list(lefts)
    for movement in movements:
        permanent += movement.given - _take(left, movement.taken)
        from_permanent = min(movement.refunded, max(0, permanent))
        permanent -= from_permanent + _take(left, movement.refunded - from_permanent)
    return left, permanent


def _take(left: list[int], amount: int) -> int:
    """Out of the lots, in order; returns what they did not cover."""
    for place, there in enumerate(left):
        taken = min(there, amount)
        left[place] -= taken
        amount -= taken
    return amount


def open_lots(organization_id: UUID) -> list[OpenLot]:
    """What is left of each expiring grant, the soonest to expire first; two queries, one without such grants."""
    counted = count(organization_id)
    return [OpenLot(lot.left, lot.amount, lot.expires_at, lot.reason) for lot in counted.lots if lot.left]


def grant(
    organization_id: UUID, amount_micro: int, expires_at: datetime, actor: str, reason: str, idempotency_key: str
) -> Posted:
    """Post a grant and open its lot, all or nothing. A replay opens none: the first one did."""
    with transaction.atomic():
        lock_wallet(organization_id)
        before = count(organization_id)
        posted = journal.post(
            organization_id, "grant", amount_micro, actor=actor, reason=reason, idempotency_key=idempotency_key
        )
        if posted.replayed:
            return posted
        left = max(0, min(amount_micro, posted.balance_after))  # what a debt does not take at once
        _write(before.lots, posted.seq)
        Lot.objects.create(
            wallet_id=organization_id,
            granted_seq=posted.seq,
            amount=amount_micro,
            left=left,
            counted_seq=posted.seq,
            expires_at=expires_at,
            reason=reason,
            closed_at=None if left else Now(),
        )
    return posted


def expire() -> int:
    """Take what is left of the lots whose time is over; returns in how many wallets something was taken.

    Running twice, or several at once, takes nothing twice: each wallet is looked at again under its lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(WALLETS, [WALLETS_PER_PASS_MAX])
        wallets = [wallet for (wallet,) in cursor.fetchall()]
    return sum(expire_in(wallet) > 0 for wallet in wallets)


def expire_in(organization_id: UUID) -> int:
    """Micro-credits taken from one wallet. The number of queries does not depend on its entries or lots."""
    with transaction.atomic():
        lock_wallet(organization_id)
        counted = count(organization_id)
        spare = max(0, counted.posted - counted.held)  # what running calls hold stays, and the overdraft is no credit
        posts, seq = [], counted.seq
        for lot in counted.lots:
            taken = min(lot.left, spare) if lot.expires_at <= counted.now else 0
            if taken:
                posts.append(_expiry(organization_id, lot, taken))
                lot.left, lot.expired, lot.expiries = lot.left - taken, lot.expired + taken, lot.expiries + 1
                spare -= taken
        if posts:
            seq = _posted(journal.execute(posts))[-1].seq
        _write(counted.lots, seq)
    return -sum(post.amount for post in posts)


def lock_wallet(organization_id: UUID) -> tuple[int, int, int]:
    """(posted, held, seq), and the one lock that covers all of a wallet, until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_WALLET, [organization_id])
        row = cursor.fetchone()
    if row is None:
        raise LedgerRefused("this organization has no wallet")
    return row


def count(organization_id: UUID) -> Counted:
    """A wallet's open lots as its last entry left them."""
    with connection.cursor() as cursor:
        cursor.execute(OPEN_LOTS, [organization_id])
        rows = cursor.fetchall()
        if not rows:
            raise LedgerRefused("this organization has no wallet")
        posted, held, seq, now = rows[0][:4]
        counted = Counted(posted, held, seq, now, [Row(*row[4:]) for row in rows if row[4] is not None])
        # All open lots of a wallet are counted together, so the first one's mark is everybody's.
        if not counted.lots or counted.lots[0].counted_seq == counted.seq:
            return counted
        cursor.execute(MOVEMENTS, [organization_id, counted.lots[0].counted_seq, counted.seq])
        movements = [Movement(*row) for row in cursor.fetchall()]
    since = sum(movement.given - movement.taken - movement.refunded for movement in movements)
    permanent = counted.posted - since - sum(lot.left for lot in counted.lots)
    lefts, _ = spend([lot.left for lot in counted.lots], permanent, movements)
    for lot, left in zip(counted.lots, lefts, strict=True):
        lot.left = left
    return counted


def _expiry(organization_id: UUID, lot: Row, amount: int) -> Post:
    return Post(
        wallet_id=organization_id,
        kind="expiry",
        amount=-amount,
        actor="expiry",
        reason=f"expired {lot.expires_at:%Y-%m-%d %H:%M} UTC: {lot.reason}",
        idempotency_key=EXPIRY.of(lot.id, lot.expiries),
    )


def _posted(outcomes: Sequence[Any]) -> list[Posted]:
    """Nothing is refused here: the wallet is locked, and was looked at under the lock."""
    posted = []
    for outcome in outcomes:
        if not isinstance(outcome, Posted):
            raise LedgerRefused(f"refused: {outcome.reason}")
        posted.append(outcome)
    return posted


def _write(lots: Sequence[Row], seq: int) -> None:
    rows = [
        {"id": lot.id, "left": lot.left, "counted_seq": seq, "expired": lot.expired, "expiries": lot.expiries}
        for lot in lots
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(WRITE_LOTS, [msgspec.json.encode(rows).decode()])
