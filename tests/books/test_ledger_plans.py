"""The ledger reads a call's rows and no others, whatever the planner knew when the statement was prepared.

The writer prepares its statements once, often on tables that were empty, and no autovacuum comes for a minute: a plan
that reads a table whole would be kept while the table grows, and each call would cost more than the one before.
"""

import asyncio
import json
import shlex
from collections import Counter
from typing import Any

import pytest
from django.db import connection

from billing.ledger.batch import HOLDS
from billing.ledger.wire import SESSION, Wire
from tests.kit.tenants import Tenant

CALLS = 1_000
BATCHES = 6  # PostgreSQL makes five plans of known parameters before it compares
# Empty, and never analyzed: what a new installation has. They stand before the tables of the same name.
NEW_TABLES = """
CREATE TEMP TABLE billing_hold (LIKE public.billing_hold INCLUDING ALL) ON COMMIT DROP;
CREATE TEMP TABLE billing_entry (LIKE public.billing_entry INCLUDING ALL) ON COMMIT DROP
"""
ONE_CALL_EACH = """
INSERT INTO billing_hold (id, wallet_id, model, price_id, amount, state, created_at, expires_at, actual, charged,
    resolved_at, provider, provider_ref)
SELECT id, md5('wallet')::uuid, 'model', 1, 10, 'settled', now(), now(), 3, 3, now(), 'provider', '' FROM calls;
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, hold_id, actor, reason, created_at)
SELECT md5('wallet')::uuid, seq, 'usage', 'revenue', -3, 1000000 - 3 * seq, id, '', '', now() FROM calls
"""


@pytest.mark.django_db
def test_what_was_prepared_on_empty_tables_reads_the_rows_of_its_call_alone() -> None:
    with connection.cursor() as cursor:
        as_the_writer(cursor)
        cursor.execute(NEW_TABLES)
        cursor.execute(f"PREPARE holds(uuid[]) AS {HOLDS.replace('%s', '$1')}")
        try:
            cursor.execute("EXECUTE holds('{}')")
            cursor.execute(
                "CREATE TEMP TABLE calls ON COMMIT DROP AS "
                f"SELECT seq, md5(seq::text)::uuid AS id FROM generate_series(1, {CALLS}) seq"
            )
            cursor.execute(ONE_CALL_EACH)
            assert rows_read(explained(cursor, "EXECUTE holds(ARRAY[md5('500')::uuid])")) == {
                "billing_hold": 1,
                "billing_entry": 1,
            }
        finally:
            cursor.execute("DEALLOCATE holds")


def test_no_batch_is_planned_anew(process_environment: dict[str, str]) -> None:
    alice = Tenant(10_000)

    async def plans() -> Any:
        wire = Wire(process_environment["DATABASE_URL"])
        connection = await wire.connect()
        for _ in range(BATCHES):
            reserve = alice.reserve(100)
            await wire.transact([reserve])
            await wire.transact([alice.settle(reserve.hold_id, 60)])
        found = await connection.execute(
            "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE name LIKE 'ledger_%%'"
        )
        row = await found.fetchone()
        await wire.disconnect()
        return row

    generic, custom = asyncio.run(plans())
    assert generic > BATCHES
    assert custom == 0


def as_the_writer(cursor: Any) -> None:
    """Its session, which has one plan for all batches."""
    for word in shlex.split(SESSION):
        name, is_setting, value = word.partition("=")
        if is_setting:
            cursor.execute(f"SET LOCAL {name} = '{value}'")


def explained(cursor: Any, sql: str) -> dict[str, Any]:
    cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}")
    [told] = cursor.fetchone()
    [plan] = json.loads(told) if isinstance(told, str) else told
    found: dict[str, Any] = plan["Plan"]
    return found


def rows_read(node: dict[str, Any]) -> Counter[str]:
    """Of each table, those too that were filtered out again."""
    found: Counter[str] = Counter()
    if table := node.get("Relation Name"):
        removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
        found[table] = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    for below in node.get("Plans", []):
        found += rows_read(below)
    return found
