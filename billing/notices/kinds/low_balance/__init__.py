"""A balance that has become low: less than the threshold is left for new calls. It is told once, and again after the
balance was enough."""

from collections.abc import Iterable
from functools import partial
from uuid import UUID

from django.db import connection

from billing.notices.kinds.base import AlertKind, Crossing
from billing.notices.letter import Letter, Payload
from common.numbers import spelled_credits

# A balance that hovers at the threshold, because holds come and go, is told of at most this often.
QUIET_S = 600

LOW = """
SELECT r.id FROM billing_alertrule r JOIN billing_wallet w ON w.organization_id = r.organization_id
WHERE r.kind = 'low_balance' AND r.enabled AND r.armed AND NOT w.unlimited AND w.posted - w.held < r.threshold_micro
  AND (r.fired_at IS NULL OR r.fired_at <= now() - make_interval(secs => %s))
"""
FIRE = """
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


class LowBalance(AlertKind):
    name = "low_balance"
    event = "balance.low"
    event_fields = ("threshold", "available", "balance", "held")
    title = "balance alert"
    noun = "alert"
    threshold_label = "Tell when less is left than, credits"
    disarmed = "told, low now"
    disarmed_hint = "It tells again after the balance was enough"

    def rearm(self) -> None:
        """Rules whose balance is enough again may tell of the next time it is not."""
        with connection.cursor() as cursor:
            cursor.execute(ARM)

    def crossings(self) -> Iterable[Crossing]:
        with connection.cursor() as cursor:
            cursor.execute(LOW, [QUIET_S])
            return [Crossing(rule_id, partial(fire, rule_id)) for (rule_id,) in cursor.fetchall()]

    def letter(self, payload: Payload, organization: str, public_url: str) -> Letter:
        available, threshold = spelled_credits(payload["available"]), spelled_credits(payload["threshold"])
        return Letter(
            subject=f"{organization}: credits are running low",
            title="Credits are running low",
            paragraphs=(
                f"{organization} has {available} left for new calls, which is less than the {threshold} you asked to "
                "be told about.",
                "When they are used up, calls are refused until credits are added.",
            ),
            rows=(("Available", available), ("Your threshold", threshold)),
            reason=f"You get this because of a balance alert of {organization}; change it at "
            f"{public_url}/billing/alerts.",
            action="Add credits",
            url=f"{public_url}/billing",
        )


def fire(rule_id: UUID) -> Payload | None:
    with connection.cursor() as cursor:
        cursor.execute(FIRE, [rule_id])
        fired = cursor.fetchone()
    if fired is None:
        return None  # somebody else was faster, or it is not low any more
    threshold, available, posted, held = fired
    return {"threshold": threshold, "available": available, "balance": posted, "held": held}
