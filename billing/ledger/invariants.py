"""The invariants of wallets, entries, holds and meters: what the ledger itself promises."""

from common.invariants import Invariant

SOURCES = """
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
)"""

INVARIANTS = (
    Invariant(
        "balance is the sum of its entries",
        """w.organization_id::text,
       format('posted %%s, entries %%s', w.posted, e.total)
FROM billing_wallet w JOIN summed e ON e.wallet_id = w.organization_id WHERE w.posted <> e.total""",
    ),
    Invariant(
        "seq counts the entries",
        """w.organization_id::text,
       format('seq %%s, entries %%s, highest %%s', w.seq, e.entries, e.last_seq)
FROM billing_wallet w JOIN summed e ON e.wallet_id = w.organization_id
WHERE w.seq <> e.entries OR w.seq <> e.last_seq""",
    ),
    Invariant(
        "held is the sum of open holds",
        """w.organization_id::text,
       format('held %%s, open holds %%s', w.held, coalesce(o.held, 0))
FROM billing_wallet w LEFT JOIN open_hold o ON o.wallet_id = w.organization_id WHERE w.held <> coalesce(o.held, 0)""",
    ),
    Invariant(
        "the chain of balances has no gap",
        """wallet_id::text,
       format('entry %%s: %%s %%s is not %%s', seq, before, to_char(amount, 'FMSG999999999999999999'), balance_after)
FROM chain WHERE balance_after <> before + amount OR seq <> seq_before + 1""",
    ),
    Invariant(
        "an entry names the account of its kind",
        """wallet_id::text,
       format('entry %%s: %%s against %%s', seq, kind, contra)
FROM seen_entry WHERE (kind, contra) NOT IN (SELECT * FROM unnest(%(kinds)s::text[], %(contras)s::text[]))""",
    ),
    Invariant(
        "a settled call has one usage entry of what it was charged",
        """h.id::text,
       format('%%s, charged %%s, entry %%s', h.state, h.charged, c.charged)
FROM seen_hold h LEFT JOIN charge c ON c.hold_id = h.id
WHERE (h.charged IS NOT NULL) <> (c.hold_id IS NOT NULL) OR h.charged <> c.charged OR c.entries > 1
   OR coalesce(c.kind = 'usage', false) <> (h.state = 'settled') OR c.wallet <> h.wallet_id::text""",
    ),
    Invariant(
        "a limited wallet is above its floor",
        """organization_id::text,
       format('posted %%s, held %%s, overdraft %%s', posted, held, overdraft)
FROM billing_wallet WHERE NOT unlimited AND posted - held < -overdraft""",
    ),
    Invariant(
        "a meter is the sum of its windows' holds",
        """m.key_id::text,
       format('day %%s, week %%s, month %%s, total %%s spent and %%s held; holds say %%s, %%s, %%s, %%s and %%s',
              m.day_spent, m.week_spent, m.month_spent, m.total_spent, m.total_held, x.day_spent, x.week_spent,
              x.month_spent, x.total_spent, x.total_held)
FROM billing_meter m JOIN metered x ON x.key_id = m.key_id
WHERE (m.day_spent, m.week_spent, m.month_spent, m.total_spent, m.day_held, m.week_held, m.month_held, m.total_held)
   <> (coalesce(x.day_spent, 0), coalesce(x.week_spent, 0), coalesce(x.month_spent, 0), coalesce(x.total_spent, 0),
       coalesce(x.day_held, 0), coalesce(x.week_held, 0), coalesce(x.month_held, 0), coalesce(x.total_held, 0))""",
    ),
    Invariant(
        "a meter is the sum of its windows' holds",
        """h.key_id::text,
       format('no meter; holds say %%s spent and %%s held', coalesce(sum(h.charged), 0),
              coalesce(sum(h.amount) FILTER (WHERE h.state = 'open'), 0))
FROM seen_hold h LEFT JOIN billing_meter m ON m.key_id = h.key_id
WHERE h.key_id IS NOT NULL AND m.key_id IS NULL GROUP BY h.key_id""",
    ),
    Invariant(
        "no hold outlives its time",
        """id::text, format('expired at %%s', expires_at)
FROM billing_hold WHERE state = 'open' AND expires_at < clock_timestamp() - make_interval(secs => %(sweeps_s)s)""",
    ),
    Invariant(
        "contra accounts sum to the balances",
        """'all', format('entries %%s, balances %%s', e.total, w.total)
FROM (SELECT coalesce(sum(total), 0) AS total FROM summed) e,
     (SELECT coalesce(sum(posted), 0) AS total FROM billing_wallet) w WHERE e.total <> w.total""",
    ),
)
