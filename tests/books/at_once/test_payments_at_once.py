"""Payments when everything happens at the same moment: by HTTP to a server of its own, from threads, committed."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test import override_settings

from billing.ledger.commands import Held, Settled
from billing.models import Payment, StripeCustomer, StripeEvent
from billing.oversight import verifier
from billing.payments import auto_top_up, stripe_api
from tests.kit.books import at_once, do
from tests.kit.live import Server, start_server
from tests.kit.stripe import TEN_USD, TEN_USD_OF_CREDITS, Buyer, receive
from tests.kit.stripe_server import SECRET_KEY, WEBHOOK_SECRET, Json, StripeServer, deliver, make_id

ALL = TEN_USD_OF_CREDITS


@pytest.fixture
def live_stripe(live_db: None) -> Iterator[StripeServer]:
    with StripeServer() as server, override_settings(**settings_for(server)):
        yield server
    assert verifier.violations() == []


@pytest.fixture
def server(server_environment: dict[str, str], live_stripe: StripeServer, tmp_path: Path) -> Iterator[Server]:
    with start_server(server_environment | settings_for(live_stripe), tmp_path) as running:
        yield running


@pytest.fixture
def buyer(live_stripe: StripeServer) -> Buyer:
    return Buyer(live_stripe)


def settings_for(stripe: StripeServer) -> dict[str, str]:
    return {
        "STRIPE_SECRET_KEY": SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_BASE_URL": stripe.origin,
    }


def test_payments_by_http_from_the_page_to_the_dispute(server: Server, buyer: Buyer, live_stripe: StripeServer) -> None:
    """One server, and everything that can come twice comes twenty times at the same moment."""
    url = f"{server.origin}/webhooks/stripe"
    payment = buyer.start()
    events = live_stripe.pay(str(payment.session_id))
    intent = events[1]["data"]["object"]["id"]

    # Twenty deliveries of one event.
    assert deliver(url, *[events[-1]] * 20, at_once=True) == [200] * 20
    assert buyer.moves() == [("purchase", ALL)]
    assert StripeEvent.objects.filter(pk=events[-1]["id"]).values_list("outcome", flat=True).get() == "done"

    # Twenty events, each with its own id, that say that one payment was paid.
    second = buyer.start()
    paid = live_stripe.pay(str(second.session_id))
    said = [again(paid[1 + number % 2]) for number in range(20)]
    assert deliver(url, *said, at_once=True) == [200] * 20
    assert buyer.moves() == [("purchase", ALL)] * 2

    # Refunds and disputes beside each other, each several times.
    refunds = [live_stripe.refund(intent, 100) for _ in range(3)]
    disputed = live_stripe.dispute(str(paid[1]["data"]["object"]["id"]))
    assert deliver(url, *[again(event) for event in [*refunds, *disputed] * 3], at_once=True) == [200] * 15
    refunded = sum(amount for kind, amount in buyer.moves() if kind == "refund")
    assert refunded == -(ALL * 300 // TEN_USD) - ALL
    payment.refresh_from_db()
    second.refresh_from_db()
    assert (payment.state, payment.refunded_cents, payment.shortfall_micro) == ("partly_refunded", 300, 0)
    assert (second.state, second.taken_back_micro, second.shortfall_micro) == ("disputed", ALL, 0)

    # All of it once more, late.
    before = buyer.moves()
    assert deliver(url, *map(again, [*events, *paid, *refunds, *disputed])) == [200] * 11
    assert buyer.moves() == before


def test_a_session_that_is_paid_before_its_request_returns(
    server: Server, buyer: Buyer, live_stripe: StripeServer
) -> None:
    url = f"{server.origin}/webhooks/stripe"
    answers: list[int] = []

    def pay_meanwhile() -> None:
        for session in list(live_stripe.sessions.values()):
            if session["status"] == "open":
                answers.extend(deliver(url, *live_stripe.pay(session["id"])))

    live_stripe.before_answer = pay_meanwhile
    payment = buyer.start()
    assert answers == [200, 200, 200]
    assert (payment.state, payment.session_id in live_stripe.sessions) == ("paid", True)
    assert buyer.moves() == [("purchase", ALL)]


def test_a_refund_racing_calls_never_passes_the_floor(server: Server, buyer: Buyer, live_stripe: StripeServer) -> None:
    url = f"{server.origin}/webhooks/stripe"
    payment = buyer.start()
    events = live_stripe.pay(str(payment.session_id))
    deliver(url, *events)
    intent = events[1]["data"]["object"]["id"]
    refunds = [live_stripe.refund(intent, TEN_USD // 20) for _ in range(20)]

    def spend() -> int:
        spent = 0
        for _ in range(15):
            reserve = buyer.reserve(ALL // 25, floor=1)
            if isinstance(do(reserve), Held):
                settled = do(buyer.settle(reserve.hold_id, ALL // 30))
                assert isinstance(settled, Settled)
                spent += settled.charged
        return spent

    def refund(part: int) -> int:
        assert deliver(url, *refunds[part::2]) == [200] * 10
        return 0

    spent = sum(at_once([spend, spend, lambda: refund(0), lambda: refund(1)]))
    payment.refresh_from_db()
    assert (payment.state, payment.refunded_cents) == ("refunded", TEN_USD)
    assert payment.taken_back_micro + payment.shortfall_micro == ALL
    assert buyer.wallet[:2] == (ALL - spent - payment.taken_back_micro, 0)
    assert buyer.wallet[0] >= 0


def test_a_payment_waits_for_a_dispute_that_is_about_to_wait_for_it(buyer: Buyer, live_stripe: StripeServer) -> None:
    """Neither sees the other's rows before they are committed: the one that comes second must."""
    payment = buyer.start()
    paid = live_stripe.pay(str(payment.session_id))
    created, _ = live_stripe.dispute(paid[1]["data"]["object"]["id"])
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert receive(created) == ["waiting"]
            meanwhile = pool.submit(receive_elsewhere, paid[-1])
            with pytest.raises(TimeoutError):
                meanwhile.result(0.3)
        assert meanwhile.result(20) == ["done"]
    payment.refresh_from_db()
    assert (payment.state, payment.taken_back_micro, buyer.wallet[0]) == ("disputed", ALL, 0)


