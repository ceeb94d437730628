"""The verifier: one statement, one snapshot, every violation of the ledger's invariants.

Read-only. `violations()` is empty when the books are right; each row names the invariant, whose
books break it, and the figures that disagree.
"""

from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from billing.kernel import CONTRA

SWEEPS_ALLOWED = 2

VIOLATIONS = """
WITH entry AS (
    SELECT wallet_id, sum(amount) AS total, count(*) AS entries, max(seq) AS last_seq FROM billing_entry GROUP BY 1
), open_hold AS (
    SELECT wallet_id, sum(amount) AS held FROM billing_hold WHERE state = 'open' GROUP BY 1
), chain AS (
    SELECT wallet_id, seq, balance_after, amount,
           lag(balance_after, 1, 0::bigint) OVER w AS before, lag(seq, 1, 0::bigint) OVER w AS seq_before
    FROM billing_entry WINDOW w AS (PARTITION BY wallet_id ORDER BY seq)
), charge AS (
    SELECT hold_id, count(*) AS entries, -sum(amount) AS charged, min(kind) AS kind, min(wallet_id::text) AS wallet
    FROM billing_entry WHERE kind IN ('usage', 'late_usage') GROUP BY 1
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
), rolled AS (
    SELECT date_trunc('hour', through) AS through FROM billing_rollupstate
), hourly AS (
    SELECT wallet_id, key_id, user_id, model, provider, date_trunc('hour', recorded_at, 'UTC') AS hour, 1 AS side,
           1 AS requests, (error_code <> '')::int AS errors, prompt_tokens, completion_tokens, cached_tokens,
           cache_write_5m_tokens + cache_write_1h_tokens AS cache_write_tokens, reasoning_tokens, cost_pico, charged
    FROM billing_usage WHERE recorded_at < (SELECT through FROM rolled)
    UNION ALL
    SELECT wallet_id, key_id, user_id, model, provider, hour, -1, -requests, -errors, -prompt_tokens,
           -completion_tokens, -cached_tokens, -cache_write_tokens, -reasoning_tokens, -cost_pico, -charged
    FROM billing_usagehour WHERE hour < (SELECT through FROM rolled)
)
SELECT 'balance is the sum of its entries', w.organization_id::text,
       format('posted %%s, entries %%s', w.posted, coalesce(e.total, 0))
FROM billing_wallet w LEFT JOIN entry e ON e.wallet_id = w.organization_id WHERE w.posted <> coalesce(e.total, 0)
UNION ALL
SELECT 'seq counts the entries', w.organization_id::text,
       format('seq %%s, entries %%s, highest %%s', w.seq, coalesce(e.entries, 0), coalesce(e.last_seq, 0))
FROM billing_wallet w LEFT JOIN entry e ON e.wallet_id = w.organization_id
WHERE w.seq <> coalesce(e.entries, 0) OR w.seq <> coalesce(e.last_seq, 0)
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
FROM billing_entry WHERE (kind, contra) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))
UNION ALL
SELECT 'a settled call has one usage entry of what it was charged', h.id::text,
       format('%%s, charged %%s, entry %%s', h.state, h.charged, c.charged)
FROM billing_hold h LEFT JOIN charge c ON c.hold_id = h.id
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
FROM billing_hold h LEFT JOIN billing_meter m ON m.key_id = h.key_id
WHERE h.key_id IS NOT NULL AND m.key_id IS NULL GROUP BY h.key_id
UNION ALL
SELECT 'no hold outlives its time', id::text, format('expired at %%s', expires_at)
FROM billing_hold WHERE state = 'open' AND expires_at < clock_timestamp() - make_interval(secs => %s)
UNION ALL
SELECT 'contra accounts sum to the balances', 'all', format('entries %%s, balances %%s', e.total, w.total)
FROM (SELECT coalesce(sum(amount), 0) AS total FROM billing_entry) e,
     (SELECT coalesce(sum(posted), 0) AS total FROM billing_wallet) w WHERE e.total <> w.total
UNION ALL
SELECT 'usage says what was charged', h.id::text, format('usage %%s, hold %%s', u.charged, h.charged)
FROM billing_hold h LEFT JOIN billing_usage u ON u.hold_id = h.id
WHERE (h.charged IS NOT NULL AND u.hold_id IS NULL) OR u.charged <> coalesce(h.charged, 0) OR u.wallet_id <> h.wallet_id
UNION ALL
SELECT 'roll-ups are the sums of usage', wallet_id::text,
       format('%%s %%s: usage %%s requests, %%s charged; roll-up %%s, %%s', hour, model,
              coalesce(sum(requests) FILTER (WHERE side = 1), 0), coalesce(sum(charged) FILTER (WHERE side = 1), 0),
              coalesce(-sum(requests) FILTER (WHERE side = -1), 0), coalesce(-sum(charged) FILTER (WHERE side = -1), 0))
FROM hourly GROUP BY wallet_id, key_id, user_id, model, provider, hour
HAVING (sum(requests), sum(errors), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),
        sum(cache_write_tokens), sum(reasoning_tokens), sum(cost_pico), sum(charged)) <> (0, 0, 0, 0, 0, 0, 0, 0, 0)
"""

COUNTS = "SELECT (SELECT count(*) FROM billing_wallet), (SELECT count(*) FROM billing_entry)"


class Violation(NamedTuple):
    invariant: str
    subject: str
    detail: str


def violations() -> list[Violation]:
    with connection.cursor() as cursor:
        cursor.execute(VIOLATIONS, [list(CONTRA), list(CONTRA.values()), SWEEPS_ALLOWED * settings.SWEEP_EVERY_S])
        return [Violation(*row) for row in cursor.fetchall()]


def report() -> dict[str, Any]:
    """How much was looked at, and what was found."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS)
        wallets, entries = cursor.fetchone()
    return {"wallets": wallets, "entries": entries, "violations": [found._asdict() for found in violations()]}
