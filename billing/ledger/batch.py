"""A batch of commands as SQL, without I/O: what to read, how to decide, what to write.

`Batch` is driven by two thin runners, the gateway's pipelined async connection (wire.py) and
Django's own for admin, Celery and management commands (journal.py). Both take the same locks in the
same order, so they cannot deadlock: wallets by id, and under a wallet's lock its meters, holds and
entries. The number of statements does not depend on how many commands or wallets a batch has.

Rows travel as one JSON parameter per statement: encoding a batch is one call to msgspec instead of
one adapter per column, and PostgreSQL takes it apart.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from billing.ledger import kernel
from billing.ledger.commands import AnyCommand, Outcome, Post, Receipt
from billing.ledger.kernel import Books
from billing.pricing import money

Row = tuple[Any, ...]
NUL = rb"\u0000"  # as JSON says it


class Statement(NamedTuple):
    sql: str
    params: tuple[Any, ...]


WALLETS = """
SELECT w.organization_id, w.posted, w.held, w.unlimited, w.overdraft, w.seq,
       w.status = 'active' AND o.status = 'active'
FROM billing_wallet w JOIN accounts_organization o ON o.id = w.organization_id
WHERE w.organization_id = ANY(%s) ORDER BY w.organization_id FOR NO KEY UPDATE OF w
"""

# Which of these wallets has somebody else locked? Takes the free ones' locks for this one statement.
LOCKED_WALLETS = """
WITH free AS MATERIALIZED (
    SELECT organization_id FROM billing_wallet WHERE organization_id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED)
SELECT organization_id FROM billing_wallet WHERE organization_id = ANY(%s) EXCEPT SELECT organization_id FROM free
"""

# Also reads the clock, after the locks: times along one wallet never run backwards.
KEYS = """
SELECT clock_timestamp(), k.id, k.revoked_at IS NOT NULL, k.expires_at, k.limit_micro, k.limit_period,
       m.key_id, m.wallet_id, m.day_start, m.week_start, m.month_start, m.day_spent, m.day_held,
       m.week_spent, m.week_held, m.month_spent, m.month_held, m.total_spent, m.total_held
FROM (SELECT 1) one LEFT JOIN accounts_apikey k ON k.id = ANY(%s) LEFT JOIN billing_meter m ON m.key_id = k.id
"""

# The entry by a subquery, not a join: planned on an empty table, a join reads all entries for each batch, for as long
# as the prepared statement lives.
HOLDS = """
SELECT h.id, h.wallet_id, h.key_id, h.user_id, h.model, h.price_id, h.amount, h.state, h.created_at, h.expires_at,
       h.actual, h.charged, h.resolved_at, h.provider, h.provider_ref, h.dispatched_at, h.rate_id, h.endpoint,
       (SELECT e.balance_after FROM billing_entry e WHERE e.hold_id = h.id AND e.kind IN ('usage', 'late_usage'))
FROM billing_hold h
WHERE h.id = ANY(%s)
"""

ENTRIES = """
SELECT wallet_id, seq, kind, contra, amount, balance_after, hold_id, idempotency_key, actor, reason, created_at
FROM billing_entry WHERE (wallet_id, idempotency_key) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))
"""

# A guarded write that hits another number of rows than it has divides by zero, which aborts the
# transaction in the same round trip: somebody wrote without taking the wallet's lock.
WRITE_WALLETS = """
WITH changed AS (
    UPDATE billing_wallet w SET posted = x.posted, held = x.held, seq = x.seq
    FROM json_to_recordset(%s::json) AS x(id uuid, posted bigint, held bigint, seq bigint, seq_read bigint)
    WHERE w.organization_id = x.id AND w.seq = x.seq_read RETURNING 1)
SELECT 1 / (count(*) = %s)::int FROM changed
"""

WRITE_METERS = """
INSERT INTO billing_meter (key_id, wallet_id, day_start, week_start, month_start, day_spent, day_held,
    week_spent, week_held, month_spent, month_held, total_spent, total_held)
SELECT * FROM json_to_recordset(%s::json) AS x(key_id uuid, wallet_id uuid, day_start timestamptz,
    week_start timestamptz, month_start timestamptz, day_spent bigint, day_held bigint, week_spent bigint,
    week_held bigint, month_spent bigint, month_held bigint, total_spent bigint, total_held bigint)
ON CONFLICT (key_id) DO UPDATE SET (day_start, week_start, month_start, day_spent, day_held, week_spent, week_held,
    month_spent, month_held, total_spent, total_held) = (excluded.day_start, excluded.week_start,
    excluded.month_start, excluded.day_spent, excluded.day_held, excluded.week_spent, excluded.week_held,
    excluded.month_spent, excluded.month_held, excluded.total_spent, excluded.total_held)
