"""Usage rolled up by hour: what pages and charts read instead of usage rows.

Idempotent: an hour is always computed anew from its rows, so running twice, or two at once, changes
nothing. The hours behind `RollUpState.through` are final.
"""

from datetime import datetime, timedelta

from django.db import connection, transaction

# A usage row carries the time of its batch, which may commit a little later: rows younger than
# this are rolled up, but not yet counted on to be complete.
SETTLING = timedelta(minutes=2)

LOCK = "SELECT pg_advisory_xact_lock(hashtext('billing.rollups')), now()"
STATE = "SELECT through FROM billing_rollupstate WHERE id = 1"
FIRST = "SELECT min(recorded_at) FROM billing_usage"
CLEAR = "DELETE FROM billing_usagehour WHERE hour >= date_trunc('hour', %s::timestamptz, 'UTC')"
FILL = """
INSERT INTO billing_usagehour (wallet_id, key_id, user_id, model, provider, hour, requests, errors, prompt_tokens,
    completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost_pico, charged)
SELECT wallet_id, key_id, user_id, model, provider, date_trunc('hour', recorded_at, 'UTC'), count(*),
       count(*) FILTER (WHERE error_code <> ''), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),
       sum(cache_write_5m_tokens + cache_write_1h_tokens), sum(reasoning_tokens), sum(cost_pico), sum(charged)
FROM billing_usage WHERE recorded_at >= date_trunc('hour', %s::timestamptz, 'UTC') GROUP BY 1, 2, 3, 4, 5, 6
"""
ADVANCE = """
INSERT INTO billing_rollupstate AS state (id, through) VALUES (1, %s)
ON CONFLICT (id) DO UPDATE SET through = greatest(state.through, excluded.through)
"""


def roll_up() -> int:
    """Roll up every hour that is not final yet; the number of rows written."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        now: datetime = cursor.fetchone()[1]
        cursor.execute(STATE)
        state = cursor.fetchone()
        if state is None:
            cursor.execute(FIRST)
            state = cursor.fetchone()
        start = state[0] or now
        cursor.execute(CLEAR, [start])
        cursor.execute(FILL, [start])
        written = cursor.rowcount
        cursor.execute(ADVANCE, [now - SETTLING])
    return written
