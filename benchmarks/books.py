"""Books of any size, made by set-based SQL: tenants, keys, and calls with their holds, entries, usage and meters.

`generate` fills an empty, migrated database so that the verifier finds nothing wrong with it. The first tenant makes
a tenth of all calls, the others share the rest alike; alone it makes all of them. Calls end over the last 60 days, in
the order of time. It needs a superuser: foreign keys and triggers rest while rows are copied in, which is the
difference between minutes and hours.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg

from accounts import keys
from benchmarks.report import say
from benchmarks.stack import RICH_MICRO

CHUNK_ROWS = 250_000
DAYS = 60
OVERDUE_HOLDS_MAX = 1_000
DUE_CALLS = 200
SERVER_SETTINGS = {"max_wal_size": "'8GB'", "checkpoint_timeout": "'15min'", "autovacuum": "off"}
TABLES = ("billing_hold", "billing_entry", "billing_usage")

Connect = Callable[[], psycopg.Connection[Any]]


class Size(NamedTuple):
    rows: int
    tenants: int
    keys_per_tenant: int


class Books(NamedTuple):
    api_keys: list[str]  # a sample, of many tenants
    bytes_per_row: float


SCAFFOLD = """
CREATE TABLE bench_tenant (t int PRIMARY KEY, id uuid NOT NULL, charge bigint NOT NULL);
CREATE TABLE bench_key (t int, k int, id uuid NOT NULL, PRIMARY KEY (t, k));
CREATE TABLE bench_model (n int PRIMARY KEY, model text, price_id bigint);
INSERT INTO bench_model
SELECT row_number() OVER (ORDER BY id) - 1, model_id, price_id FROM completions_route ORDER BY id LIMIT 5;
"""
ORGANIZATIONS = """
INSERT INTO accounts_organization (id, name, status)
SELECT id, 'tenant ' || t, 'active' FROM bench_tenant WHERE t > 0;
"""
OPENING = """
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, actor, reason, created_at)
SELECT id, 1, 'grant', 'promotion', %(micro)s, %(micro)s, 'bench', 'bench', now() - make_interval(days => %(days)s + 1)
FROM bench_tenant WHERE t > 0
"""
OPENED = """
UPDATE billing_wallet w SET posted = %(micro)s, seq = 1 FROM bench_tenant b WHERE b.t > 0 AND b.id = w.organization_id
"""

# One row for each call: whose it is, its place among that tenant's, and what every table says of it.
CALLS = """
CREATE FUNCTION bench_calls(first bigint, last bigint, rows bigint, tenants int, keys int, ends timestamptz)
RETURNS TABLE (n bigint, t int, hold_id uuid, wallet_id uuid, key_id uuid, model text, price_id bigint, charge bigint,
               seq bigint, balance bigint, at timestamptz)
LANGUAGE sql STABLE AS $$
    WITH numbered AS (
        SELECT n, CASE WHEN tenants = 1 OR n %% 10 = 0 THEN 0 ELSE 1 + (n - n / 10 - 1) %% (tenants - 1) END::int AS t,
               CASE WHEN tenants = 1 THEN n WHEN n %% 10 = 0 THEN n / 10 ELSE (n - n / 10 - 1) / (tenants - 1) END AS m,
               ends - make_interval(days => %(days)s) * (1 - n::float8 / rows) AS at
        FROM generate_series(first, last) n)
    SELECT numbered.n, t, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008'
                  || lpad(to_hex(numbered.n), 15, '0'))::uuid,
           b.id, k.id, e.model, e.price_id, b.charge, m + 2, %(micro)s - b.charge * (m + 1), at
    FROM numbered JOIN bench_tenant b USING (t) JOIN bench_key k USING (t)
    JOIN bench_model e ON e.n = numbered.n %% 7 %% (SELECT count(*) FROM bench_model)
    WHERE k.k = m %% keys
$$
"""
FILL = {
    "billing_hold": """
INSERT INTO billing_hold (id, wallet_id, key_id, model, price_id, amount, state, actual, charged, created_at,
    expires_at, resolved_at, provider, provider_ref, dispatched_at)
