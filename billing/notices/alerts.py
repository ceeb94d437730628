"""Alerts: a balance that has become low, a budget that is being used up, or another of billing/notices/kinds. Each
crossing is told once.

What was told stands in the rule's own row and is changed by a conditional statement, in one transaction with the
notification: any number of passes may run at once. A pass reads balances, entries at the border of a period and what
was put in since, and keys' meters: never usage rows. A door of this room.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Membership, Organization
from billing.notices import outbox
from billing.notices.kinds import KINDS
from billing.notices.kinds.base import AlertKind, Crossing
from billing.notices.letter import Payload
from billing.notices.models import AlertRule
from billing.notices.webhooks import find_endpoint
from common.checks import Invalid, checked_choice, checked_email
from common.numbers import BIGINT_MAX

logger = logging.getLogger(__name__)

RULES_MAX = 20  # of one organization
ADDRESSES_MAX = 10


def evaluate() -> int:
    """One pass over all rules; how many alerts it gave."""
    for kind in KINDS.values():
        kind.rearm()
    found = [(kind, crossing) for kind in KINDS.values() for crossing in kind.crossings()]
    return sum(fired(kind, crossing) for kind, crossing in found)


def fired(kind: AlertKind, crossing: Crossing) -> bool:
    """The outermost edge of one rule: whatever goes wrong with it, the others are told."""
    try:
        with transaction.atomic():
            figures = crossing.fire()
            if figures is not None:
                tell(crossing.rule_id, kind.event, figures)
    except Exception:
        logger.exception("unexpected failure of alert %s", crossing.rule_id)
        return False
    return figures is not None


def tell(rule_id: UUID, event: str, figures: Payload) -> None:
    rule = AlertRule.objects.get(pk=rule_id)
    outbox.notify(
        rule.organization_id,
        event,
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
    roles: Sequence[str] | None = None,
    addresses: Sequence[str] = (),
    webhook_id: UUID | None = None,
) -> AlertRule:
    """A wish to be told; `kind` is one of billing/notices/kinds, the threshold is in micro-credits.

    `low_balance`: when less than the threshold is available for new calls. `budget`: when the calls of a period (UTC
    day, ISO week, month), of all keys or of one, reach these percentages of the threshold. Without `roles`, the kind's
    own are told. Raises Invalid, naming what is wrong, also when the organization has RULES_MAX rules.
    """
    wanted = checked_rule(organization_id, kind, threshold_micro, period, percents, key_id)
    roles = KINDS[kind].roles if roles is None else roles
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
    checked_choice("kind", kind, list(KINDS))
    if not 0 < threshold_micro <= BIGINT_MAX:
        raise Invalid("threshold", f"must be between 1 and {BIGINT_MAX} micro-credits, not {threshold_micro}")
    own = KINDS[kind].checked(organization_id, period, percents, key_id)
    return {"kind": kind, "threshold_micro": threshold_micro, **own}


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
