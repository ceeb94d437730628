"""What calls cost the operator and nobody pays: each lost call once, with a reason.

Most are derived: what a settlement could not take from its wallet, from the hold, which is its only truth; what a
provider billed before another one answered, from the failed attempt; and what failed at a provider that tells no bill
of one call, from the call. Everything else is a row of `Loss`, written once per call.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from django.db.models import F, Q

from billing.ledger import rates
from billing.ledger.models import Hold
from billing.pricing import money
from billing.reconciliation.models import FailedAttempt, Loss
from billing.usage.models import Usage

WALLET_EXHAUSTED = "wallet_exhausted"
FAILED_ATTEMPT = "failed_attempt"
# Of calls that were begun and never settled. One that is settled after all is no loss any more.
UNSETTLED = (Loss.Reason.NO_REFERENCE, Loss.Reason.UNKNOWN_TO_PROVIDER, Loss.Reason.PROVIDER_SILENT)
# Whose bill will never be known. Who knows nothing of a call does not bill it.
BILL_IS_UNKNOWN = Q(reconciliation=Usage.Reconciliation.NONE) | Q(
    reconciliation=Usage.Reconciliation.GAVE_UP, reconcile_reason=Loss.Reason.PROVIDER_SILENT
)


class Lost(msgspec.Struct, frozen=True):
    hold_id: UUID
    organization_id: UUID
    model: str
    provider: str
    reason: str
    cost_usd: Decimal | None  # what nobody pays; None: the provider did not say
    at: datetime


def note(hold_id: UUID, reason: Loss.Reason, cost_usd: Decimal | None = None) -> bool:
    """Note the loss of a call; False if this call's is noted already."""
    _, is_new = Loss.objects.get_or_create(pk=hold_id, defaults={"reason": reason, "cost_usd": cost_usd})
    return is_new


def losses(since: datetime) -> list[Lost]:
    """All losses of a span, oldest first."""
    found = (*_noted(since), *_shortfalls(since), *_failed_attempts(since), *_of_unknown_cost(since))
    return sorted(found, key=lambda lost: lost.at)


def _noted(since: datetime) -> Iterator[Lost]:
    rows = Loss.objects.filter(noted_at__gte=since).exclude(reason__in=UNSETTLED, hold__charged__isnull=False)
    for loss in rows.select_related("hold"):
        hold = loss.hold
        yield Lost(hold.pk, hold.wallet_id, hold.model, hold.provider, loss.reason, loss.cost_usd, loss.noted_at)


def _shortfalls(since: datetime) -> Iterator[Lost]:
    """Of what the provider billed, once that is known: the call may have cost less than we took it for, or more."""
    rows = Usage.objects.filter(recorded_at__gte=since, hold__charged__lt=F("hold__actual"))
    for usage in rows.select_related("hold__rate"):
        rate = rates.struct(usage.hold)
        billed = usage.billed_cost_usd
        actual = usage.hold.actual if billed is None else rate.micro(money.pico(billed))
        missing = (actual or 0) - usage.charged
        if missing > 0:
            cost_usd = money.usd(rate.affordable_pico(missing))
            yield Lost(
                usage.pk, usage.wallet_id, usage.model, usage.provider, WALLET_EXHAUSTED, cost_usd, usage.recorded_at
            )


def _failed_attempts(since: datetime) -> Iterator[Lost]:
    rows = FailedAttempt.objects.filter(recorded_at__gte=since).filter(Q(billed_cost_usd__gt=0) | BILL_IS_UNKNOWN)
    for row in rows.select_related("hold"):
        hold = row.hold
        yield Lost(
            hold.pk, hold.wallet_id, hold.model, row.provider, FAILED_ATTEMPT, row.billed_cost_usd, row.recorded_at
        )


def _of_unknown_cost(since: datetime) -> Iterator[Lost]:
    """Calls that were not charged and whose provider may bill them without telling us how much: it had begun to
    answer, or it was asked and their client left before it had."""
    voided = Usage.objects.filter(hold__state=Hold.State.VOIDED, hold__resolved_at__gte=since)
    begun = Q(hold__dispatched_at__isnull=False, hold__provider=F("provider")) & BILL_IS_UNKNOWN
    left = Q(cancelled=True, hold__dispatched_at__isnull=True) & ~Q(attempts=[])
    for usage in voided.filter(begun | left).select_related("hold"):
        is_begun = usage.hold.dispatched_at is not None
        reason = Loss.Reason.FAILED_WITHOUT_OUTPUT if is_begun else Loss.Reason.NO_REFERENCE
        yield Lost(usage.pk, usage.wallet_id, usage.model, usage.provider, reason, None, usage.recorded_at)
