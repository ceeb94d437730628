"""What a tenant may read of its own books: balance, a key's windows, the receipt of a call.

Every query starts from the organization: another tenant's id finds nothing. Amounts are micro-credits.
"""

from typing import Any
from uuid import UUID

import msgspec

from billing.ledger import rates
from billing.ledger.models import Entry, Hold
from billing.pricing.models import CreditRate, Price
from billing.usage.models import Usage
from common.ids import hold_id_of


class CallReceipt(msgspec.Struct, frozen=True):
    """One call as the books have it; `usage` is None while it runs, or when it ended without a word."""

    hold: Hold
    usage: Usage | None
    price: Price  # of the route that answered, which a fail-over may have changed
    rate: CreditRate  # its cost in credits: / (1 - margin) * credits_per_usd
    status: str
    balance: int  # after the call's last entry; what it is now for a call without one
    corrections: tuple[Entry, ...]
    unlimited: bool


def receipt(organization_id: UUID, generation_id: str) -> CallReceipt | None:
    """The call with this public id, or None: unknown, malformed, or somebody else's."""
    hold_id = hold_id_of(generation_id)
    if hold_id is None:
        return None
    holds = Hold.objects.filter(pk=hold_id, wallet_id=organization_id)
    # Hold and usage in one statement: a call that is settled meanwhile is seen before it or after it.
    hold = holds.select_related("price", "rate", "wallet", "usage__price").first()
    if hold is None:
        return None
    usage = getattr(hold, "usage", None)
    entries = list(Entry.objects.filter(hold=hold).order_by("seq"))
    corrections = tuple(entry for entry in entries if entry.kind == Entry.Kind.CORRECTION)
    return CallReceipt(
        hold=hold,
        usage=usage,
        price=usage.price if usage else hold.price,
        rate=rates.of(hold),
        status=_status(hold, usage, corrections),
        balance=entries[-1].balance_after if entries else hold.wallet.posted,
        corrections=corrections,
        unlimited=hold.wallet.unlimited,
    )


def _status(hold: Hold, usage: Usage | None, corrections: tuple[Any, ...]) -> str:
    if corrections:
        return "corrected"
    if hold.charged is not None and usage is not None and usage.estimated:
        return "estimated"
    if hold.state == Hold.State.EXPIRED and hold.charged is not None:
        return "settled"  # late, after its hold had expired
    return str(hold.state)
