"""A key's own limit of a UTC day, an ISO week, a month or for good: nothing a key does gets past it."""

import pytest

from accounts.models import ApiKey
from billing.oversight import verifier
from tests.kit.calls import (
    CHARGE_MICRO,
    HOLD_MICRO,
    ask,
    assert_insufficient_credits,
    call,
    holds,
    in_flight,
    stream,
    wallet,
)
from tests.kit.tenants import Tenant

LIMIT_MICRO = HOLD_MICRO + 2 * CHARGE_MICRO


@pytest.fixture
def upstream(sandbox):
    sandbox.reset()
    yield sandbox
    assert verifier.violations() == []


def with_limit(tenant, period="day", limit_micro=LIMIT_MICRO) -> Tenant:
    """The tenant, calling with a key of its own limit."""
    return tenant.with_key(limit_micro=limit_micro, limit_period=period)


def key_of(server, tenant):
    return call(server, "GET", "/v1/key", tenant.headers).json


@pytest.mark.parametrize("period", ["day", "week", "month", "total"])
def test_a_key_stops_at_its_limit_and_the_organization_goes_on(gateway, upstream, alice, period):
    limited = with_limit(alice, period)
    for left in (LIMIT_MICRO - CHARGE_MICRO, LIMIT_MICRO - 2 * CHARGE_MICRO, LIMIT_MICRO - 3 * CHARGE_MICRO):
        assert ask(gateway, limited).status == 200
        assert key_of(gateway, limited)["limit_remaining"] == left
    for request in (ask, stream):
        assert_insufficient_credits(request(gateway, limited), HOLD_MICRO, HOLD_MICRO - CHARGE_MICRO, 113, "key_limit")
    told = key_of(gateway, limited)
    assert told["usage"] == dict.fromkeys(("day", "week", "month", "total"), 3 * CHARGE_MICRO)
    assert (told["limit"], told["limit_period"]) == (LIMIT_MICRO, period)
    assert (told["limit_resets_at"] is None) is (period == "total")
    assert ask(gateway, alice).status == 200
    assert upstream.counters["received"] == 4
    assert wallet(alice) == (1_000_000 - 4 * CHARGE_MICRO, 0)


def test_calls_under_way_count(gateway, upstream, alice):
    limited = with_limit(alice, limit_micro=2 * HOLD_MICRO - 1)
    with in_flight(gateway, upstream, limited):
        assert key_of(gateway, limited)["limit_remaining"] == HOLD_MICRO - 1
        assert_insufficient_credits(ask(gateway, limited), HOLD_MICRO, HOLD_MICRO - 1, 127, "key_limit")
    assert ask(gateway, limited).status == 200


def test_without_a_bound_it_shrinks_to_what_the_limit_covers(gateway, upstream, alice):
    limited = with_limit(alice, limit_micro=100_000)
    assert ask(gateway, limited, max_tokens=None).status == 200
    assert [seen.max_tokens for seen in upstream.calls] == [578]
    assert [hold.amount for hold in holds(alice)] == [100_000]


def test_the_lower_of_limit_and_balance_is_the_one_that_counts(gateway, upstream, alice):
    limited = with_limit(alice, limit_micro=2_000_000)
    assert ask(gateway, limited, max_tokens=None).status == 200
    assert [hold.amount for hold in holds(alice)] == [1_000_000]


def test_a_lowered_limit_holds_for_the_next_request(gateway, upstream, alice):
    assert ask(gateway, alice).status == 200
    ApiKey.objects.filter(pk=alice.key_id).update(limit_micro=CHARGE_MICRO + 100, limit_period="total")
    assert_insufficient_credits(ask(gateway, alice), HOLD_MICRO, 100, 0, "key_limit")
    ApiKey.objects.filter(pk=alice.key_id).update(limit_micro=1, limit_period="total")
    assert_insufficient_credits(ask(gateway, alice), HOLD_MICRO, 0, 0, "key_limit")
    ApiKey.objects.filter(pk=alice.key_id).update(limit_micro=None, limit_period=None)
    assert ask(gateway, alice).status == 200
    assert upstream.counters["received"] == 2


def test_a_provider_that_reports_too_much_uses_the_limit_up(gateway, upstream, alice):
    limited = with_limit(alice, limit_micro=HOLD_MICRO)
    assert ask(gateway, limited, "completion=1000").usage["credits_used"] == 169_474
    assert key_of(gateway, limited)["limit_remaining"] <= 0
    assert_insufficient_credits(ask(gateway, limited), HOLD_MICRO, 0, 0, "key_limit")
