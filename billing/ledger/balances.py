from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from django.db.models import Sum
from django.utils import timezone

from accounts.models import ApiKey
from billing.ledger import kernel
from billing.ledger.models import Entry, Meter, Wallet

CALL_KINDS = (Entry.Kind.USAGE, Entry.Kind.LATE_USAGE, Entry.Kind.CORRECTION)


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
