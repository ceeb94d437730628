"""The balance as a line: at the end of each day, down to the day it is empty; gaps are gaps."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing.models import Wallet
from billing.usage.browse import balances_at
from quantized.dashboard.charts import line
from quantized.dashboard.overview import DAYS, DAYS_AHEAD_MAX
from tests.kit.books import do
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import call, text
from tests.kit.tenants import Tenant

NOW = datetime(2026, 5, 10, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock(db: None, monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    return DatabaseClock(NOW - timedelta(days=3))


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def alice(alice: Tenant, clock: DatabaseClock) -> Tenant:
    """Born three days ago with ten credits; used two of them two days ago and one today."""
    Organization.objects.filter(pk=alice.organization_id).update(created_at=clock.now)
    clock.set(NOW - timedelta(days=2))
    call(alice, 2_000_000)
    clock.set(NOW)
    call(alice, 1_000_000)
    return alice


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


# --- The picture ------------------------------------------------------------------------------------


def test_a_line_stands_on_zero_and_breaks_at_gaps():
    found = line([("a", None), ("b", 100), ("c", 50), ("d", None), ("e", 25)])
    assert (found.top, found.bottom) == (100, 0)
    assert found.path == "M300.0 0.0L500.0 100.0M900.0 150.0L900.0 150.0"
    assert found.projection == ""
    assert [point.label for point in found.measured] == ["e", "c", "b"]


def test_the_projection_begins_where_the_line_ends():
    found = line([("a", 100), ("b", 50)], [("c", 25), ("d", 0)])
    assert found.path == "M125.0 0.0L375.0 100.0"
    assert found.projection == "M375.0 100.0L625.0 150.0L875.0 200.0"


def test_a_debt_is_drawn_below_zero():
    found = line([("a", 100), ("b", -100)])
    assert (found.top, found.bottom, found.zero_y) == (100, -100, 100.0)
    assert found.path == "M250.0 0.0L750.0 200.0"


def test_without_a_figure_there_is_no_line():
    assert line([("a", None)]).is_empty
    assert line([]).is_empty


# --- The figures ------------------------------------------------------------------------------------


def test_balances_are_the_ledgers_just_before_each_moment(alice: Tenant):
    born = NOW - timedelta(days=3)
    moments = [born, born + timedelta(microseconds=1), NOW - timedelta(days=1), NOW, NOW + timedelta(seconds=1)]
    assert balances_at(alice.organization_id, moments) == [None, 10_000_000, 8_000_000, 8_000_000, 7_000_000]


def test_days_before_the_organization_are_a_gap_and_not_zeros(alice: Tenant, owner: Client):
    points = owner.get("/").context["balance"].points
    known = [(point.label, point.value) for point in points if not point.is_projected]
    assert len(known) == DAYS
    assert known[:-4] == [(label, None) for label, _ in known[:-4]]
    assert known[-4:] == [
        ("7 May", 10_000_000),
        ("8 May", 8_000_000),
        ("9 May", 8_000_000),
        ("10 May", 7_000_000),
    ]


def test_the_line_goes_on_to_the_day_it_is_empty(alice: Tenant, owner: Client):
    page = owner.get("/")
    outlook = page.context["outlook"]
    ahead = [point for point in page.context["balance"].points if point.is_projected]
    last = date(2026, 5, 10) + timedelta(days=len(ahead))
    assert (ahead[-1].label, ahead[-1].value) == (f"{last:%-d %b}", 0)
    assert abs((last - outlook.empty_on).days) <= 1
    assert f"at this rate empty on {outlook.empty_on:%-d %b %Y}" in text(page)


def test_what_lasts_long_leaves_the_picture(alice: Tenant, owner: Client):
    do(alice.post(1_000_000_000, kind="grant"))
    ahead = [point for point in owner.get("/").context["balance"].points if point.is_projected]
    assert len(ahead) == DAYS_AHEAD_MAX
    assert ahead[-1].value > 900_000_000


def test_an_unlimited_wallet_has_no_empty_day(alice: Tenant, owner: Client):
    Wallet.objects.filter(pk=alice.organization_id).update(unlimited=True)
    assert owner.get("/").context["balance"].projection == ""
