"""What a wallet affords: the hold before a call, the bound that shrinks to the balance, the 402 with its figures.

The request is 61 estimated tokens; gpt-4.1-mini costs 0.40 and 1.60 USD per million: n output tokens
are held at (61 × 0.40 + n × 1.60) / 0.95 × 100 micro-credits, rounded up.
"""

import pytest

from billing.oversight import verifier
from tests.kit import MODEL
from tests.kit.calls import (
    CHARGE_MICRO,
    HOLD_MICRO,
    ask,
    assert_insufficient_credits,
    call,
    holds,
    in_flight,
    stream,
    usage_of,
    wallet,
)
from tests.kit.tenants import make_tenant

FLOOR_MICRO = 45_685  # for 256 output tokens
ALL_MICRO = 5_521_390  # for 32,768, the model's maximum


@pytest.fixture
def upstream(live_db, sandbox):
    sandbox.reset()
    yield sandbox
    assert verifier.violations() == []


def credits(server, tenant):
    return call(server, "GET", "/v1/credits", tenant.headers).json


def test_an_empty_wallet_affords_nothing(gateway, upstream):
    bob = make_tenant(0)
    for request in (ask, stream):
        assert_insufficient_credits(request(gateway, bob), HOLD_MICRO, 0, 0)
        assert_insufficient_credits(request(gateway, bob, max_tokens=None), FLOOR_MICRO, 0, 0)
    assert upstream.counters["received"] == 0
    assert (wallet(bob), holds(bob)) == ((0, 0), [])


def test_a_bound_that_was_named_is_kept_or_refused(gateway, upstream):
    bob = make_tenant(10_000)
    for name in ("max_tokens", "max_completion_tokens"):
        assert_insufficient_credits(ask(gateway, bob, **{"max_tokens": None, name: 128}), HOLD_MICRO, 10_000, 44)
        assert_insufficient_credits(ask(gateway, bob, **{"max_tokens": None, name: 45}), 10_148, 10_000, 44)
    assert upstream.counters["received"] == 0
    answer = ask(gateway, bob, max_tokens=44)
    assert (answer.status, answer.usage["credits_used"], answer.usage["credits_remaining"]) == (200, 2_400, 7_600)
    assert [(hold.amount, hold.charged) for hold in holds(bob)] == [(9_979, 2_400)]
    assert [seen.max_tokens for seen in upstream.calls] == [44]


def test_a_wallet_that_affords_the_call_to_the_last_micro_credit_answers_it(gateway, upstream):
    assert_insufficient_credits(ask(gateway, make_tenant(HOLD_MICRO - 1)), HOLD_MICRO, HOLD_MICRO - 1, 127)
    bob = make_tenant(HOLD_MICRO)
    answer = ask(gateway, bob)
    assert answer.usage["credits_remaining"] == HOLD_MICRO - CHARGE_MICRO
    assert_insufficient_credits(ask(gateway, bob), HOLD_MICRO, HOLD_MICRO - CHARGE_MICRO, 113)
    assert upstream.counters["received"] == 1


def test_without_a_bound_the_models_maximum_is_held(gateway, upstream):
    bob = make_tenant(ALL_MICRO)
    for request in (ask, stream):
        assert request(gateway, bob, max_tokens=None).status == 200
    [first, second] = holds(bob)
    assert (first.amount, second.amount) == (ALL_MICRO, ALL_MICRO - CHARGE_MICRO)
    assert [seen.max_tokens for seen in upstream.calls] == [32_768, 32_753]


def test_without_a_bound_it_shrinks_to_what_the_balance_covers(gateway, upstream, alice):
    for request in (ask, stream):
        assert request(gateway, alice, max_tokens=None).status == 200
    assert [seen.max_tokens for seen in upstream.calls] == [5_922, 5_908]
    assert [(hold.amount, hold.charged) for hold in holds(alice)] == [(1_000_000, 2_400), (997_600, 2_400)]


def test_it_shrinks_to_the_floor_and_no_further(gateway, upstream):
    assert_insufficient_credits(
        ask(gateway, make_tenant(FLOOR_MICRO - 1), max_tokens=None), FLOOR_MICRO, FLOOR_MICRO - 1, 255
    )
    bob = make_tenant(FLOOR_MICRO)
    assert ask(gateway, bob, max_tokens=None).usage["credits_remaining"] == FLOOR_MICRO - CHARGE_MICRO
    assert [seen.max_tokens for seen in upstream.calls] == [256]