"""

INSERT_HOLDS = """
INSERT INTO billing_hold (id, wallet_id, key_id, user_id, model, price_id, amount, state, created_at, expires_at,
    actual, charged, resolved_at, provider, provider_ref, dispatched_at, rate_id, endpoint)
SELECT * FROM json_to_recordset(%s::json) AS x(id uuid, wallet_id uuid, key_id uuid, user_id bigint, model text,
    price_id bigint, amount bigint, state text, created_at timestamptz, expires_at timestamptz, actual bigint,
    charged bigint, resolved_at timestamptz, provider text, provider_ref text, dispatched_at timestamptz,
    rate_id bigint, endpoint text)
"""

UPDATE_HOLDS = """
WITH changed AS (
    UPDATE billing_hold h SET state = x.state, actual = x.actual, charged = x.charged, resolved_at = x.resolved_at,
        provider = x.provider, provider_ref = x.provider_ref, dispatched_at = x.dispatched_at
    FROM json_to_recordset(%s::json) AS x(id uuid, state text, actual bigint, charged bigint,
        resolved_at timestamptz, provider text, provider_ref text, dispatched_at timestamptz)
    WHERE h.id = x.id RETURNING 1)
SELECT 1 / (count(*) = %s)::int FROM changed
"""

# The same when calls had attempts that failed after they had begun: each is noted once, however often it is told.
UPDATE_HOLDS_WITH_FAILED_ATTEMPTS = """
WITH x AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%s::json) AS x(id uuid, state text, actual bigint, charged bigint,
        resolved_at timestamptz, provider text, provider_ref text, dispatched_at timestamptz, failed json)
), changed AS (
    UPDATE billing_hold h SET state = x.state, actual = x.actual, charged = x.charged, resolved_at = x.resolved_at,
        provider = x.provider, provider_ref = x.provider_ref, dispatched_at = x.dispatched_at
    FROM x WHERE h.id = x.id RETURNING 1
), noted AS (
    INSERT INTO billing_failedattempt (hold_id, provider, provider_ref, recorded_at, reconciliation, reconcile_at,
        reconcile_attempts, reconcile_reason)
    SELECT x.id, f.provider, f.provider_ref, clock_timestamp(),
        CASE WHEN f.look_up_after_s IS NULL THEN 'none' ELSE 'pending' END,
        clock_timestamp() + make_interval(secs => f.look_up_after_s), 0, ''
    FROM x, json_to_recordset(x.failed) AS f(provider text, provider_ref text, look_up_after_s integer)
    ON CONFLICT DO NOTHING)
SELECT 1 / (count(*) = %s)::int FROM changed
"""

INSERT_ENTRIES = """
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, hold_id, idempotency_key, actor,
    reason, created_at)
SELECT * FROM json_to_recordset(%s::json) AS x(wallet_id uuid, seq bigint, kind text, contra text, amount bigint,
    balance_after bigint, hold_id uuid, idempotency_key text, actor text, reason text, created_at timestamptz)
