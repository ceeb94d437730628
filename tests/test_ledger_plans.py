"""The ledger reads a call's rows and no others, whatever the planner knew when the statement was prepared.

The writer prepares its statements once, often on tables that were empty, and no autovacuum comes for a minute: a plan
that reads a table whole would be kept while the table grows, and each call would cost more than the one before.
"""

import json
import shlex
from collections import Counter
from typing import Any

import pytest
from django.db import connection

from billing.statements import HOLDS
from billing.wire import SESSION

CALLS = 1_000
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


def as_the_writer(cursor: Any) -> None:
    """Its session, and the plan that it comes to after a few batches: one for all of them."""
    for word in (*shlex.split(SESSION), "plan_cache_mode=force_generic_plan"):
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
