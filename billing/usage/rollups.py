"""Usage rolled up by hour: what pages and charts read instead of usage rows.

Three tables of it: by tenant (UsageHour), over all tenants (ProviderHour), and the single attempts at
providers (AttemptHour). An hour is always computed anew from its rows, and only what differs is written: running
twice, or two at once, changes nothing. The hours behind `RollUpState.through` are final.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.db import connection, transaction

# A usage row carries the time of its batch, which may commit a little later: rows younger than
# this are rolled up, but not yet counted on to be complete.
SETTLING = timedelta(minutes=2)
HOUR = timedelta(hours=1)
EPOCH = datetime.fromtimestamp(0, UTC)
EVER = datetime.max.replace(tzinfo=UTC)
STEP = timedelta(days=1)  # at most so much in one transaction

# How each figure of UsageSums is computed from usage rows; the verifier compares by the same list.
FIGURES = {
    "requests": "count(*)",
    "errors": "count(*) FILTER (WHERE error_code <> '')",
    "cancelled": "count(*) FILTER (WHERE cancelled)",
    "estimated": "count(*) FILTER (WHERE estimated)",
    "prompt_tokens": "sum(prompt_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "cache_write_tokens": "sum(cache_write_5m_tokens + cache_write_1h_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "cost_pico": "sum(cost_pico)",
    "charged": "sum(charged)",
    "reported": "count(reported_cost_usd)",
    "reported_cost_usd": "coalesce(sum(reported_cost_usd), 0)",
    "reported_expected_pico": "coalesce(sum(cost_pico) FILTER (WHERE reported_cost_usd IS NOT NULL), 0)",
    "first_tokens": "count(first_token_ms)",
    "first_token_ms": "coalesce(sum(first_token_ms), 0)",
    "timed": "count(latency_ms)",
    "latency_ms": "coalesce(sum(latency_ms), 0)",
}
SUMS = {name: f"sum({name})" for name in FIGURES}
ATTEMPT_FIGURES = {"attempts": "count(*)", "milliseconds": "sum((attempt ->> 'milliseconds')::bigint)"}
ATTEMPTS = "billing_usage, jsonb_array_elements(attempts) AS attempt"
HOUR_OF_ROW = "date_trunc('hour', recorded_at, 'UTC')"

# Hours before this one are final; NULL before the first roll-up. Whoever reads it in the statement that reads the hours
# sees a roll-up that commits meanwhile whole or not at all.
FINAL_BEFORE = "SELECT date_trunc('hour', through, 'UTC') FROM billing_rollupstate WHERE id = 1"
FINAL = f"final AS (SELECT coalesce(({FINAL_BEFORE}), '-infinity'::timestamptz) AS before)"


def final_hours_else_rows(of_hour: str, of_row: str, *, hours: str = "true") -> str:
    """A UNION for a statement that begins WITH FINAL: an organization's final hours in the span, and the rows that no
    final hour has. The two lists name the same columns of billing_usagehour and of billing_usage; `hours` is a further
    condition on hours. Parameters: `organization`, `start` and `end` of the span, and its `first_hour`, which the span
    may cut."""
    return f"""
    SELECT {of_hour} FROM billing_usagehour
    WHERE wallet_id = %(organization)s AND hour >= %(first_hour)s AND {hours}
      AND hour < least(%(end)s, (SELECT before FROM final))
    UNION ALL
    SELECT {of_row} FROM billing_usage
    WHERE wallet_id = %(organization)s AND recorded_at < %(end)s
      AND recorded_at >= greatest(%(start)s, (SELECT before FROM final))"""  # noqa: S608 - of constants


def recomputing(target: str, keys: dict[str, str], figures: dict[str, str], source: str, at: str) -> str:
    """The statement that makes `target` what `source` says of the hours from start until end. NULL keys are equal:
    they are compared as text, because IS NOT DISTINCT FROM cannot be hashed."""
    columns = ", ".join((*keys, *figures))
    computed = ", ".join(f"{sql} AS {name}" for name, sql in (keys | figures).items())
    same_keys = " AND ".join(f"coalesce(c.{key}::text, '') = coalesce(x.{key}::text, '')" for key in keys)
    names, new, old = (", ".join(f"{prefix}{name}" for name in figures) for prefix in ("", "excluded.", "x."))
    return f"""
WITH computed AS MATERIALIZED (
    SELECT {computed} FROM {source} WHERE {at} >= %(start)s AND {at} < %(end)s GROUP BY {", ".join(keys.values())}
), removed AS (
    DELETE FROM {target} x WHERE hour >= %(start)s AND hour < %(end)s
    AND NOT EXISTS (SELECT FROM computed c WHERE {same_keys}) RETURNING 1
), written AS (
    INSERT INTO {target} AS x ({columns}) SELECT {columns} FROM computed
    ON CONFLICT ({", ".join(keys)}) DO UPDATE SET ({names}) = ({new})
    WHERE ({old}) IS DISTINCT FROM ({new}) RETURNING xmax = 0 AS is_new
)
SELECT (SELECT count(*) FROM computed), (SELECT count(*) FROM written WHERE is_new),
       (SELECT count(*) FROM written WHERE NOT is_new), (SELECT count(*) FROM removed)
