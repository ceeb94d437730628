"""Alerts: a balance that has become low, a budget that is being used up. Each crossing is told once.

What was told stands in the rule's own row and is changed by a conditional statement, in one transaction with the
notification: any number of passes may run at once. A pass reads balances, entries at the border of a period and what
was put in since, and keys' meters: never usage rows. A door of this room.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction

from accounts.models import ApiKey, Membership, Organization
from billing.notices import outbox
from billing.notices.models import AlertRule
from billing.notices.webhooks import find_endpoint
from common.checks import BIGINT_MAX, Invalid, checked_choice, checked_email

logger = logging.getLogger(__name__)

RULES_MAX = 20  # of one organization
ADDRESSES_MAX = 10
PERCENTS_MAX = 10
PERCENT_MAX = 1_000
# A balance that hovers at the threshold, because holds come and go, is told of at most this often.
QUIET_S = 600

LOW = """
SELECT r.id FROM billing_alertrule r JOIN billing_wallet w ON w.organization_id = r.organization_id
WHERE r.kind = 'low_balance' AND r.enabled AND r.armed AND NOT w.unlimited AND w.posted - w.held < r.threshold_micro
  AND (r.fired_at IS NULL OR r.fired_at <= now() - make_interval(secs => %s))
"""
FIRE_LOW = """
UPDATE billing_alertrule r SET armed = false, fired_at = now() FROM billing_wallet w
WHERE r.id = %s AND w.organization_id = r.organization_id
  AND r.enabled AND r.armed AND NOT w.unlimited AND w.posted - w.held < r.threshold_micro
RETURNING r.threshold_micro, w.posted - w.held, w.posted, w.held
"""
ARM = """
UPDATE billing_alertrule r SET armed = true FROM billing_wallet w
WHERE r.kind = 'low_balance' AND r.enabled AND NOT r.armed AND w.organization_id = r.organization_id
  AND (w.unlimited OR w.posted - w.held >= r.threshold_micro)
"""

# What an organization has used since the period began: what it had then, plus what was put in, minus what it has. That
# is minus the sum of the period's entries for calls and their corrections, without reading one of them.
BUDGETS = """
SELECT r.id, r.organization_id, r.threshold_micro, r.percents, r.fired_percent, r.fired_period, r.period, p.start,
       CASE WHEN r.key_id IS NULL THEN opening.balance + put_in.amount - w.posted
            WHEN r.period = 'day' AND m.day_start = p.start THEN m.day_spent
            WHEN r.period = 'week' AND m.week_start = p.start THEN m.week_spent
            WHEN r.period = 'month' AND m.month_start = p.start THEN m.month_spent
            ELSE 0 END, r.key_id, k.name
FROM billing_alertrule r
JOIN billing_wallet w ON w.organization_id = r.organization_id
LEFT JOIN billing_meter m ON m.key_id = r.key_id
LEFT JOIN accounts_apikey k ON k.id = r.key_id
CROSS JOIN LATERAL (SELECT date_trunc(r.period, now(), 'UTC') AS start) p
CROSS JOIN LATERAL (SELECT coalesce((
    SELECT e.balance_after FROM billing_entry e WHERE e.wallet_id = r.organization_id AND e.created_at < p.start
    ORDER BY e.created_at DESC, e.seq DESC LIMIT 1), 0) AS balance) opening
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount), 0)::bigint AS amount FROM billing_entry e
    WHERE e.wallet_id = r.organization_id AND NOT (e.kind IN ('usage', 'late_usage', 'correction'))
      AND e.created_at >= p.start) put_in
WHERE r.kind = 'budget' AND r.enabled
"""
FIRE_BUDGET = """
UPDATE billing_alertrule SET fired_period = %(start)s, fired_percent = %(percent)s, fired_at = now()
WHERE id = %(rule)s AND enabled AND threshold_micro = %(threshold)s AND (
    fired_period IS NULL OR fired_period < %(start)s OR (fired_period = %(start)s AND fired_percent < %(percent)s))
"""


class Budget(NamedTuple):
    """A budget's rule, what was told of it, and what was used of it by now."""

    rule_id: UUID
    organization_id: UUID
    threshold_micro: int
    percents: list[int]
    fired_percent: int
    fired_period: datetime | None
    period: str
    start: datetime
    spent_micro: int
    key_id: UUID | None
    key_name: str | None


