"""The verifier: one statement, one snapshot, every violation of what the packages of this room promise.

`violations()` is empty when the books are right; each row names the invariant, whose books break it, and the figures
that disagree. `run()` does the same and keeps the result (VerifierRun); when all is right it also renews the
checkpoints, in the same statement, from which an incremental run goes on.

A complete run reads everything. An incremental one takes what is below the checkpoints for right: it reads newer
entries, recent holds with their usage, all wallets and open holds, hours that became final, and what is not of calls
(extra charges, payments, vouchers, lots); of meters the totals.
Whoever changes what is older is found by the next complete run.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max

from billing.credits import lots, vouchers
from billing.ledger import invariants as ledger_invariants
from billing.ledger.kernel import CONTRA
from billing.oversight.models import VerifierRun
from billing.payments import account as payments
from billing.reconciliation import extra_charges
from billing.usage import invariants as usage_invariants
from common.invariants import union

SWEEPS_ALLOWED = 2
OVERLAP = timedelta(hours=1)
VIOLATIONS_KEPT = 20
RUNS_KEPT = timedelta(days=90)

# What a run looks at. The names are the same, the invariants do not know which of the two it is.
COMPLETE = """
checkpoint AS (
    SELECT NULL::uuid AS wallet_id, 0::bigint AS seq, 0::bigint AS posted WHERE false
), seen_entry AS NOT MATERIALIZED (
    SELECT * FROM billing_entry
), seen_hold AS NOT MATERIALIZED (
    SELECT * FROM billing_hold
), seen_usage AS NOT MATERIALIZED (
    SELECT hold_id, wallet_id, charged FROM billing_usage
), charging AS NOT MATERIALIZED (
    SELECT * FROM billing_entry WHERE kind IN ('usage', 'late_usage')
), metered AS (
    SELECT m.key_id,
           sum(h.charged) AS total_spent, sum(h.amount) FILTER (WHERE h.state = 'open') AS total_held,
           sum(h.charged) FILTER (WHERE h.created_at >= m.month_start) AS month_spent,
           sum(h.amount) FILTER (WHERE h.state = 'open' AND h.created_at >= m.month_start) AS month_held,
           sum(h.charged) FILTER (WHERE h.created_at >= m.week_start) AS week_spent,
           sum(h.amount) FILTER (WHERE h.state = 'open' AND h.created_at >= m.week_start) AS week_held,
           sum(h.charged) FILTER (WHERE h.created_at >= m.day_start) AS day_spent,
           sum(h.amount) FILTER (WHERE h.state = 'open' AND h.created_at >= m.day_start) AS day_held
    FROM billing_meter m LEFT JOIN billing_hold h ON h.key_id = m.key_id GROUP BY 1
)"""

# OFFSET 0 makes each wallet look its newest entries up by the index, and each hold its usage, instead of reading all
# there are: how few they are, PostgreSQL cannot know.
# A recent hold is one whose id, which begins with its time, is recent.
SINCE_CHECKPOINTS = """
checkpoint AS MATERIALIZED (
    SELECT wallet_id, seq, posted FROM billing_walletcheckpoint
), seen_entry AS MATERIALIZED (
    SELECT e.* FROM billing_wallet w LEFT JOIN checkpoint c ON c.wallet_id = w.organization_id, LATERAL (
        SELECT * FROM billing_entry
        WHERE wallet_id = w.organization_id AND seq > coalesce(c.seq, -9223372036854775808) OFFSET 0) e
), seen_hold AS MATERIALIZED (
    SELECT * FROM billing_hold WHERE id >= %(holds_from)s
    UNION
    SELECT h.* FROM seen_entry e, LATERAL (SELECT * FROM billing_hold WHERE id = e.hold_id OFFSET 0) h
), seen_usage AS MATERIALIZED (
    SELECT u.* FROM seen_hold h, LATERAL (
        SELECT hold_id, wallet_id, charged FROM billing_usage WHERE hold_id = h.id OFFSET 0) u
), charging AS MATERIALIZED (
    SELECT e.* FROM seen_hold h, LATERAL (
        SELECT * FROM billing_entry WHERE hold_id = h.id AND kind IN ('usage', 'late_usage') OFFSET 0) e
), newly_spent AS (
    SELECT h.key_id, -sum(e.amount) AS spent FROM seen_entry e JOIN seen_hold h ON h.id = e.hold_id
    WHERE e.kind IN ('usage', 'late_usage') GROUP BY 1
), held_now AS (
    SELECT key_id, sum(amount) AS held FROM billing_hold WHERE state = 'open' GROUP BY 1
), metered AS (
    SELECT m.key_id, coalesce(c.total_spent, 0) + coalesce(n.spent, 0) AS total_spent, h.held AS total_held,
           m.month_spent, m.month_held, m.week_spent, m.week_held, m.day_spent, m.day_held
    FROM billing_meter m LEFT JOIN billing_metercheckpoint c ON c.key_id = m.key_id
    LEFT JOIN newly_spent n ON n.key_id = m.key_id LEFT JOIN held_now h ON h.key_id = m.key_id
)"""

SHARED = f"{ledger_invariants.SOURCES}, {usage_invariants.SOURCES}"
INVARIANTS = (
    *ledger_invariants.INVARIANTS,
    *usage_invariants.INVARIANTS,
    extra_charges.INVARIANT,
    payments.INVARIANT,
    vouchers.INVARIANT,
    lots.INVARIANT,
)
VIOLATIONS = union(INVARIANTS)
FOUND = f"found (invariant, subject, detail) AS MATERIALIZED ({VIOLATIONS})"

# What was found right just now, in the same snapshot; nothing while anything is wrong.
RENEWED = """
renewed AS (
    INSERT INTO billing_walletcheckpoint AS c (wallet_id, seq, posted)
    SELECT organization_id, seq, posted FROM billing_wallet WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT (wallet_id) DO UPDATE SET seq = excluded.seq, posted = excluded.posted
    WHERE (c.seq, c.posted) <> (excluded.seq, excluded.posted)
), renewed_meter AS (
    INSERT INTO billing_metercheckpoint AS c (key_id, total_spent)
    SELECT key_id, total_spent FROM billing_meter WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT (key_id) DO UPDATE SET total_spent = excluded.total_spent WHERE c.total_spent <> excluded.total_spent
)"""

RESULT = """
SELECT invariant, subject, detail, NULL::bigint, NULL::bigint, NULL::timestamptz FROM found
UNION ALL
SELECT NULL, NULL, NULL, (SELECT count(*) FROM billing_wallet), (SELECT count(*) FROM seen_entry),
       (SELECT "end" FROM span)
