"""The verifier: one statement, one snapshot, every violation of the ledger's invariants.

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

from billing.ledger.kernel import CONTRA
from billing.oversight.models import VerifierRun
from billing.usage.rollups import ATTEMPT_FIGURES, ATTEMPT_KEYS, ATTEMPTS, FIGURES, HOUR_OF_ROW

SWEEPS_ALLOWED = 2
OVERLAP = timedelta(hours=1)
VIOLATIONS_KEPT = 20
RUNS_KEPT = timedelta(days=90)

SUMS = ", ".join(f"sum({name})" for name in FIGURES)
ZEROS = ", ".join("0" for _ in FIGURES)
NAMES = ", ".join(FIGURES)
NEGATED = ", ".join(f"-{name}" for name in FIGURES)
COMPUTED = ", ".join(f"{sql} AS {name}" for name, sql in FIGURES.items())
COMPUTED_ATTEMPTS = ", ".join(f"{sql} AS {name}" for name, sql in (ATTEMPT_KEYS | ATTEMPT_FIGURES).items())

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

SHARED = f"""
summed AS (
    SELECT w.organization_id AS wallet_id, coalesce(c.posted, 0) + coalesce(e.total, 0) AS total,
           coalesce(c.seq, 0) + coalesce(e.entries, 0) AS entries, coalesce(e.last_seq, c.seq, 0) AS last_seq
    FROM billing_wallet w LEFT JOIN checkpoint c ON c.wallet_id = w.organization_id LEFT JOIN (
        SELECT wallet_id, sum(amount) AS total, count(*) AS entries, max(seq) AS last_seq
        FROM seen_entry GROUP BY 1) e ON e.wallet_id = w.organization_id
), open_hold AS (
    SELECT wallet_id, sum(amount) AS held FROM billing_hold WHERE state = 'open' GROUP BY 1
), chain AS (
    SELECT e.wallet_id, e.seq, e.balance_after, e.amount,
           coalesce(lag(e.balance_after) OVER w, c.posted, 0) AS before,
           coalesce(lag(e.seq) OVER w, c.seq, 0) AS seq_before
    FROM seen_entry e LEFT JOIN checkpoint c ON c.wallet_id = e.wallet_id
    WINDOW w AS (PARTITION BY e.wallet_id ORDER BY e.seq)
), charge AS (
    SELECT hold_id, count(*) AS entries, -sum(amount) AS charged, min(kind) AS kind, min(wallet_id::text) AS wallet
    FROM charging GROUP BY 1
), kept AS (
    SELECT coalesce((SELECT billing_first_id_of((holds_from AT TIME ZONE 'UTC')::date) FROM billing_usageretention
                     WHERE id = 1), '00000000-0000-0000-0000-000000000000') AS first_id
), span AS (
    SELECT greatest(%(hours_from)s::timestamptz, (SELECT hours_from FROM billing_usageretention WHERE id = 1)) AS first,
           (SELECT date_trunc('hour', through, 'UTC') FROM billing_rollupstate WHERE id = 1) AS "end"
), hourly AS (
    SELECT wallet_id, key_id, user_id, model, provider, {HOUR_OF_ROW} AS hour, 1 AS side, {COMPUTED}
    FROM billing_usage WHERE recorded_at >= (SELECT first FROM span) AND recorded_at < (SELECT "end" FROM span)
    GROUP BY 1, 2, 3, 4, 5, 6
    UNION ALL
    SELECT wallet_id, key_id, user_id, model, provider, hour, -1, {NEGATED}
    FROM billing_usagehour WHERE hour >= (SELECT first FROM span) AND hour < (SELECT "end" FROM span)
), provided AS (
    SELECT model, provider, hour, {NAMES}
    FROM billing_usagehour WHERE hour >= (SELECT first FROM span) AND hour < (SELECT "end" FROM span)
    UNION ALL
    SELECT model, provider, hour, {NEGATED}
    FROM billing_providerhour WHERE hour >= (SELECT first FROM span) AND hour < (SELECT "end" FROM span)
), attempted AS (
    SELECT {COMPUTED_ATTEMPTS} FROM {ATTEMPTS}
    WHERE recorded_at >= (SELECT first FROM span) AND recorded_at < (SELECT "end" FROM span)
    GROUP BY {", ".join(ATTEMPT_KEYS.values())}
    UNION ALL
    SELECT model, provider, outcome, hour, -attempts, -milliseconds
    FROM billing_attempthour WHERE hour >= (SELECT first FROM span) AND hour < (SELECT "end" FROM span)
)"""  # noqa: S608 - of constants

VIOLATIONS = f"""
SELECT 'balance is the sum of its entries', w.organization_id::text,
       format('posted %%s, entries %%s', w.posted, e.total)