def evaluate() -> int:
    """One pass over all rules; how many alerts it gave."""
    arm()
    jobs = [
        *((rule_id, partial(fire_low, rule_id)) for rule_id in low_balances()),
        *((budget.rule_id, partial(fire_budget, budget)) for budget in budgets() if crossed(budget)),
    ]
    return sum(fired(*job) for job in jobs)


def fired(rule_id: UUID, fire: Callable[[], bool]) -> bool:
    """The outermost edge of one rule: whatever goes wrong with it, the others are told."""
    try:
        return fire()
    except Exception:
        logger.exception("unexpected failure of alert %s", rule_id)
        return False


# --- Low balance ------------------------------------------------------------------------------------


def arm() -> None:
    """Rules whose balance is enough again may tell of the next time it is not."""
    with connection.cursor() as cursor:
        cursor.execute(ARM)


def low_balances() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(LOW, [QUIET_S])
        return [rule_id for (rule_id,) in cursor.fetchall()]


def fire_low(rule_id: UUID) -> bool:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FIRE_LOW, [rule_id])
        fired = cursor.fetchone()
        if fired is None:
            return False  # somebody else was faster, or it is not low any more
        threshold, available, posted, held = fired
        figures = {"threshold": threshold, "available": available, "balance": posted, "held": held}
        tell(rule_id, "balance.low", figures)
    return True


# --- Budgets ----------------------------------------------------------------------------------------


def budgets() -> list[Budget]:
    with connection.cursor() as cursor:
        cursor.execute(BUDGETS)
        return [Budget(*row) for row in cursor.fetchall()]


def crossed(budget: Budget) -> list[int]:
    """The percentages that are reached and were not told of in this period. Pure."""
    told = budget.fired_percent if budget.fired_period == budget.start else 0
    return [
        percent
        for percent in budget.percents
        if percent > told and budget.spent_micro * 100 >= budget.threshold_micro * percent
    ]


def fire_budget(budget: Budget) -> bool:
    reached = crossed(budget)
    guard: dict[str, Any] = {
        "rule": budget.rule_id,
        "start": budget.start,
        "percent": reached[-1],
        "threshold": budget.threshold_micro,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FIRE_BUDGET, guard)
        if not cursor.rowcount:
            return False
        tell(budget.rule_id, "budget.reached", figures_of(budget, reached))
    return True


def figures_of(budget: Budget, reached: list[int]) -> dict[str, Any]:
    return {
        "budget": budget.threshold_micro,
        "spent": budget.spent_micro,
        "percent": reached[-1],
        "percents_crossed": reached,
        "period": budget.period,
        "period_start": budget.start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "key": str(budget.key_id) if budget.key_id else None,
        "key_name": budget.key_name,
    }


def tell(rule_id: UUID, kind: str, figures: Mapping[str, Any]) -> None:
    rule = AlertRule.objects.get(pk=rule_id)
    outbox.notify(
        rule.organization_id,
        kind,
        {"rule": str(rule.pk), **figures},
        roles=rule.roles,
        addresses=rule.addresses,
        webhook_ids=[rule.webhook_id] if rule.webhook_id else [],
    )


# --- The rules --------------------------------------------------------------------------------------


def rules_of(organization_id: UUID) -> list[AlertRule]:
    rules = AlertRule.objects.filter(organization_id=organization_id)
    return list(rules.select_related("webhook", "key").order_by("created_at"))


def find_rule(organization_id: UUID, rule_id: UUID) -> AlertRule:
    found = AlertRule.objects.filter(organization_id=organization_id, pk=rule_id).first()
    if found is None:
        raise Invalid("rule", f"there is none with the id {rule_id}")
    return found


@transaction.atomic
def create_rule(
    organization_id: UUID,
    kind: str,
    threshold_micro: int,
    *,
    period: str | None = None,
    percents: Sequence[int] = (100,),
    key_id: UUID | None = None,
    roles: Sequence[str] = outbox.MONEY_ROLES,
    addresses: Sequence[str] = (),
    webhook_id: UUID | None = None,
) -> AlertRule:
    """`low_balance`: tell when less than the threshold is available for new calls. `budget`: tell when the calls of a
    period (UTC day, ISO week, month), of all keys or of one, reach these percentages of the threshold."""
    wanted = checked_rule(organization_id, kind, threshold_micro, period, percents, key_id)
    receivers = checked_receivers(organization_id, roles, addresses, webhook_id)
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)  # two at once are counted one by one
    if AlertRule.objects.filter(organization_id=organization_id).count() >= RULES_MAX:
        raise Invalid("rule", f"an organization has at most {RULES_MAX}")
    return AlertRule.objects.create(organization_id=organization_id, **wanted, **receivers)


