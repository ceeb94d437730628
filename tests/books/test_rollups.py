"""Usage by the hour, computed anew and never twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import RollUpState, UsageHour
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from billing.usage import rollups
from tests.kit.books import at_once, do, make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

TEN = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FIGURES = (
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_pico",
    "charged",
)
TOKENS = Tokens(
    prompt_tokens=100,
    completion_tokens=20,
    cached_tokens=7,
    cache_write_5m_tokens=5,
    cache_write_1h_tokens=6,
    reasoning_tokens=3,
)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(TEN)


def call(tenant: Tenant, charged: int = 50, **of_receipt: Any) -> None:
    named: dict[str, Any] = {"usage": TOKENS, "cost_pico": 1_000} | of_receipt
    do(tenant.settle(tenant.hold(charged), charged, **named))


def hours() -> dict[datetime, tuple[int, ...]]:
    return {row.hour: tuple(getattr(row, name) for name in FIGURES) for row in UsageHour.objects.all()}


def through() -> datetime:
    return RollUpState.objects.get().through


def test_an_hour_is_the_sum_of_its_calls(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    clock.set(TEN + 59 * MINUTE)
    call(alice, 70, estimated=True)
    failed = alice.hold(10)
    do(alice.void(failed, receipt=make_receipt(price_id=alice.price_id, error_code="provider_unavailable")))
    clock.set(TEN + HOUR)
    call(alice, 90)
    assert rollups.roll_up() == 2
    assert hours() == {
        TEN: (3, 1, 200, 40, 14, 22, 6, 2_000, 120),
        TEN + HOUR: (1, 0, 100, 20, 7, 11, 3, 1_000, 90),
    }
    assert verifier.violations() == []


def test_there_is_a_row_for_each_organization_key_model_and_provider(clock: DatabaseClock, alice: Tenant) -> None:
    key, charlie = alice.key(), Tenant(1_000)
    call(alice)
    call(alice, model="sandbox/other")
    call(alice, provider="openrouter")
    call(charlie)
    do(alice.settle(alice.hold(50, key=key), 50, key=key))
    assert rollups.roll_up() == 5
    found = UsageHour.objects.values_list("wallet_id", "key_id", "model", "provider", "requests")
    assert set(found) == {
        (alice.organization_id, None, "sandbox/echo", "sandbox", 1),
        (alice.organization_id, None, "sandbox/other", "sandbox", 1),
        (alice.organization_id, None, "sandbox/echo", "openrouter", 1),
        (charlie.organization_id, None, "sandbox/echo", "sandbox", 1),
        (alice.organization_id, key, "sandbox/echo", "sandbox", 1),
    }


def test_rolling_up_again_changes_nothing(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice)
    rollups.roll_up()
    before = hours()
    assert rollups.roll_up() == 0, "what has not changed is not written"
    assert hours() == before
    assert UsageHour.objects.count() == 1


def test_the_running_hour_is_computed_anew(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    rollups.roll_up()
    clock.set(TEN + 30 * MINUTE)
    call(alice, 70)
    rollups.roll_up()
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN: 120}


def test_an_hour_is_final_once_a_later_one_was_rolled_up(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    clock.set(TEN + HOUR + 3 * MINUTE)
    assert rollups.roll_up() == 1
    assert through() == TEN + HOUR + MINUTE
    clock.set(TEN + HOUR + 4 * MINUTE)
    call(alice, 70)
    assert rollups.roll_up() == 1, "only the hour that still runs is written again"
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN: 50, TEN + HOUR: 70}


def test_a_row_that_was_committed_late_is_still_counted(clock: DatabaseClock, alice: Tenant) -> None:
    """A batch that read its clock just before the full hour, and committed after the roll-up looked."""
    call(alice, 50)
    clock.set(TEN + HOUR + MINUTE)
    rollups.roll_up()
    assert through() == TEN + 59 * MINUTE
    clock.set(TEN + HOUR - timedelta(milliseconds=1))
    call(alice, 70)
    clock.set(TEN + HOUR + 10 * MINUTE)
    rollups.roll_up()
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN: 120}
    assert verifier.violations() == []


def test_before_any_call_nothing_is_counted_on_to_be_complete(clock: DatabaseClock) -> None:
    assert rollups.roll_up() == 0
    assert through() == TEN - 2 * MINUTE


def test_the_first_call_may_commit_late_too(clock: DatabaseClock, alice: Tenant) -> None:
    rollups.roll_up()
    clock.set(TEN - timedelta(milliseconds=1))
    call(alice, 70)
    clock.set(TEN + 10 * MINUTE)
    rollups.roll_up()
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN - HOUR: 70}


def test_a_clock_that_steps_back_leaves_what_is_final(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    clock.set(TEN + 2 * HOUR)
    rollups.roll_up()
    clock.set(TEN + HOUR)
    rollups.roll_up()
    assert through() == TEN + 2 * HOUR - 2 * MINUTE
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN: 50}


def test_many_hours_at_once_after_a_rest(clock: DatabaseClock, alice: Tenant) -> None:
    for hour in range(30):
        clock.set(TEN + hour * HOUR)
        call(alice, hour)
    assert rollups.roll_up() == 30
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN + hour * HOUR: hour for hour in range(30)}


def test_a_long_rest_is_made_up_for_a_day_at_a_time(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    rollups.roll_up()
    clock.set(TEN + 71 * HOUR)
    call(alice, 70)
    with CaptureQueriesContext(connection) as queries:
        assert rollups.roll_up() == 1
    assert sum("pg_advisory_xact_lock" in query["sql"] for query in queries) == 3
    assert through() == TEN + 71 * HOUR - 2 * MINUTE
    assert {hour: row[-1] for hour, row in hours().items()} == {TEN: 50, TEN + 71 * HOUR: 70}
    assert verifier.violations() == []


def test_three_roll_ups_at_once_count_once(live_db: None) -> None:
    tenant = Tenant(1_000)
    for _ in range(5):
        call(tenant, 50)
    at_once([rollups.roll_up] * 3)
    found = UsageHour.objects.filter(wallet_id=tenant.organization_id)
    assert sum(row.requests for row in found) == 5
    assert sum(row.charged for row in found) == 250
    assert verifier.violations() == []
