"""What pages show, from roll-ups alone: by day, the dearest first, the operator's totals, providers' health."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from billing.ledger import journal
from billing.oversight import standing
from billing.pricing.money import Usage as Tokens
from billing.usage import figures, rollups
from billing.usage.report import Span
from tests.kit.books import do, make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

TEN = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UTC_ZONE = ZoneInfo("UTC")
WEEK = Span(TEN - 6 * DAY, TEN + DAY, UTC_ZONE)
TOKENS = Tokens(prompt_tokens=100, completion_tokens=20)


@pytest.fixture
def clock() -> DatabaseClock:
    return DatabaseClock(TEN)


def call(tenant: Tenant, charged: int, *, key: Any = None, user_id: int | None = None, **of_receipt: Any) -> Any:
    named: dict[str, Any] = {"usage": TOKENS, "cost_pico": charged * 1_000} | of_receipt
    hold_id = tenant.hold(charged, key=key, user_id=user_id)
    do(tenant.settle(hold_id, charged, key=key, **named))
    return hold_id


def refund(tenant: Tenant, hold_id: Any, micro: int) -> None:
    given = {"actor": "reconciliation", "reason": "too much", "idempotency_key": f"recon:{hold_id}:1"}
    journal.post(tenant.organization_id, "correction", micro, hold_id=hold_id, **given)


def reading_usage(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if "billing_usage " in query["sql"]]


def test_each_day_has_the_corrections_of_the_day_they_were_made(clock: DatabaseClock, alice: Tenant) -> None:
    clock.set(TEN - DAY)
    dear = call(alice, 50)
    clock.set(TEN)
    call(alice, 70, cancelled=True, estimated=True)
    refund(alice, dear, 8)
    rollups.roll_up()
    span = Span(TEN - 2 * DAY, TEN + MINUTE, UTC_ZONE)
    midnights = [TEN.replace(hour=0) + number * DAY for number in (-2, -1, 0, 1)]
    days = [figures.spend(alice.organization_id, Span(start, end, UTC_ZONE)) for start, end in pairwise(midnights)]
    assert days == [
        figures.NO_SPEND,
        figures.Spend(1, 0, 0, 0, 100, 20, 0, 0, 0, 50, 0),
        figures.Spend(1, 0, 1, 1, 100, 20, 0, 0, 0, 62, -8),
    ]
    assert [(day.day, day.totals.credits_used) for day in figures.operator_by_day(span)] == [
        ("2026-11-16", 0),
        ("2026-11-17", 50),
        ("2026-11-18", 62),
    ]
    assert figures.spend(alice.organization_id, span) == figures.Spend(2, 0, 1, 1, 200, 40, 0, 0, 0, 112, -8)


def test_a_day_is_the_zones(clock: DatabaseClock, alice: Tenant) -> None:
    clock.set(TEN.replace(hour=14, minute=59))
    call(alice, 1)
    clock.set(TEN.replace(hour=15))  # midnight in Tokyo
    call(alice, 10)
    rollups.roll_up()
    span = Span(TEN, TEN + 8 * HOUR, ZoneInfo("Asia/Tokyo"))
    found = [(day.day, day.totals.credits_used) for day in figures.operator_by_day(span)]
    assert found == [("2026-11-18", 1), ("2026-11-19", 10)]


def test_the_dearest_models_keys_and_members_come_first(clock: DatabaseClock, alice: Tenant) -> None:
    key = alice.key(name="server")
    bob = User.objects.create_user("bob@example.com", "a long password")
    call(alice, 5, model="small")
    call(alice, 30, model="large", key=key)
    call(alice, 20, model="large", user_id=bob.pk)
    call(Tenant(1_000), 500, model="charlie's")
    rollups.roll_up()
    by_model = [(row.id, row.name, row.spend.credits_used) for row in figures.top(alice.organization_id, WEEK, "model")]
    assert by_model == [("large", "large", 50), ("small", "small", 5)]
    by_key = [(row.id, row.name, row.spend.credits_used) for row in figures.top(alice.organization_id, WEEK, "key")]
    assert by_key == [(str(key), "server", 30), (None, None, 25)]
    by_member = [(row.name, row.spend.requests) for row in figures.top(alice.organization_id, WEEK, "member", limit=2)]
    assert by_member == [(None, 2), ("bob@example.com", 1)]
    assert len(figures.top(alice.organization_id, WEEK, "model", limit=1)) == 1


def test_the_operators_totals_are_those_of_all_tenants(clock: DatabaseClock, alice: Tenant) -> None:
    charlie = Tenant(1_000)
    corrected = call(alice, 300, cost_pico=2_000_000, reported_cost_usd=Decimal("0.0000021"))
    call(charlie, 100, cost_pico=1_000_000, provider="other")
    do(charlie.settle(charlie.hold(50), 2_000))  # 900 are there
    refund(alice, corrected, 20)
    failed = alice.hold(10)
    do(alice.void(failed, receipt=make_receipt(price_id=alice.price_id, error_code="unavailable")))
    rollups.roll_up()
    *before, totals, after = [day.totals for day in figures.operator_by_day(WEEK)]
    assert {*before, after} == {figures.NO_TOTALS}
    assert totals == figures.Totals(
        requests=4,
        errors=1,
        cancelled=0,
        estimated=0,
        credits_used=300 + 100 + 900 - 20,
        corrections=-20,
        loss_micro=1_100,
        cost_pico=3_000_000,
        reported=1,
        reported_expected_pico=2_000_000,
        reported_cost_pico=2_100_000,
    )
    assert totals.cost_micro == 300
    assert totals.margin_micro == 980
    assert [(cost.provider, cost.cost_pico, cost.reported_cost_pico) for cost in figures.costs(WEEK)] == [
        ("sandbox", 2_000_000, 2_100_000),
        ("other", 1_000_000, 0),
    ]


def test_all_tenants_together_may_be_more_than_a_bigint_holds(clock: DatabaseClock) -> None:
    """9,223,372 USD of picodollars, or 10,000 tenants with a thousand million credits each."""
    for name in ("sandbox", "other"):
        tenant = Tenant(9 * 10**18)
        call(tenant, 1, provider=name, cost_pico=9 * 10**18, reported_cost_usd=Decimal(9_000_000))
    rollups.roll_up()
    totals = figures.operator_by_day(WEEK)[-2].totals
    assert (totals.cost_pico, totals.reported_cost_pico) == (18 * 10**18, 18 * 10**18)
    assert [cost.cost_pico for cost in figures.costs(WEEK)] == [9 * 10**18] * 2
    assert standing.standing(TEN - DAY).outstanding_micro == 2 * (9 * 10**18 - 1)


def test_health_counts_the_attempts_after_which_another_provider_answered(clock: DatabaseClock, alice: Tenant) -> None:
    tried = [
        {"provider": "shaky", "outcome": "unavailable", "milliseconds": 40},
        {"provider": "sandbox", "outcome": "ok", "milliseconds": 100},
    ]
    call(alice, 1, attempts=tuple(tried), first_token_ms=30, latency_ms=150)
    call(alice, 1, attempts=({"provider": "sandbox", "outcome": "refused", "milliseconds": 5},), latency_ms=51)
    skipped = ({"provider": "shaky", "outcome": "circuit_open", "milliseconds": 0}, tried[1])
    call(alice, 1, attempts=skipped, first_token_ms=50, latency_ms=102)
    rollups.roll_up()
    sandbox, shaky = figures.provider_health(WEEK)
    assert sandbox == figures.Health("sandbox/echo", "sandbox", 3, 0, 60, 3, 0, 0, 40, 101)
    assert sandbox.uptime == 1.0
    assert shaky == figures.Health("sandbox/echo", "shaky", 0, 0, 0, 2, 1, 1, None, None)
    assert shaky.uptime == 0.0
    assert figures.provider_health(WEEK, model="another") == []


def test_no_report_reads_a_usage_row_and_each_is_a_query_or_two(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50, key=alice.key())
    rollups.roll_up()
    with CaptureQueriesContext(connection) as queries:
        figures.spend(alice.organization_id, WEEK)
        figures.top(alice.organization_id, WEEK, "model")
        figures.operator_by_day(WEEK)
        figures.provider_health(WEEK)
        figures.costs(WEEK)
        figures.as_of()
    assert len(queries) == 6
    with CaptureQueriesContext(connection) as more:
        figures.top(alice.organization_id, WEEK, "key")
    assert len(more) == 2
    assert reading_usage(queries) == reading_usage(more) == []


def test_charlie_sees_nothing_of_alices(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, 50)
    rollups.roll_up()
    charlie = Tenant(100)
    assert figures.spend(charlie.organization_id, WEEK) == figures.NO_SPEND
    assert figures.top(charlie.organization_id, WEEK, "model") == []


def test_figures_say_how_old_they_are(clock: DatabaseClock, alice: Tenant) -> None:
    assert figures.as_of() is None
    rollups.roll_up()
    assert figures.as_of() == TEN - 2 * MINUTE