@transaction.atomic
def change_rule(organization_id: UUID, rule_id: UUID, changes: Mapping[str, Any]) -> AlertRule:
    """Takes what create_rule takes (but the kind), and `enabled`; only what is named changes. Another threshold,
    period, key or other percentages begin anew: what is reached is told again."""
    find_rule(organization_id, rule_id)
    rule = AlertRule.objects.select_for_update(no_key=True).get(pk=rule_id)
    unknown = set(changes) - {*WATCHED, *RECEIVERS, "enabled"}
    if unknown:
        raise Invalid(min(unknown), "cannot be changed")
    now = {name: changes.get(name, getattr(rule, name)) for name in (*WATCHED, *RECEIVERS)}
    wanted = checked_rule(organization_id, rule.kind, *(now[name] for name in WATCHED))
    wanted |= checked_receivers(organization_id, *(now[name] for name in RECEIVERS))
    wanted["enabled"] = bool(changes.get("enabled", rule.enabled))
    if any(name in changes for name in WATCHED) or (wanted["enabled"] and not rule.enabled):
        wanted |= {"armed": True, "fired_at": None, "fired_period": None, "fired_percent": 0}
    AlertRule.objects.filter(pk=rule.pk).update(**wanted)
    return find_rule(organization_id, rule_id)


def delete_rule(organization_id: UUID, rule_id: UUID) -> None:
    find_rule(organization_id, rule_id).delete()


WATCHED = ("threshold_micro", "period", "percents", "key_id")
RECEIVERS = ("roles", "addresses", "webhook_id")


def checked_rule(
    organization_id: UUID,
    kind: str,
    threshold_micro: int,
    period: str | None,
    percents: Sequence[int],
    key_id: UUID | None,
) -> dict[str, Any]:
    checked_choice("kind", kind, AlertRule.Kind.values)
    if not 0 < threshold_micro <= BIGINT_MAX:
        raise Invalid("threshold", f"must be between 1 and {BIGINT_MAX} micro-credits, not {threshold_micro}")
    if kind == AlertRule.Kind.LOW_BALANCE:
        if period is not None or key_id is not None:
            raise Invalid("period" if period is not None else "key", "is for budgets only")
        return {"kind": kind, "threshold_micro": threshold_micro, "period": None, "percents": [], "key_id": None}
    if key_id is not None and not ApiKey.objects.filter(organization_id=organization_id, pk=key_id).exists():
        raise Invalid("key", f"there is none with the id {key_id}")
    return {
        "kind": kind,
        "threshold_micro": threshold_micro,
        "period": checked_choice("period", period or "", AlertRule.Period.values),
        "percents": checked_percents(percents),
        "key_id": key_id,
    }


def checked_percents(percents: Sequence[int]) -> list[int]:
    found = sorted(set(percents))
    if not found or len(found) > PERCENTS_MAX or not 1 <= found[0] <= found[-1] <= PERCENT_MAX:
        raise Invalid("percents", f"must be 1 to {PERCENTS_MAX} whole numbers between 1 and {PERCENT_MAX}")
    return found


def checked_receivers(
    organization_id: UUID, roles: Sequence[str], addresses: Sequence[str], webhook_id: UUID | None
) -> dict[str, Any]:
    if not roles and not addresses and webhook_id is None:
        raise Invalid("roles", "must name somebody, unless there are addresses or a webhook")
    if len(addresses) > ADDRESSES_MAX:
        raise Invalid("addresses", f"must be at most {ADDRESSES_MAX}")
    if webhook_id is not None:
        find_endpoint(organization_id, webhook_id)
    return {
        "roles": [checked_choice("roles", role, Membership.Role.values) for role in dict.fromkeys(roles)],
        "addresses": list(dict.fromkeys(map(checked_email, addresses))),
        "webhook_id": webhook_id,
    }
