"""What calls cost the operator and nobody pays: each lost call once, with a reason.

There are two kinds. What a settlement could not take from its wallet is derived from the hold, which is its only
truth. Everything else is a row of `Loss`, written once per call.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from django.db.models import F

from billing import money, rates
from billing.models import Loss, Usage

WALLET_EXHAUSTED = "wallet_exhausted"
# Of calls that were begun and never settled. One that is settled after all is no loss any more.
UNSETTLED = (Loss.Reason.NO_REFERENCE, Loss.Reason.UNKNOWN_TO_PROVIDER, Loss.Reason.PROVIDER_SILENT)


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
    return sorted((*_noted(since), *_shortfalls(since)), key=lambda lost: lost.at)


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
