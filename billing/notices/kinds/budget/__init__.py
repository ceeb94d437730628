"""A budget that is being used up: what the calls of a period cost, of all keys or of one, reaches percentages of the
threshold. Each percentage is told once in a period; a budget stops nothing."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.db import connection

from accounts.models import ApiKey
from billing.notices.kinds.base import AlertKind, Crossing
from billing.notices.kinds.budget.form import form_fields
from billing.notices.letter import Letter, Payload
from billing.notices.models import AlertRule
from common.checks import Invalid, as_uuid, checked_choice
from common.numbers import spelled_credits

PERCENTS_MAX = 10
PERCENT_MAX = 1_000
ADJECTIVES = {"day": "daily", "week": "weekly", "month": "monthly"}

# What an organization has used since the period began: what it had then, plus what was put in, minus what it has. That
# is minus the sum of the period's entries for calls and their corrections, without reading one of them.
SPENDING = """
SELECT r.id, r.threshold_micro, r.percents, r.fired_percent, r.fired_period, r.period, p.start,
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
FIRE = """
UPDATE billing_alertrule SET fired_period = %(start)s, fired_percent = %(percent)s, fired_at = now()
WHERE id = %(rule)s AND enabled AND threshold_micro = %(threshold)s AND (
    fired_period IS NULL OR fired_period < %(start)s OR (fired_period = %(start)s AND fired_percent < %(percent)s))
"""


class Spending(NamedTuple):
    """A budget's rule, what was told of it, and what was used of it by now."""

    rule_id: UUID
    threshold_micro: int
    percents: list[int]
    fired_percent: int
    fired_period: datetime | None
    period: str
    start: datetime
    spent_micro: int
    key_id: UUID | None
    key_name: str | None


class Budget(AlertKind):
    name = "budget"
    event = "budget.reached"
    event_fields = ("budget", "spent", "percent", "percents_crossed", "period", "period_start", "key", "key_name")
    title = "budget"
    noun = "budget"
    threshold_label = "Budget, credits"

    def crossings(self) -> Iterable[Crossing]:
        with connection.cursor() as cursor:
            cursor.execute(SPENDING)
            found = [Spending(*row) for row in cursor.fetchall()]
        return [Crossing(each.rule_id, partial(fire, each)) for each in found if crossed(each)]

    def checked(
        self, organization_id: UUID, period: str | None, percents: Sequence[int], key_id: UUID | None
    ) -> dict[str, Any]:
        if key_id is not None and not ApiKey.objects.filter(organization_id=organization_id, pk=key_id).exists():
            raise Invalid("key", f"there is none with the id {key_id}")
        return {
            "period": checked_choice("period", period or "", AlertRule.Period.values),
            "percents": checked_percents(percents),
            "key_id": key_id,
        }

    def form_fields(self, organization_id: UUID) -> dict[str, forms.Field]:
        return form_fields(organization_id)

    def wanted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"period": given["period"], "percents": given["percents"], "key_id": as_uuid(given["key"])}

    def typed(self, rule: AlertRule) -> dict[str, Any]:
        return {
            "period": rule.period,
            "percents": ", ".join(map(str, rule.percents)),
            "key": str(rule.key_id or ""),
        }

    def letter(self, payload: Payload, organization: str, public_url: str) -> Letter:
        whose = f"The key {payload['key_name'] or payload['key']} of {organization}" if payload["key"] else organization
        spent, budget, period = spelled_credits(payload["spent"]), spelled_credits(payload["budget"]), payload["period"]
        reached = f"{payload['percent']} % of the {ADJECTIVES[period]} budget is used"
        return Letter(
            subject=f"{organization}: {reached}",
            title=reached,
            paragraphs=(
                f"{whose} has used {spent} of a budget of {budget} this {period}.",
                "A budget only tells; it stops nothing. Limits that stop calls are set on keys.",
            ),
            rows=(("Used", spent), ("Budget", budget), ("Since", payload["period_start"])),
            reason=f"You get this because of a budget alert of {organization}; change it at "
            f"{public_url}/billing/alerts.",
            action="Look at the calls",
            url=f"{public_url}/activity?key={payload['key']}" if payload["key"] else f"{public_url}/activity",
        )


def checked_percents(percents: Sequence[int]) -> list[int]:
    found = sorted(set(percents))
    if not found or len(found) > PERCENTS_MAX or not 1 <= found[0] <= found[-1] <= PERCENT_MAX:
        raise Invalid("percents", f"must be 1 to {PERCENTS_MAX} whole numbers between 1 and {PERCENT_MAX}")
    return found


def crossed(spending: Spending) -> list[int]:
    """The percentages that are reached and were not told of in this period. Pure."""
    told = spending.fired_percent if spending.fired_period == spending.start else 0
    return [
        percent
        for percent in spending.percents
        if percent > told and spending.spent_micro * 100 >= spending.threshold_micro * percent
    ]


def fire(spending: Spending) -> Payload | None:
    reached = crossed(spending)
    guard: dict[str, Any] = {
        "rule": spending.rule_id,
        "start": spending.start,
        "percent": reached[-1],
        "threshold": spending.threshold_micro,
    }
    with connection.cursor() as cursor:
        cursor.execute(FIRE, guard)
        if not cursor.rowcount:
            return None
    return {
        "budget": spending.threshold_micro,
        "spent": spending.spent_micro,
        "percent": reached[-1],
        "percents_crossed": reached,
        "period": spending.period,
        "period_start": spending.start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "key": str(spending.key_id) if spending.key_id else None,
        "key_name": spending.key_name,
    }