"""  # noqa: S608 - of constants


USAGE_KEYS = {name: name for name in ("wallet_id", "key_id", "user_id", "model", "provider")} | {"hour": HOUR_OF_ROW}
PROVIDER_KEYS = {name: name for name in ("model", "provider", "hour")}
ATTEMPT_KEYS = {
    "model": "model",
    "provider": "attempt ->> 'provider'",
    "outcome": "attempt ->> 'outcome'",
    "hour": HOUR_OF_ROW,
}
RECOMPUTE = (
    recomputing("billing_usagehour", USAGE_KEYS, FIGURES, "billing_usage", "recorded_at"),
    recomputing("billing_providerhour", PROVIDER_KEYS, SUMS, "billing_usagehour", "hour"),
    recomputing("billing_attempthour", ATTEMPT_KEYS, ATTEMPT_FIGURES, ATTEMPTS, "recorded_at"),
)

LOCK = "SELECT pg_advisory_xact_lock(hashtext('billing.usage.rollups')), now()"
STATE = "SELECT through FROM billing_rollupstate WHERE id = 1"
FIRST = "SELECT least((SELECT min(recorded_at) FROM billing_usage), (SELECT min(hour) FROM billing_usagehour))"
KEPT_FROM = "SELECT hours_from FROM billing_usageretention WHERE id = 1"
ADVANCE = """
INSERT INTO billing_rollupstate AS state (id, through) VALUES (1, %s)
ON CONFLICT (id) DO UPDATE SET through = greatest(state.through, excluded.through)
"""


class Written(msgspec.Struct, frozen=True):
    """Rows of roll-ups: how many there are, and how many of them were missing, wrong, or too many."""

    rows: int
    added: int
    changed: int
    removed: int

    def __add__(self, other: "Written") -> "Written":
        return Written(*map(sum, zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)))


NOTHING = Written(0, 0, 0, 0)


class Rebuilt(msgspec.Struct, frozen=True):
    """What `rebuild` looked at, and the differences that it mended."""

    start: datetime
    end: datetime
    written: Written


def roll_up() -> int:
    """Roll up every hour that is not final yet; the number of tenants' rows that were new or had changed."""
    written, is_current = 0, False
    while not is_current:
        by_tenant, is_current = _roll_up_step()
        written += by_tenant.added + by_tenant.changed
    return written


def _roll_up_step() -> tuple[Written, bool]:
    """One transaction: a day at most, should the worker have been away; and whether it was the last one."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        now: datetime = cursor.fetchone()[1]
        start = floor(_through(cursor) or _first(cursor) or now)
        end = start + STEP
        is_current = end > now - SETTLING
        by_tenant, *_ = _recompute(cursor, start, EVER if is_current else end)
        cursor.execute(ADVANCE, [now - SETTLING if is_current else end])
    return by_tenant, is_current


def rebuild(start: datetime | None = None, end: datetime | None = None) -> Rebuilt:
    """Compute the final hours of a span anew, all of them by default. Beside live traffic: a day at a time.

    Hours whose usage rows were dropped (billing/usage/partitions.py) stay as they are: nothing could rebuild them.
    """
    with connection.cursor() as cursor:
        first, final, kept_from = _first(cursor), _through(cursor) or EPOCH, _kept_from(cursor) or EPOCH
    begin = max(floor(start or first or EPOCH), ceiling(kept_from))
    end = max(begin, min(ceiling(end or final), floor(final)))
    total = NOTHING
    for step_start, step_end in steps(max(begin, floor(first or end)), end):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(LOCK)
            total = sum(_recompute(cursor, step_start, step_end), total)
    return Rebuilt(begin, end, total)


def steps(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        step_end = min(end, start + STEP)
        yield start, step_end
        start = step_end


def floor(moment: datetime) -> datetime:
    """The beginning of the hour of UTC that the moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def ceiling(moment: datetime) -> datetime:
    """The moment itself if an hour of UTC begins with it, otherwise the beginning of the next one."""
    return moment if floor(moment) == moment else floor(moment) + HOUR


def _recompute(cursor: Any, start: datetime, end: datetime) -> list[Written]:
    """By table. In this order: the second one is computed from the first."""
    done = []
    for statement in RECOMPUTE:
        cursor.execute(statement, {"start": start, "end": end})
        done.append(Written(*cursor.fetchone()))
    return done


def _through(cursor: Any) -> datetime | None:
    return _moment(cursor, STATE)


def _kept_from(cursor: Any) -> datetime | None:
    return _moment(cursor, KEPT_FROM)


def _first(cursor: Any) -> datetime | None:
    return _moment(cursor, FIRST)


def _moment(cursor: Any, sql: str) -> datetime | None:
    cursor.execute(sql)
    row = cursor.fetchone()
    return row[0] if row else None