SELECT hold_id, wallet_id, key_id, model, price_id, charge * 5, 'settled', charge, charge, at - interval '2 s',
       at + interval '15 min', at, 'openrouter', 'gen-' || n, at - interval '1 s'
FROM bench_calls(%(first)s, %(last)s, %(rows)s, %(tenants)s, %(keys)s, %(ends)s)
""",
    "billing_entry": """
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, hold_id, actor, reason, created_at)
SELECT wallet_id, seq, 'usage', 'revenue', -charge, balance, hold_id, '', '', at
FROM bench_calls(%(first)s, %(last)s, %(rows)s, %(tenants)s, %(keys)s, %(ends)s)
""",
    "billing_usage": """
INSERT INTO billing_usage (hold_id, wallet_id, key_id, recorded_at, model, provider, provider_ref, price_id, streamed,
    cancelled, estimated, finish_reason, error_code, prompt_tokens, completion_tokens, cached_tokens,
    cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
    cost_pico, charged, attempts, first_token_ms, latency_ms, reconciliation, reconcile_at,
    reconcile_attempts)
SELECT hold_id, wallet_id, key_id, at, model, 'openrouter', 'gen-' || n, price_id, n %% 3 = 0, false, false,
       CASE WHEN n %% 50 = 1 THEN 'error' ELSE 'stop' END, CASE WHEN n %% 50 = 1 THEN 'unavailable' ELSE '' END,
       100 + n %% 4000, 20 + n %% 400, 0, 0, 0, 0, 0, 0, charge * 9500, charge,
       '[{"provider": "openrouter", "outcome": "ok", "milliseconds": 900}]', 300, 900,
       CASE WHEN t = 0 AND n > %(due_from)s THEN 'pending' ELSE 'matched' END,
       CASE WHEN t = 0 AND n > %(due_from)s THEN at END, 0
FROM bench_calls(%(first)s, %(last)s, %(rows)s, %(tenants)s, %(keys)s, %(ends)s)
""",
}
# Calls whose process died: for the sweeper.
OVERDUE = """
INSERT INTO billing_hold (id, wallet_id, key_id, model, price_id, amount, state, created_at, expires_at, provider,
    provider_ref)
SELECT gen_random_uuid(), b.id, k.id, e.model, e.price_id, 5000, 'open', now() - interval '16 min',
       now() - interval '1 s', '', ''
FROM bench_tenant b JOIN bench_key k USING (t) JOIN bench_model e ON e.n = 0
WHERE k.k = 0 AND b.t BETWEEN 1 AND %(overdue)s
"""
WALLETS = """
UPDATE billing_wallet w SET posted = e.posted, seq = e.seq, held = coalesce(h.held, 0)
FROM (SELECT wallet_id, sum(amount) AS posted, max(seq) AS seq FROM billing_entry GROUP BY 1) e
LEFT JOIN (SELECT wallet_id, sum(amount) AS held FROM billing_hold WHERE state = 'open' GROUP BY 1) h USING (wallet_id)
WHERE w.organization_id = e.wallet_id
"""
METERS = """
INSERT INTO billing_meter (key_id, wallet_id, day_start, week_start, month_start, day_spent, day_held, week_spent,
    week_held, month_spent, month_held, total_spent, total_held)
SELECT h.key_id, h.wallet_id, day, week, month,
       coalesce(sum(charged) FILTER (WHERE created_at >= day), 0),
       coalesce(sum(held) FILTER (WHERE created_at >= day), 0),
       coalesce(sum(charged) FILTER (WHERE created_at >= week), 0),
       coalesce(sum(held) FILTER (WHERE created_at >= week), 0),
       coalesce(sum(charged) FILTER (WHERE created_at >= month), 0),
       coalesce(sum(held) FILTER (WHERE created_at >= month), 0), coalesce(sum(charged), 0), coalesce(sum(held), 0)
FROM (SELECT *, CASE WHEN state = 'open' THEN amount END AS held FROM billing_hold) h,
     (SELECT date_trunc('day', now(), 'UTC') AS day, date_trunc('week', now(), 'UTC') AS week,
             date_trunc('month', now(), 'UTC') AS month) w