def test_the_shrunk_bound_is_what_the_answer_keeps_to(gateway, upstream):
    bob = make_tenant(FLOOR_MICRO)
    answer = ask(gateway, bob, "tokens=1000", max_tokens=None)
    assert answer.json["choices"][0]["finish_reason"] == "length"
    usage = answer.usage
    assert (usage["completion_tokens"], usage["credits_used"], usage["credits_remaining"]) == (256, 44_169, 1_516)


def test_what_is_held_shows_while_a_call_runs_and_is_not_there_for_another(gateway, upstream):
    bob = make_tenant(HOLD_MICRO + 10_000)
    with in_flight(gateway, upstream, bob):
        assert credits(gateway, bob) == {
            "object": "credits",
            "credits_remaining": HOLD_MICRO + 10_000,
            "credits_held": HOLD_MICRO,
            "credits_granted": HOLD_MICRO + 10_000,
            "credits_used": 0,
            "overdraft": 0,
            "unlimited": False,
            "expiring": [],
        }
        assert_insufficient_credits(ask(gateway, bob), HOLD_MICRO, 10_000, 44)
    after = credits(gateway, bob)
    assert (after["credits_held"], after["credits_used"]) == (0, CHARGE_MICRO)
    assert after["credits_remaining"] == HOLD_MICRO + 10_000 - CHARGE_MICRO


def test_an_unlimited_wallet_remains_null(gateway, upstream):
    bob = make_tenant(0, unlimited=True)
    whole, streamed = ask(gateway, bob), stream(gateway, bob, max_tokens=None)
    assert (whole.usage["credits_used"], whole.usage["credits_remaining"]) == (CHARGE_MICRO, None)
    last = streamed.events[-2]["usage"]
    assert (last["credits_used"], last["credits_remaining"]) == (CHARGE_MICRO, None)
    assert (credits(gateway, bob)["credits_remaining"], credits(gateway, bob)["unlimited"]) == (None, True)
    assert wallet(bob) == (-2 * CHARGE_MICRO, 0)
    assert [seen.max_tokens for seen in upstream.calls] == [128, 32_768]


# What the provider reports here, 10,000 tokens of 128, costs (25 × 0.40 + 10,000 × 1.60) / 0.95 × 100.
BEYOND = "completion=10000"
BEYOND_MICRO = 1_685_264


def log_line(server, tenant):
    [hold] = holds(tenant)
    [line] = [line for line in server.log.read_text().splitlines() if f"gen-{hold.pk.hex} organization=" in line]
    return line


def test_a_wallet_is_never_overdrawn_whatever_the_provider_reports(gateway, upstream):
    bob = make_tenant(HOLD_MICRO + 1_000)
    answer = ask(gateway, bob, BEYOND)
    assert (answer.usage["credits_used"], answer.usage["credits_remaining"]) == (HOLD_MICRO + 1_000, 0)
    [hold] = holds(bob)
    assert (hold.actual, hold.charged) == (BEYOND_MICRO, HOLD_MICRO + 1_000)
    assert log_line(gateway, bob).endswith(f" outcome=ok loss={BEYOND_MICRO - HOLD_MICRO - 1_000}")


def test_an_overdraft_pays_for_a_running_call_and_for_no_new_one(gateway, upstream):
    bob = make_tenant(HOLD_MICRO, overdraft_micro=50_000)
    answer = ask(gateway, bob, BEYOND)
    assert (answer.usage["credits_used"], answer.usage["credits_remaining"]) == (HOLD_MICRO + 50_000, -50_000)
    assert credits(gateway, bob)["overdraft"] == 50_000
    assert_insufficient_credits(ask(gateway, bob), HOLD_MICRO, 0, 0)
    assert usage_of(bob).charged == HOLD_MICRO + 50_000


def test_another_calls_hold_is_not_spent_by_one_that_costs_too_much(gateway, upstream):
    bob = make_tenant(2 * HOLD_MICRO)
    with in_flight(gateway, upstream, bob):
        assert ask(gateway, bob, BEYOND).usage["credits_used"] == HOLD_MICRO
    assert wallet(bob) == (HOLD_MICRO - CHARGE_MICRO, 0)


def test_the_receipt_of_a_call_says_the_same(gateway, upstream, alice):
    answer = ask(gateway, alice)
    receipt = call(gateway, "GET", f"/v1/generation?id={answer.json['id']}", alice.headers).json
    assert receipt["usage"] == answer.usage
    assert (receipt["status"], receipt["model"], receipt["credits_used"]) == ("settled", MODEL, CHARGE_MICRO)
    prices = {"input": "0.4", "output": "1.6", "cache_read": "0.1", "web_search": "0.01"}
    assert receipt["price"] == {"version": 1, **prices}
