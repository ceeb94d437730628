"""New prices for a route: what changes, shown before it is saved; from when on; and who wanted it.

A price is an immutable version (docs/adr/0008). A change is a new version and the moment from which calls of the route
start with it; calls under way keep theirs. The worker applies future changes within seconds of their time.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import User
from billing.credits.accounts import REASON_CHARACTERS_MAX
from billing.models import Price
from billing.pricing import money
from billing.pricing.classes import NAMES
from common.checks import Invalid, checked_text
from completions.catalog.capabilities import missing_prices
from completions.catalog.models import PriceChange, Route
from completions.catalog.services import price_version


class Line(msgspec.Struct, frozen=True):
    """One class of a price before and after, USD per million tokens or per unit; None: not offered."""

    name: str
    before: Decimal | None
    after: Decimal | None

    @property
    def percent(self) -> Decimal | None:
        """By how much it changes; None where one of them is nothing to compare with."""
        if not self.before or self.after is None:
            return None
        return (self.after - self.before) / self.before * 100


def difference(current: Price | None, usd: Mapping[str, Decimal | None]) -> list[Line]:
    """The classes that change, in the order of the catalog. Tiers are compared by `tiers_differ`."""
    before = current.usd if current else {}
    lines = (Line(name, before.get(name), usd.get(name)) for name in NAMES)
    return [line for line in lines if line.before != line.after]


def tiers_differ(current: Price | None, tiers: Sequence[Mapping[str, Any]]) -> bool:
    return list(current.tiers if current else ()) != list(tiers)


@transaction.atomic
def schedule(
    route_id: int,
    usd: Mapping[str, Decimal | None],
    tiers: Sequence[Mapping[str, Any]],
    *,
    effective_from: datetime,
    reason: str,
    operator: User,
) -> PriceChange:
    """Make the version and give it to the route, now or when its time comes. Raises Invalid, naming the field."""
    route = Route.objects.select_for_update(no_key=True, of=("self",)).select_related("price").get(pk=route_id)
    now = timezone.now()
    figures = checked_figures(route, usd)
    if not difference(route.price, usd) and not tiers_differ(route.price, tiers):
        raise Invalid("price", "is the one that the route has")
    change = PriceChange.objects.create(
        route=route,
        price=price_version(newest(route), figures, [dict(tier) for tier in tiers]),
        effective_from=max(effective_from, now),
        reason=checked_text("reason", reason, REASON_CHARACTERS_MAX),
        requested_by=operator,
    )
    note(change, operator.email, "price.schedule")
    if effective_from <= now:
        apply(change, now, operator.email)
    return change


@transaction.atomic
def cancel(change_id: int, operator: User) -> bool:
    """Take back a change that has not come into force; False if it has, or was taken back before."""
    open_ones = PriceChange.objects.filter(pk=change_id, applied_at=None, cancelled_at=None)
    if not open_ones.update(cancelled_at=timezone.now()):
        return False
    note(PriceChange.objects.get(pk=change_id), operator.email, "price.cancel")
    return True


@transaction.atomic
def apply_due() -> int:
    """Put every price whose time has come in its place, the oldest first; how many. Several at once do no harm."""
    now = timezone.now()
    due = PriceChange.objects.select_for_update(of=("self",), skip_locked=True).filter(
        applied_at=None, cancelled_at=None, effective_from__lte=now
    )
    changes = list(due.order_by("effective_from", "pk"))
    for change in changes:
        apply(change, now, "price changes")
    return len(changes)


def apply(change: PriceChange, now: datetime, actor: str) -> None:
    """The trigger on routes tells every server."""
    Route.objects.filter(pk=change.route_id).update(price=change.price)
    change.applied_at = now
    change.save(update_fields=["applied_at"])
    note(change, actor, "price.apply")


def newest(route: Route) -> Price | None:
    """The version after which the next one is counted: a change that waits has one already."""
    last = route.price_changes.order_by("-price__version").select_related("price").first()
    candidates = [price for price in (route.price, last.price if last else None) if price is not None]
    return max(candidates, key=lambda price: price.version, default=None)


def checked_figures(route: Route, usd: Mapping[str, Decimal | None]) -> dict[str, Decimal]:
    figures = {name: value for name, value in usd.items() if value is not None}
    for name, value in figures.items():
        if name not in NAMES:
            raise Invalid(name, "is no class of a price")
        if not value.is_finite() or value < 0:
            raise Invalid(name, f"must be at least 0, not {value}")
    if missing := missing_prices(route.capabilities, list(figures)):
        raise Invalid(missing[0], "is needed for what the route can do")
    try:
        money.rates_from_usd(dict(figures))
    except ValueError as error:
        raise Invalid("price", str(error)) from None
    return figures


def note(change: PriceChange, actor: str, action: str) -> None:
    audit.record(
        actor,
        action,
        f"route {change.route_id}",
        reason=change.reason,
        price=change.price_id,
        version=change.price.version,
        effective_from=change.effective_from.isoformat(),
    )