FROM billing_wallet w JOIN summed e ON e.wallet_id = w.organization_id WHERE w.posted <> e.total
UNION ALL
SELECT 'seq counts the entries', w.organization_id::text,
       format('seq %%s, entries %%s, highest %%s', w.seq, e.entries, e.last_seq)
FROM billing_wallet w JOIN summed e ON e.wallet_id = w.organization_id WHERE w.seq <> e.entries OR w.seq <> e.last_seq
UNION ALL
SELECT 'held is the sum of open holds', w.organization_id::text,
       format('held %%s, open holds %%s', w.held, coalesce(o.held, 0))
FROM billing_wallet w LEFT JOIN open_hold o ON o.wallet_id = w.organization_id WHERE w.held <> coalesce(o.held, 0)
UNION ALL
SELECT 'the chain of balances has no gap', wallet_id::text,
       format('entry %%s: %%s %%s is not %%s', seq, before, to_char(amount, 'FMSG999999999999999999'), balance_after)
FROM chain WHERE balance_after <> before + amount OR seq <> seq_before + 1
UNION ALL
SELECT 'an entry names the account of its kind', wallet_id::text,
       format('entry %%s: %%s against %%s', seq, kind, contra)
FROM seen_entry WHERE (kind, contra) NOT IN (SELECT * FROM unnest(%(kinds)s::text[], %(contras)s::text[]))
UNION ALL
SELECT 'a settled call has one usage entry of what it was charged', h.id::text,
       format('%%s, charged %%s, entry %%s', h.state, h.charged, c.charged)
FROM seen_hold h LEFT JOIN charge c ON c.hold_id = h.id
WHERE (h.charged IS NOT NULL) <> (c.hold_id IS NOT NULL) OR h.charged <> c.charged OR c.entries > 1
   OR coalesce(c.kind = 'usage', false) <> (h.state = 'settled') OR c.wallet <> h.wallet_id::text
UNION ALL
SELECT 'a limited wallet is above its floor', organization_id::text,
       format('posted %%s, held %%s, overdraft %%s', posted, held, overdraft)
FROM billing_wallet WHERE NOT unlimited AND posted - held < -overdraft
UNION ALL
SELECT 'a meter is the sum of its windows'' holds', m.key_id::text,
       format('day %%s, week %%s, month %%s, total %%s spent and %%s held; holds say %%s, %%s, %%s, %%s and %%s',
              m.day_spent, m.week_spent, m.month_spent, m.total_spent, m.total_held, x.day_spent, x.week_spent,
              x.month_spent, x.total_spent, x.total_held)
FROM billing_meter m JOIN metered x ON x.key_id = m.key_id
WHERE (m.day_spent, m.week_spent, m.month_spent, m.total_spent, m.day_held, m.week_held, m.month_held, m.total_held)
   <> (coalesce(x.day_spent, 0), coalesce(x.week_spent, 0), coalesce(x.month_spent, 0), coalesce(x.total_spent, 0),
       coalesce(x.day_held, 0), coalesce(x.week_held, 0), coalesce(x.month_held, 0), coalesce(x.total_held, 0))
UNION ALL
SELECT 'a meter is the sum of its windows'' holds', h.key_id::text,
       format('no meter; holds say %%s spent and %%s held', coalesce(sum(h.charged), 0),
              coalesce(sum(h.amount) FILTER (WHERE h.state = 'open'), 0))
FROM seen_hold h LEFT JOIN billing_meter m ON m.key_id = h.key_id
WHERE h.key_id IS NOT NULL AND m.key_id IS NULL GROUP BY h.key_id
UNION ALL
SELECT 'no hold outlives its time', id::text, format('expired at %%s', expires_at)
FROM billing_hold WHERE state = 'open' AND expires_at < clock_timestamp() - make_interval(secs => %(sweeps_s)s)
UNION ALL
SELECT 'contra accounts sum to the balances', 'all', format('entries %%s, balances %%s', e.total, w.total)
FROM (SELECT coalesce(sum(total), 0) AS total FROM summed) e,
     (SELECT coalesce(sum(posted), 0) AS total FROM billing_wallet) w WHERE e.total <> w.total
UNION ALL
SELECT 'usage says what was charged', h.id::text, format('usage %%s, hold %%s', u.charged, h.charged)
FROM seen_hold h LEFT JOIN seen_usage u ON u.hold_id = h.id
WHERE (h.charged IS NOT NULL AND u.hold_id IS NULL AND h.id >= (SELECT first_id FROM kept))
   OR u.charged <> coalesce(h.charged, 0) OR u.wallet_id <> h.wallet_id
