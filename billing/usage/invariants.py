"""The invariants of usage and of its roll-ups."""

from billing.usage.rollups import ATTEMPT_FIGURES, ATTEMPT_KEYS, ATTEMPTS, FIGURES, FINAL_BEFORE, HOUR_OF_ROW
from common.invariants import Invariant

SUMS = ", ".join(f"sum({name})" for name in FIGURES)
ZEROS = ", ".join("0" for _ in FIGURES)
NAMES = ", ".join(FIGURES)
NEGATED = ", ".join(f"-{name}" for name in FIGURES)
COMPUTED = ", ".join(f"{sql} AS {name}" for name, sql in FIGURES.items())
COMPUTED_ATTEMPTS = ", ".join(f"{sql} AS {name}" for name, sql in (ATTEMPT_KEYS | ATTEMPT_FIGURES).items())

SOURCES = f"""
kept AS (
    SELECT coalesce((SELECT billing_first_id_of((holds_from AT TIME ZONE 'UTC')::date) FROM billing_usageretention
                     WHERE id = 1), '00000000-0000-0000-0000-000000000000') AS first_id
), span AS (
    SELECT greatest(%(hours_from)s::timestamptz, (SELECT hours_from FROM billing_usageretention WHERE id = 1)) AS first,
           ({FINAL_BEFORE}) AS "end"
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

INVARIANTS = (
    Invariant(
        "usage says what was charged",
        """h.id::text, format('usage %%s, hold %%s', u.charged, h.charged)
FROM seen_hold h LEFT JOIN seen_usage u ON u.hold_id = h.id
WHERE (h.charged IS NOT NULL AND u.hold_id IS NULL AND h.id >= (SELECT first_id FROM kept))
   OR u.charged <> coalesce(h.charged, 0) OR u.wallet_id <> h.wallet_id""",
    ),
    Invariant(
        "roll-ups are the sums of usage",
        f"""wallet_id::text,
       format('%%s %%s: usage %%s requests, %%s charged; roll-up %%s, %%s', hour, model,
              coalesce(sum(requests) FILTER (WHERE side = 1), 0), coalesce(sum(charged) FILTER (WHERE side = 1), 0),
              coalesce(-sum(requests) FILTER (WHERE side = -1), 0), coalesce(-sum(charged) FILTER (WHERE side = -1), 0))
FROM hourly GROUP BY wallet_id, key_id, user_id, model, provider, hour HAVING ({SUMS}) <> ({ZEROS})""",
    ),
    Invariant(
        "providers' hours are the sums of roll-ups",
        f"""provider,
       format('%%s %%s: off by %%s requests, %%s charged', hour, model, sum(requests), sum(charged))
FROM provided GROUP BY model, provider, hour HAVING ({SUMS}) <> ({ZEROS})""",
    ),
    Invariant(
        "attempts are those of the calls",
        """provider,
       format('%%s %%s: off by %%s attempts, %%s ms', hour, outcome, sum(attempts), sum(milliseconds))
FROM attempted GROUP BY model, provider, outcome, hour HAVING (sum(attempts), sum(milliseconds)) <> (0, 0)""",
    ),
)