GROUP BY h.key_id, h.wallet_id, day, week, month
"""
SIZE = "SELECT pg_database_size(current_database())"


def generate(connect: Connect, first_tenant: UUID, size: Size, pepper: str) -> Books:
    """`connect` opens a superuser's connection to the database; the first tenant exists and has RICH_MICRO."""
    with connect() as connection, relaxed(connection):
        before = size_bytes(connection)
        api_keys = make_tenants(connection, first_tenant, size, pepper)
        fill(connect, size)
        say("wallets and meters ...")
        connection.execute(OVERDUE, {"overdue": min(size.tenants // 10, OVERDUE_HOLDS_MAX)})
        connection.execute(WALLETS)
        connection.execute(METERS)
        connection.execute("DROP FUNCTION bench_calls; DROP TABLE bench_tenant, bench_key, bench_model")
        say("vacuum ...")
        connection.execute("VACUUM ANALYZE")
        return Books(api_keys, (size_bytes(connection) - before) / max(1, size.rows))


@contextmanager
def relaxed(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """The server writes ahead in larger steps while rows are copied in."""
    for name, value in SERVER_SETTINGS.items():
        connection.execute(f"ALTER SYSTEM SET {name} = {value}")
    connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        for name in SERVER_SETTINGS:
            connection.execute(f"ALTER SYSTEM RESET {name}")
        connection.execute("SELECT pg_reload_conf()")


def make_tenants(connection: psycopg.Connection[Any], first: UUID, size: Size, pepper: str) -> list[str]:
    say(f"{size.tenants:,} tenants with {size.keys_per_tenant} keys each ...")
    money = {"micro": RICH_MICRO, "days": DAYS}
    connection.execute(SCAFFOLD)
    ids = [first, *(uuid4() for _ in range(size.tenants - 1))]
    with connection.cursor() as cursor:
        with cursor.copy("COPY bench_tenant (t, id, charge) FROM STDIN") as copy:
            for t, id in enumerate(ids):
                copy.write_row((t, id, 1000 + t % 997))
        connection.execute(ORGANIZATIONS)
        connection.execute(OPENING, money)
        connection.execute(OPENED, money)
        api_keys = copy_keys(cursor, ids, size, pepper)
    connection.execute(CALLS % {"days": DAYS, "micro": RICH_MICRO})
    return api_keys


def copy_keys(cursor: psycopg.Cursor[Any], organizations: list[UUID], size: Size, pepper: str) -> list[str]:
    """Real ones: the look-up's index shall hold digests."""
    sample: list[str] = []
    columns = "id, organization_id, name, digest, prefix, last_four"
    places = [(t, k, uuid4()) for t in range(size.tenants) for k in range(size.keys_per_tenant)]
    with cursor.copy(f"COPY accounts_apikey ({columns}) FROM STDIN") as copy:
        for t, k, id in places:
            key = keys.mint()
            copy.write_row((id, organizations[t], f"key {k}", keys.digest(key, pepper), *keys.display(key)))
            if k == 0:
                sample.append(key)
    with cursor.copy("COPY bench_key (t, k, id) FROM STDIN") as copy:
        for place in places:
            copy.write_row(place)
    return sample


def fill(connect: Connect, size: Size) -> None:
    """Each table on a connection of its own, a chunk at a time."""
    if not size.rows:
        return
    with connect() as connection:
        row = connection.execute("SELECT now() - interval '5 min'").fetchone()
    assert row is not None
    given = {
        "rows": size.rows,
        "tenants": size.tenants,
        "keys": size.keys_per_tenant,
        "ends": row[0],
        "due_from": size.rows - 10 * DUE_CALLS,
    }
    with ThreadPoolExecutor(len(TABLES)) as pool:
        for filled in [pool.submit(fill_table, connect, table, given) for table in TABLES]:
            filled.result()


def fill_table(connect: Connect, table: str, given: dict[str, Any]) -> None:
    with connect() as connection:
        connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        for first in range(0, given["rows"], CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, given["rows"]) - 1
            connection.execute(FILL[table], given | {"first": first, "last": last})
            say(f"{table}: {last + 1:,} rows")


def size_bytes(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(SIZE).fetchone()
    assert row is not None
    return int(row[0])