"""

WAIT_FOR_TURN = "SELECT pg_advisory_xact_lock(hashtext('billing.oversight.verifier'))"
HAVE_TURN = "SELECT pg_try_advisory_xact_lock(hashtext('billing.oversight.verifier'))"
CLOCK = "SELECT clock_timestamp()"


class Violation(NamedTuple):
    invariant: str
    subject: str
    detail: str


class Result(msgspec.Struct, frozen=True):
    """How much was looked at, and what was found. `hours_until`: roll-ups were compared before this hour."""

    wallets: int
    entries: int
    hours_until: datetime | None
    violations: list[Violation]


def violations() -> list[Violation]:
    """Of everything there is; writes nothing."""
    return _look(COMPLETE, None, renew=False).violations


def run(*, incremental: bool = False, wait: bool = True) -> Result | None:
    """Verify and keep the result. One run at a time: None if another one is at it and `wait` is false."""
    kind = VerifierRun.Kind.INCREMENTAL if incremental else VerifierRun.Kind.COMPLETE
    started_at = _clock()
    try:
        with transaction.atomic():
            if not _have_turn(wait):
                return None
            since = _since() if incremental else None
            result = _look(SINCE_CHECKPOINTS if incremental else COMPLETE, since, renew=True)
    except Exception as error:
        _keep(kind, started_at, None, f"{type(error).__name__}: {error}")
        raise
    _keep(kind, started_at, result, "")
    return result


def report(*, incremental: bool = False) -> dict[str, Any]:
    """A run for a person: how much was looked at, and what was found."""
    result = run(incremental=incremental)
    assert result is not None
    found = [violation._asdict() for violation in result.violations]
    return {"wallets": result.wallets, "entries": result.entries, "violations": found}


class Since(msgspec.Struct, frozen=True):
    """From where an incremental run looks: the last one that found everything right, whichever it was."""

    started_at: datetime | None
    hours_until: datetime | None


def _since() -> Since:
    clean = VerifierRun.objects.filter(violations=0, error="")
    found = clean.aggregate(started_at=Max("started_at"), hours_until=Max("hours_until"))
    return Since(**found)


def _look(sources: str, since: Since | None, *, renew: bool) -> Result:
    statement = f"WITH {sources}, {SHARED}, {FOUND}{',' + RENEWED if renew else ''} {RESULT}"
    params: dict[str, Any] = {
        "kinds": list(CONTRA),
        "contras": list(CONTRA.values()),
        "sweeps_s": SWEEPS_ALLOWED * settings.SWEEP_EVERY_S,
        "holds_from": _first_hold(since),
        "hours_from": (since and since.hours_until) or "-infinity",
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        rows = cursor.fetchall()
    [(wallets, entries, hours_until)] = [row[3:] for row in rows if row[0] is None]
    return Result(wallets, entries, hours_until, [Violation(*row[:3]) for row in rows if row[0] is not None])


def _first_hold(since: Since | None) -> UUID:
    """What was open at the last run began within a hold's life before it. What is settled later has a new entry."""
    if since is None or since.started_at is None:
        return UUID(int=0)
    begun = since.started_at - timedelta(seconds=settings.HOLD_TTL_S) - OVERLAP
    return UUID(int=int(begun.timestamp() * 1000) << 80)


def _have_turn(wait: bool) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAIT_FOR_TURN if wait else HAVE_TURN)
        return cursor.fetchone()[0] is not False


def _clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute(CLOCK)
        now: datetime = cursor.fetchone()[0]
        return now


def _keep(kind: str, started_at: datetime, result: Result | None, error: str) -> None:
    found = result.violations if result else []
    VerifierRun.objects.create(
        kind=kind,
        started_at=started_at,
        finished_at=_clock(),
        wallets=result.wallets if result else 0,
        entries=result.entries if result else 0,
        hours_until=result.hours_until if result else None,
        violations=len(found),
        first_violations=[violation._asdict() for violation in found[:VIOLATIONS_KEPT]],
        error=error,
    )
    VerifierRun.objects.filter(started_at__lt=started_at - RUNS_KEPT).delete()