"""

USAGE_COLUMNS = {
    "hold_id": "uuid",
    "wallet_id": "uuid",
    "key_id": "uuid",
    "user_id": "bigint",
    "recorded_at": "timestamptz",
    "endpoint": "text",
    "model": "text",
    "provider": "text",
    "provider_ref": "text",
    "price_id": "bigint",
    "streamed": "boolean",
    "cancelled": "boolean",
    "estimated": "boolean",
    "finish_reason": "text",
    "error_code": "text",
    **dict.fromkeys(money.TOKEN_FIELDS, "bigint"),
    "units": "jsonb",
    "cost_pico": "bigint",
    "reported_cost_usd": "numeric",
    "charged": "bigint",
    "attempts": "jsonb",
    "first_token_ms": "integer",
    "latency_ms": "integer",
    "reconciliation": "text",
    "billed_cost_usd": "numeric",
    "reconcile_at": "timestamptz",
}
INSERT_USAGE = f"""
INSERT INTO billing_usage ({", ".join(USAGE_COLUMNS)}, reconcile_attempts)
SELECT x.*, 0 FROM json_to_recordset(%s::json) AS x({", ".join(map(" ".join, USAGE_COLUMNS.items()))})
"""  # noqa: S608 - of constants


class Batch:
    """One transaction's worth of commands: `reads()`, then `decide(rows)`, then `writes()`."""

    def __init__(self, commands: Sequence[AnyCommand]) -> None:
        self.commands = commands
        self.posts = [command for command in commands if isinstance(command, Post)]

    def reads(self) -> list[Statement]:
        """The statements whose rows `decide` takes, in lock order."""
        statements = [
            Statement(WALLETS, (list({command.wallet_id for command in self.commands}),)),
            Statement(KEYS, (_ids(self.commands, "key_id"),)),
            Statement(HOLDS, (_ids(self.commands, "hold_id"),)),
        ]
        if self.posts:
            wallets = [command.wallet_id for command in self.posts]
            statements.append(Statement(ENTRIES, (wallets, [command.idempotency_key for command in self.posts])))
        return statements

    def decide(self, results: Sequence[Sequence[Row]]) -> list[Outcome]:
        """The outcome of each command, in order. `results` are the rows of each read."""
        self.books = _books(results)
        self.seqs_read = {wallet.id: wallet.seq for wallet in self.books.wallets.values()}
        return [kernel.decide(self.books, command) for command in self.commands]

    def writes(self) -> list[Statement]:
        """What the decisions changed; nothing changed, nothing to write."""
        books = self.books
        changed_holds = [books.holds[id] for id in books.changed_holds - books.new_holds]
        has_failed = any(hold.failed for hold in changed_holds)
        candidates = [
            _write(WRITE_WALLETS, [self._wallet(id) for id in books.changed_wallets], guarded=True),
            _write(WRITE_METERS, [books.meters[id] for id in books.changed_meters]),
            _write(INSERT_HOLDS, [books.holds[id] for id in books.new_holds]),
            _write(UPDATE_HOLDS_WITH_FAILED_ATTEMPTS if has_failed else UPDATE_HOLDS, changed_holds, guarded=True),
            _write(INSERT_ENTRIES, books.new_entries),
            _write(INSERT_USAGE, [_usage_row(books.now, *new) for new in books.new_receipts]),
        ]
        return [statement for statement in candidates if statement is not None]

    def _wallet(self, id: Any) -> dict[str, Any]:
        wallet = self.books.wallets[id]
        return {
            "id": id,
            "posted": wallet.posted,
            "held": wallet.held,
            "seq": wallet.seq,
            "seq_read": self.seqs_read[id],
        }


def _ids(commands: Sequence[AnyCommand], name: str) -> list[Any]:
    ids = {getattr(command, name, None) for command in commands}
    return [id for id in ids if id is not None]


def _write(sql: str, rows: Sequence[Any], *, guarded: bool = False) -> Statement | None:
    if not rows:
        return None
    encoded = _encode(rows)
    return Statement(sql, (encoded, len(rows)) if guarded else (encoded,))


def _encode(rows: Sequence[Any]) -> str:
    """PostgreSQL's text has no NUL and no half of a surrogate pair; providers do send them, and no settlement
    may fail for that."""
    try:
        encoded = msgspec.json.encode(rows)
    except UnicodeEncodeError:
        encoded = NUL
    if NUL in encoded:
        encoded = msgspec.json.encode(_storable(msgspec.to_builtins(rows)))
    return encoded.decode()


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {name: _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list | tuple) else value


def _books(results: Sequence[Sequence[Row]]) -> Books:
    wallets, keys, holds, *entries = results
    now: datetime = keys[0][0]
    books = Books(now=now)
    books.wallets = {row[0]: kernel.Wallet(*row) for row in wallets}
    books.keys = {row[1]: kernel.Key(*row[1:6]) for row in keys if row[1] is not None}
    books.meters = {row[6]: kernel.Meter(*row[6:]) for row in keys if row[6] is not None}
    books.holds = {row[0]: kernel.Hold(*row) for row in holds}
    for row in entries[0] if entries else ():
        books.entries[row[0], row[7]] = kernel.Entry(*row)
    return books


def _usage_row(now: datetime, hold: kernel.Hold, receipt: Receipt) -> dict[str, Any]:
    row = msgspec.structs.asdict(receipt)
    row |= msgspec.structs.asdict(row.pop("usage"))
    due_s = row.pop("reconcile_after_s")
    del row["failed"]  # rows of their own, written with the hold
    row |= {
        "hold_id": hold.id,
        "wallet_id": hold.wallet_id,
        "key_id": hold.key_id,
        "user_id": hold.user_id,
        "recorded_at": now,
        "endpoint": hold.endpoint,
        "charged": hold.charged or 0,
        "reconcile_at": None if due_s is None else now + timedelta(seconds=due_s),
    }
    return row
