"""New prices: what changes is told before, calls take it from its time on, and the version stays for ever."""

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, User
from billing.models import Price
from common.checks import Invalid
from completions.catalog import price_changes
from completions.models import PriceChange, Route
from tests.kit.catalogs import make_price, make_route

CHEAP = {"input": Decimal("0.40"), "output": Decimal("1.60")}
DEAR = {"input": Decimal("0.50"), "output": Decimal("1.60"), "cache_read": Decimal("0.05")}


def plain_price() -> Price:
    return make_price(**CHEAP, cache_read=None, web_search=None)


@pytest.fixture
def dora(db: None) -> User:
    return User.objects.create_superuser("dora@example.com", "a long enough password")


@pytest.fixture
def route(db: None) -> Route:
    return make_route(price=plain_price(), capabilities=["tools"])


def schedule(route: Route, dora: User, usd: dict[str, Decimal] = DEAR, **more: object) -> PriceChange:
    told = {"effective_from": timezone.now(), "reason": "the provider's new list", **more}
    return price_changes.schedule(route.pk, usd, [], operator=dora, **told)


def figures(route: Route) -> tuple[int, Decimal]:
    route = Route.objects.select_related("price").get(pk=route.pk)
    return route.price.version, route.price.usd["input"]


def test_what_changes_is_told_class_by_class(route):
    told = [(line.name, line.before, line.after, line.percent) for line in price_changes.difference(route.price, DEAR)]
    assert told == [
        ("input", Decimal("0.40"), Decimal("0.50"), Decimal(25)),
        ("cache_read", None, Decimal("0.05"), None),
    ]


def test_a_change_from_now_on_is_a_new_version_at_once(route, dora):
    old = route.price
    change = schedule(route, dora)
    assert figures(route) == (2, Decimal("0.50"))
    assert change.applied_at is not None
    old.refresh_from_db()
    assert (old.version, old.usd["input"]) == (1, Decimal("0.40"))
    assert list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "reason")) == [
        ("dora@example.com", "price.schedule", "the provider's new list"),
        ("dora@example.com", "price.apply", "the provider's new list"),
    ]


def test_a_change_in_the_future_waits_for_its_time(route, dora):
    change = schedule(route, dora, effective_from=timezone.now() + timedelta(hours=1))
    assert price_changes.apply_due() == 0
    assert figures(route) == (1, Decimal("0.40"))
    PriceChange.objects.filter(pk=change.pk).update(effective_from=timezone.now())
    assert price_changes.apply_due() == 1
    assert figures(route) == (2, Decimal("0.50"))
    assert price_changes.apply_due() == 0


def test_two_that_wait_have_two_versions_and_the_later_one_wins(route, dora):
    soon = timezone.now() + timedelta(hours=1)
    schedule(route, dora, effective_from=soon + timedelta(hours=1), usd=CHEAP | {"input": Decimal("0.60")})
    schedule(route, dora, effective_from=soon)
    assert sorted(PriceChange.objects.values_list("price__version", flat=True)) == [2, 3]
    PriceChange.objects.filter(effective_from=soon).update(effective_from=timezone.now() - timedelta(seconds=2))
    PriceChange.objects.filter(effective_from__gt=soon).update(effective_from=timezone.now())
    assert price_changes.apply_due() == 2
    assert figures(route) == (2, Decimal("0.60"))


def test_a_change_that_waits_can_be_taken_back_and_one_in_force_cannot(route, dora):
    change = schedule(route, dora, effective_from=timezone.now() + timedelta(hours=1))
    assert price_changes.cancel(change.pk, dora)
    assert not price_changes.cancel(change.pk, dora)
    PriceChange.objects.filter(pk=change.pk).update(effective_from=timezone.now())
    assert price_changes.apply_due() == 0
    assert not price_changes.cancel(schedule(route, dora).pk, dora)


@pytest.mark.parametrize(
    ("usd", "more", "message"),
    [
        (CHEAP, {}, "price: is the one that the route has"),
        (DEAR, {"reason": " "}, "reason: must not be empty"),
        ({"input": Decimal(1)}, {}, "output: is needed"),
        (DEAR | {"input": Decimal(-1)}, {}, "input: must be at least 0"),
        (DEAR | {"input": Decimal("NaN")}, {}, "input: must be at least 0"),
        (DEAR | {"input": Decimal("0.0000001")}, {}, "price: 1E-7 USD has too many decimals"),
        (DEAR | {"banana": Decimal(1)}, {}, "banana: is no class of a price"),
    ],
)
def test_a_price_that_cannot_be_is_named(route, dora, usd, more, message):
    with pytest.raises(Invalid, match=message):
        schedule(route, dora, usd, **more)
    assert figures(route) == (1, Decimal("0.40"))
    assert not PriceChange.objects.exists()


def test_three_workers_at_once_apply_it_once(live_db):
    dora = User.objects.create_superuser(f"dora-{timezone.now().timestamp()}@example.com", "a long enough password")
    route = make_route(f"race/{timezone.now().timestamp()}", price=plain_price(), capabilities=["tools"])
    change = schedule(route, dora, effective_from=timezone.now() + timedelta(hours=1))
    PriceChange.objects.filter(pk=change.pk).update(effective_from=timezone.now())
    applied = []

    def work() -> None:
        applied.append(price_changes.apply_due())
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [0, 0, 1]
    assert AuditEntry.objects.filter(action="price.apply", target=f"route {route.pk}").count() == 1
