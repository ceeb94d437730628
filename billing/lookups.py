"""What a tenant may read of its own books: balance, a key's windows, the receipt of a call.

Every query starts from the organization: another tenant's id finds nothing. Amounts are micro-credits.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import Sum
from django.utils import timezone

from accounts.models import ApiKey
from billing import kernel, rates
from billing.models import CreditRate, Entry, Hold, Meter, Price, Usage, Wallet

CALL_KINDS = (Entry.Kind.USAGE, Entry.Kind.LATE_USAGE, Entry.Kind.CORRECTION)
GENERATION_PREFIX = "gen-"


class Balance(msgspec.Struct, frozen=True):
    remaining: int | None  # None when unlimited
    held: int
    granted: int
    used: int
    overdraft: int
    unlimited: bool


class Windows(msgspec.Struct, frozen=True):
    """What a key has spent in the running windows; of its limit, what is left and when it starts over."""

    day: int
    week: int
    month: int
    total: int
    limit_remaining: int | None
    limit_resets_at: datetime | None


class Receipt(msgspec.Struct, frozen=True):
    """One call as the books have it; `usage` is None while it runs, or when it ended without a word."""

    hold: Hold
    usage: Usage | None
    price: Price  # of the route that answered, which a fail-over may have changed
    rate: CreditRate  # its cost in credits: / (1 - margin) * credits_per_usd
    status: str
    balance: int  # after the call's last entry; what it is now for a call without one
    corrections: tuple[Entry, ...]
    unlimited: bool


def balance(organization_id: UUID) -> Balance:
    """`granted` is what was put in less what left again without a call: expired, or paid back. So `used` is what calls
    took and nothing else, and `granted - used` is the balance."""
    wallet = Wallet.objects.get(pk=organization_id)
    put_in = Entry.objects.filter(wallet=wallet).exclude(kind__in=CALL_KINDS).aggregate(total=Sum("amount"))
    granted = put_in["total"] or 0
    return Balance(
        remaining=None if wallet.unlimited else wallet.posted,
        held=wallet.held,
        granted=granted,
        used=granted - wallet.posted,
        overdraft=wallet.overdraft,
        unlimited=wallet.unlimited,
    )


def windows(key: ApiKey) -> Windows:
    """Costs a query unless the key was read with `select_related("meter")`."""
    meter: Meter | None = getattr(key, "meter", None)
    starts = kernel.window_starts(timezone.now())
    spent = {window: _running(meter, window, "spent", starts) for window in ("day", "week", "month", "total")}
    remaining = resets_at = None
    if key.limit_micro is not None and key.limit_period is not None:
        held = _running(meter, key.limit_period, "held", starts)
        remaining = key.limit_micro - spent[key.limit_period] - held
        resets_at = _next_start(key.limit_period, starts)
    return Windows(**spent, limit_remaining=remaining, limit_resets_at=resets_at)


def _running(meter: Meter | None, window: str, figure: str, starts: dict[str, datetime]) -> int:
    """A figure of a window, 0 when that window has ended and nothing was used since."""
    if meter is None or (window != "total" and getattr(meter, f"{window}_start") < starts[window]):
        return 0
    return int(getattr(meter, f"{window}_{figure}"))


def _next_start(period: str, starts: dict[str, datetime]) -> datetime | None:
    if period == "total":
        return None
    if period == "month":
        return (starts["month"] + timedelta(days=32)).replace(day=1)
    return starts[period] + timedelta(days={"day": 1, "week": 7}[period])


def receipt(organization_id: UUID, generation_id: str) -> Receipt | None:
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
    return Receipt(
        hold=hold,
        usage=usage,
        price=usage.price if usage else hold.price,
        rate=rates.of(hold),
        status=_status(hold, usage, corrections),
        balance=entries[-1].balance_after if entries else hold.wallet.posted,
        corrections=corrections,
        unlimited=hold.wallet.unlimited,
    )


def generation_id(hold_id: UUID) -> str:
    return GENERATION_PREFIX + hold_id.hex


def hold_id_of(text: str) -> UUID | None:
    hex_digits = text.removeprefix(GENERATION_PREFIX)
    if len(hex_digits) != 32 or hex_digits == text:
        return None
    try:
        return UUID(hex=hex_digits)
    except ValueError:
        return None


def _status(hold: Hold, usage: Usage | None, corrections: tuple[Any, ...]) -> str:
    if corrections:
        return "corrected"
    if hold.charged is not None and usage is not None and usage.estimated:
        return "estimated"
    if hold.state == Hold.State.EXPIRED and hold.charged is not None:
        return "settled"  # late, after its hold had expired
    return str(hold.state)