def test_auto_top_ups_at_once_charge_once(buyer: Buyer, live_stripe: StripeServer) -> None:
    save_card(buyer, live_stripe)
    auto_top_up.enable(
        buyer.organization_id, threshold_micro=1, amount_cents=500, monthly_max_cents=5_000, user_id=buyer.user.pk
    )
    topped_up = at_once([lambda: auto_top_up.top_up(buyer.organization_id)] * 4)
    assert sorted(topped_up) == [False, False, False, True]
    assert buyer.moves() == [("purchase", ALL // 2)]
    assert Payment.objects.filter(organization_id=buyer.organization_id).count() == 1
    assert len(live_stripe.intents) == 1


def test_passes_that_finish_one_pending_charge_book_it_once(buyer: Buyer, live_stripe: StripeServer) -> None:
    """Two passes and the webhook's own thread ask and book the same payment; Stripe is slow to answer."""
    save_card(buyer, live_stripe)
    auto_top_up.enable(
        buyer.organization_id, threshold_micro=1, amount_cents=500, monthly_max_cents=5_000, user_id=buyer.user.pk
    )
    payment = auto_top_up._start(buyer.organization_id)
    assert payment is not None
    live_stripe.before_answer = lambda: time.sleep(0.05)
    booked = at_once([lambda: auto_top_up._finish(payment)] * 3)
    assert sorted(booked) == [False, False, True]
    assert buyer.moves() == [("purchase", ALL // 2)]
    assert len(live_stripe.intents) == 1


def save_card(buyer: Buyer, stripe: StripeServer) -> None:
    customer = stripe_api.create_customer(buyer.organization_id)
    stripe.cards["pm_card_visa"] = "ok"
    # The row a paid checkout with a saved card leaves; that it does is test_checkout's.
    StripeCustomer.objects.create(pk=buyer.organization_id, customer_id=customer, payment_method="pm_card_visa")


def receive_elsewhere(event: Json) -> list[str]:
    try:
        return receive(event)
    finally:
        connection.close()


def again(event: Json) -> Json:
    """What is said, said once more under another id."""
    return event | {"id": make_id("evt")}