UNION ALL
SELECT 'roll-ups are the sums of usage', wallet_id::text,
       format('%%s %%s: usage %%s requests, %%s charged; roll-up %%s, %%s', hour, model,
              coalesce(sum(requests) FILTER (WHERE side = 1), 0), coalesce(sum(charged) FILTER (WHERE side = 1), 0),
              coalesce(-sum(requests) FILTER (WHERE side = -1), 0), coalesce(-sum(charged) FILTER (WHERE side = -1), 0))
FROM hourly GROUP BY wallet_id, key_id, user_id, model, provider, hour HAVING ({SUMS}) <> ({ZEROS})
UNION ALL
SELECT 'providers'' hours are the sums of roll-ups', provider,
       format('%%s %%s: off by %%s requests, %%s charged', hour, model, sum(requests), sum(charged))
FROM provided GROUP BY model, provider, hour HAVING ({SUMS}) <> ({ZEROS})
UNION ALL
SELECT 'attempts are those of the calls', provider,
       format('%%s %%s: off by %%s attempts, %%s ms', hour, outcome, sum(attempts), sum(milliseconds))
FROM attempted GROUP BY model, provider, outcome, hour HAVING (sum(attempts), sum(milliseconds)) <> (0, 0)
UNION ALL
SELECT 'an extra charge took what its entry says', x.id::text,
       format('%%s, took %%s, entry %%s', x.state, x.taken_micro, e.amount)
FROM billing_extracharge x LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry
    WHERE wallet_id = x.wallet_id AND idempotency_key = format('recon:%%s:%%s', x.hold_id, x.version)
    OFFSET 0) e ON true
WHERE coalesce(e.amount, 0) <> -x.taken_micro OR e.kind <> 'correction'
UNION ALL
SELECT 'a payment moved what it says', p.id::text,
       format('%%s of %%s, %%s taken back; entries %%s and %%s', p.state, p.credits_micro, p.taken_back_micro, e.amount,
              coalesce(b.amount, 0))
FROM billing_payment p LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry
    WHERE wallet_id = p.organization_id AND idempotency_key = format('payment:%%s', p.id) OFFSET 0) e ON true,
LATERAL (
    SELECT sum(amount) AS amount FROM generate_series(0, p.movements - 1) AS movement(number), LATERAL (
        SELECT amount FROM billing_entry
        WHERE wallet_id = p.organization_id AND idempotency_key = format('payment:%%s:%%s', p.id, number)
          AND kind = 'refund' OFFSET 0) moved) b
WHERE (p.paid_at IS NOT NULL) <> (e.amount IS NOT NULL) OR e.amount <> p.credits_micro OR e.kind <> 'purchase'
   OR coalesce(b.amount, 0) <> -p.taken_back_micro
UNION ALL
SELECT 'a redeemed voucher is one grant', v.id::text,
       format('entry %%s of %%s; is %%s of %%s', v.entry_seq, t.amount_micro, e.seq, e.amount)
FROM billing_voucher v JOIN billing_voucherbatch t ON t.id = v.batch_id LEFT JOIN LATERAL (
    SELECT seq, kind, amount FROM billing_entry
    WHERE wallet_id = v.organization_id AND idempotency_key = format('voucher:%%s', v.id) OFFSET 0) e ON true
WHERE v.redeemed_at IS NOT NULL AND (e.seq, e.kind, e.amount) IS DISTINCT FROM (v.entry_seq, 'grant', t.amount_micro)
UNION ALL
SELECT 'a lot is its grant, and what expired of it', l.id::text,
       format('%%s, %%s expired; entries %%s and %%s', l.amount, l.expired, g.amount, coalesce(-x.amount, 0))
FROM billing_lot l LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry WHERE wallet_id = l.wallet_id AND seq = l.granted_seq OFFSET 0) g ON true,
LATERAL (
    SELECT sum(amount) AS amount FROM generate_series(0, l.expiries - 1) AS expiry(number), LATERAL (
        SELECT amount FROM billing_entry
        WHERE wallet_id = l.wallet_id AND idempotency_key = format('expiry:%%s:%%s', l.id, number) AND kind = 'expiry'
        OFFSET 0) taken) x
WHERE (g.kind, g.amount) IS DISTINCT FROM ('grant', l.amount) OR coalesce(-x.amount, 0) <> l.expired
"""  # noqa: S608 - of constants

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
