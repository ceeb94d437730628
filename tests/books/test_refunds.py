"""Money that goes back takes its credits along, once, as far as the floor allows; what is short is written down."""

import itertools
from typing import Any

import pytest

from billing.ledger import balances
from billing.models import AutoTopUp, Dispute, Payment, StripeEvent
from billing.payments import auto_top_up
from tests.kit.books import do
from tests.kit.stripe import TEN_USD, TEN_USD_OF_CREDITS, Buyer, receive
from tests.kit.stripe_server import StripeServer

ALL = TEN_USD_OF_CREDITS
CENT = ALL // TEN_USD


def figures(payment: Payment) -> tuple[str, int, int, int]:
    """(state, refunded cents, taken back, short)"""
    payment.refresh_from_db()
    return payment.state, payment.refunded_cents, payment.taken_back_micro, payment.shortfall_micro


# --- Refunds ----------------------------------------------------------------------------------------


def test_a_refund_takes_its_share_and_the_last_one_the_rest(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    intent = str(payment.payment_intent)
    assert receive(stripe.refund(intent, 333)) == ["done"]
    assert figures(payment) == ("partly_refunded", 333, 333 * CENT, 0)
    receive(stripe.refund(intent, 1))
    receive(stripe.refund(intent, 666))
    assert figures(payment) == ("refunded", TEN_USD, ALL, 0)
    assert buyer.moves() == [("purchase", ALL), ("refund", -333 * CENT), ("refund", -CENT), ("refund", -666 * CENT)]
    assert buyer.wallet[0] == 0


def test_money_paid_back_was_neither_granted_nor_used(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    do(buyer.settle(buyer.hold(100 * CENT), 100 * CENT))
    receive(stripe.refund(str(payment.payment_intent), 400))
    balance = balances.balance(buyer.organization_id)
    assert (balance.granted, balance.used, balance.remaining) == (600 * CENT, 100 * CENT, 500 * CENT)


def test_refunds_that_come_late_or_twice_change_nothing(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    first, second = stripe.refund(str(payment.payment_intent), 100), stripe.refund(str(payment.payment_intent), 200)
    assert receive(second, first, second) == ["done", "nothing_new", "duplicate"]
    assert figures(payment) == ("partly_refunded", 300, 300 * CENT, 0)
    assert buyer.moves() == [("purchase", ALL), ("refund", -300 * CENT)]


def test_a_refund_takes_no_more_than_the_floor_allows(
    buyer: Buyer, stripe: StripeServer, caplog: pytest.LogCaptureFixture
) -> None:
    payment = buyer.buy()
    do(buyer.settle(buyer.hold(700 * CENT), 700 * CENT))
    buyer.hold(100 * CENT)  # a running call keeps what it holds
    assert receive(stripe.refund(str(payment.payment_intent), 500)) == ["done"]
    assert figures(payment) == ("partly_refunded", 500, 200 * CENT, 300 * CENT)
    assert buyer.wallet[:2] == (100 * CENT, 100 * CENT)
    assert f"payment {payment.pk} went back, but {300 * CENT} micro-credits of it are spent already" in caplog.text
    receive(stripe.refund(str(payment.payment_intent), 500))
    assert figures(payment) == ("refunded", TEN_USD, 200 * CENT, 800 * CENT)


def test_the_overdraft_pays_for_a_refund_and_an_unlimited_wallet_pays_all(stripe: StripeServer, db: None) -> None:
    for wallet, short in (({"overdraft_micro": 50 * CENT}, 650 * CENT), ({"unlimited": True}, 0)):
        buyer = Buyer(stripe, **wallet)
        payment = buyer.buy()
        do(buyer.settle(buyer.hold(700 * CENT), 700 * CENT))
        receive(stripe.refund(str(payment.payment_intent), TEN_USD))
        assert figures(payment) == ("refunded", TEN_USD, ALL - short, short)
        assert buyer.wallet[0] == 300 * CENT - (ALL - short)


def test_a_refund_may_be_here_before_its_payment(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.start()
    paid = stripe.pay(str(payment.session_id))
    refund = stripe.refund(paid[1]["data"]["object"]["id"], 400)
    assert receive(refund) == ["done"]
    assert figures(payment) == ("created", 400, 0, 0)
    receive(*paid)
    assert figures(payment) == ("partly_refunded", 400, 400 * CENT, 0)
    assert buyer.moves() == [("purchase", ALL), ("refund", -400 * CENT)]


@pytest.mark.parametrize(
    "change", [{"amount_refunded": TEN_USD + 1}, {"currency": "eur"}, {"payment_intent": "pi_other"}]
)
def test_a_refund_that_does_not_fit_is_not_believed(buyer: Buyer, stripe: StripeServer, change: dict[str, Any]) -> None:
    payment = buyer.buy()
    refund = stripe.refund(str(payment.payment_intent), 400)
    refund["data"]["object"] |= change
    assert receive(refund) == ["mismatch"]
    assert figures(payment) == ("paid", 0, 0, 0)


def test_refunds_of_others_at_the_same_stripe_are_left_alone(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    refund = stripe.refund(str(payment.payment_intent), 400)
    refund["data"]["object"] |= {"payment_intent": "pi_other", "metadata": {}}
    assert receive(refund) == ["ignored"]
    assert figures(payment) == ("paid", 0, 0, 0)


# --- Disputes ---------------------------------------------------------------------------------------


def test_a_dispute_takes_the_credits_and_raises_the_alarm(
    buyer: Buyer, stripe: StripeServer, caplog: pytest.LogCaptureFixture
) -> None:
    payment = buyer.buy()
    auto_top_up.enable(
        buyer.organization_id, threshold_micro=1, amount_cents=500, monthly_max_cents=500, user_id=buyer.user.pk
    )
    created, withdrawn = stripe.dispute(str(payment.payment_intent))
    assert receive(created, withdrawn) == ["done", "nothing_new"]
    assert figures(payment) == ("disputed", 0, ALL, 0)
    assert buyer.wallet[0] == 0
    dispute = Dispute.objects.get()
    of = f"payment {payment.pk} of organization {buyer.organization_id}"
    expected = f"{of} is disputed: {dispute.pk}, 1000 cents, reason fraudulent"
    assert caplog.text.count(expected) == 1
    setting = AutoTopUp.objects.get()
    assert (setting.enabled, setting.reason) == (False, "payment_disputed")


def test_a_dispute_that_is_won_gives_them_back(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    receive(*stripe.dispute(str(payment.payment_intent)))
    assert receive(*stripe.close(Dispute.objects.get().pk, "won")) == ["done", "nothing_new"]
    assert figures(payment) == ("paid", 0, 0, 0)
    assert buyer.moves() == [("purchase", ALL), ("refund", -ALL), ("refund", ALL)]
    assert Dispute.objects.get().status == "won"


def test_what_was_short_is_not_given_back(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    do(buyer.settle(buyer.hold(700 * CENT), 700 * CENT))
    receive(*stripe.dispute(str(payment.payment_intent)))
    assert figures(payment) == ("disputed", 0, 300 * CENT, 700 * CENT)
    receive(*stripe.close(Dispute.objects.get().pk, "won"))
    assert figures(payment) == ("paid", 0, 0, 0)
    assert buyer.wallet[0] == 300 * CENT


def test_a_dispute_that_is_lost_stays(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    receive(*stripe.dispute(str(payment.payment_intent)))
    assert receive(*stripe.close(Dispute.objects.get().pk, "lost")) == ["nothing_new"]
    assert figures(payment) == ("disputed", 0, ALL, 0)
    assert Dispute.objects.get().status == "lost"


def test_an_inquiry_takes_nothing_unless_it_becomes_a_dispute(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    receive(*stripe.dispute(str(payment.payment_intent), "warning_needs_response"))
    assert figures(payment) == ("paid", 0, 0, 0)
    dispute = stripe.disputes[Dispute.objects.get().pk]
    dispute["status"] = "needs_response"
    receive(stripe.emit("charge.dispute.funds_withdrawn", dispute))
    assert figures(payment) == ("disputed", 0, ALL, 0)


def test_refund_and_dispute_together_take_no_more_than_all(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    receive(stripe.refund(str(payment.payment_intent), 400), *stripe.dispute(str(payment.payment_intent)))
    assert figures(payment) == ("disputed", 400, ALL, 0)
    receive(*stripe.close(Dispute.objects.get().pk, "won"))
    assert figures(payment) == ("partly_refunded", 400, 400 * CENT, 0)


def test_a_dispute_waits_for_a_payment_that_does_not_know_its_intent_yet(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.start()
    paid = stripe.pay(str(payment.session_id))
    disputed = stripe.dispute(paid[1]["data"]["object"]["id"])
    assert receive(*disputed) == ["waiting", "waiting"]
    assert receive(*paid) == ["ignored", "done", "nothing_new"]
    assert figures(payment) == ("disputed", 0, ALL, 0)
    assert buyer.moves() == [("purchase", ALL), ("refund", -ALL)]
    kept = StripeEvent.objects.filter(type__startswith="charge.dispute")
    assert sorted(kept.values_list("outcome", "body")) == [("done", ""), ("nothing_new", "")]


def test_a_waiting_dispute_that_does_not_fit_keeps_no_payer_from_their_credits(
    buyer: Buyer, stripe: StripeServer
) -> None:
    payment = buyer.start()
    paid = stripe.pay(str(payment.session_id))
    created, _ = stripe.dispute(paid[1]["data"]["object"]["id"])
    created["data"]["object"]["currency"] = "eur"
    assert receive(created, *paid) == ["waiting", "ignored", "done", "nothing_new"]
    assert StripeEvent.objects.get(pk=created["id"]).outcome == "mismatch"
    assert figures(payment) == ("paid", 0, 0, 0)


@pytest.mark.parametrize("ending", ["won", "lost"])
def test_every_order_of_a_disputed_payments_events_ends_the_same(stripe: StripeServer, db: None, ending: str) -> None:
    for order in list(itertools.permutations(range(5)))[::13]:
        buyer = Buyer(stripe)
        payment = buyer.start()
        paid = stripe.pay(str(payment.session_id))
        intent = paid[1]["data"]["object"]["id"]
        refund = stripe.refund(intent, 250)
        disputed = stripe.dispute(intent, amount=750)
        closed = stripe.close(disputed[0]["data"]["object"]["id"], ending)
        events = [paid[1], refund, *disputed, closed[-1]]
        receive(*(events[place] for place in order))
        back = TEN_USD if ending == "lost" else 250
        state = "disputed" if ending == "lost" else "partly_refunded"
        assert figures(payment) == (state, 250, back * CENT, 0), order
        assert buyer.wallet[0] == ALL - back * CENT
