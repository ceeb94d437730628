"""Buying credits on Stripe's page: what is offered, what Stripe is told, and credits by signed events, once."""

import os
import subprocess
import sys
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from pytest_django.fixtures import Settings

from billing.models import Entry, Payment, StripeCustomer, StripeEvent
from billing.payments import checkout, stripe_api
from billing.pricing import money
from common.checks import Invalid
from quantized.devstack.places import CHECKOUT
from tests.kit.stripe import TEN_USD, TEN_USD_OF_CREDITS, Buyer, post, receive
from tests.kit.stripe_server import StripeServer, make_id, now, signed
from tests.kit.tenants import Tenant

PURCHASE = [("purchase", TEN_USD_OF_CREDITS)]


def outcomes() -> dict[str, str]:
    return dict(StripeEvent.objects.values_list("type", "outcome"))


# --- What Stripe is told ----------------------------------------------------------------------------


def test_a_member_is_sent_to_a_page_that_asks_for_this_amount(buyer: Buyer, stripe: StripeServer) -> None:
    started = checkout.start(buyer.organization_id, TEN_USD, buyer.user.pk, return_path="/billing?organization=1")
    payment = Payment.objects.get(pk=started.payment_id)
    session = stripe.sessions[str(payment.session_id)]
    assert started.url == session["url"]
    assert (payment.state, payment.kind, payment.user_id) == ("created", "checkout", buyer.user.pk)
    assert (payment.amount_cents, payment.currency, payment.credits_micro) == (TEN_USD, "usd", TEN_USD_OF_CREDITS)
    assert (session["amount_total"], session["currency"]) == (TEN_USD, "usd")
    assert session["client_reference_id"] == str(payment.pk)
    assert session["metadata"] == {"payment": str(payment.pk), "organization": str(buyer.organization_id)}
    assert session["success_url"] == f"http://localhost:8000/billing?organization=1&payment={payment.pk}"
    assert session["cancel_url"] == f"{session['success_url']}&cancelled=1"
    assert stripe.intent_data[session["id"]] == {"metadata": session["metadata"]}
    assert buyer.moves() == []


def test_an_organization_is_one_customer_at_stripe(buyer: Buyer, stripe: StripeServer) -> None:
    first, second = buyer.start(), buyer.start()
    [customer] = stripe.customers.values()
    assert customer["metadata"] == {"organization": str(buyer.organization_id)}
    assert StripeCustomer.objects.get(pk=buyer.organization_id).customer_id == customer["id"]
    assert {stripe.sessions[str(payment.session_id)]["customer"] for payment in (first, second)} == {customer["id"]}


def test_the_card_is_kept_only_for_who_agrees(buyer: Buyer, stripe: StripeServer) -> None:
    buyer.buy()
    assert StripeCustomer.objects.get(pk=buyer.organization_id).payment_method == ""
    payment = buyer.buy(save_card=True)
    assert stripe.intent_data[str(payment.session_id)]["setup_future_usage"] == "off_session"
    assert StripeCustomer.objects.get(pk=buyer.organization_id).payment_method == "pm_card_visa"


def test_a_lost_answer_is_asked_for_again_and_is_the_same_session(buyer: Buyer, stripe: StripeServer) -> None:
    stripe.lost_answers = 1
    payment = buyer.start()
    assert len(stripe.customers) == 1
    assert list(stripe.sessions) == [payment.session_id]


def test_when_stripe_is_away_nothing_is_left_that_could_be_paid(buyer: Buyer, stripe: StripeServer) -> None:
    buyer.start()
    stripe.away = 3
    with pytest.raises(stripe_api.Unavailable, match="try again"):
        buyer.start()
    assert stripe.away == 0
    failed = Payment.objects.get(state="failed")
    assert failed.failure == "Payments cannot be made right now; try again in a few minutes."
    assert len(stripe.sessions) == 1


def test_a_wrong_key_is_the_operators_trouble(
    buyer: Buyer, stripe: StripeServer, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_other"
    with pytest.raises(stripe_api.Unavailable):
        buyer.start()
    assert "Stripe cannot be used: AuthenticationError" in caplog.text
    assert "sk_test_other" not in caplog.text


@pytest.mark.parametrize("cents", [499, 100_001, 0, -1])
def test_amounts_that_are_not_offered_are_refused(buyer: Buyer, stripe: StripeServer, cents: int) -> None:
    with pytest.raises(Invalid, match=r"^amount: must be between 5\.00 and 1000\.00 USD"):
        buyer.start(cents)
    assert Payment.objects.count() == 0
    assert stripe.requests == []


def test_without_stripe_the_operators_contact_is_offered(db: None, settings: Settings) -> None:
    settings.OPERATOR_CONTACT = "billing@example.org"
    assert checkout.offer() == checkout.Offer(False, 500, 100_000, "billing@example.org")
    with pytest.raises(stripe_api.NotConfigured):
        checkout.start(Tenant().organization_id, TEN_USD, 1)
    assert Payment.objects.count() == 0
    assert post(b"{}", "t=1,v1=0").status_code == 404


@pytest.mark.parametrize(
    ("cents", "rate", "micro"),
    [(1_000, "100", 1_000_000_000), (1, "100", 1_000_000), (1, "0.00033", 3), (999, "3.3333333", 33_299_999)],
)
def test_cents_buy_credits_rounded_down(cents: int, rate: str, micro: int) -> None:
    assert money.micro_of_cents(cents, Decimal(rate)) == micro


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"STRIPE_SECRET_KEY": "sk"}, "STRIPE_WEBHOOK_SECRET is missing"),
        ({"TOP_UP_MIN_USD": "0.4"}, "TOP_UP_MIN_USD must be at least 0.5"),
        ({"TOP_UP_MAX_USD": "4.99"}, "TOP_UP_MAX_USD must be at least TOP_UP_MIN_USD"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(given: dict[str, str], said: str) -> None:
    command = [sys.executable, "-c", "import quantized.settings"]
    stopped = subprocess.run(command, cwd=CHECKOUT, env=os.environ | given, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert said in stopped.stderr


# --- Credits by events ------------------------------------------------------------------------------


def test_a_paid_session_gives_its_credits(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.start()
    events = stripe.pay(str(payment.session_id))
    assert receive(*events) == ["ignored", "done", "nothing_new"]
    payment.refresh_from_db()
    assert (payment.state, payment.paid_at is not None) == ("paid", True)
    assert payment.payment_intent == events[1]["data"]["object"]["id"]
    [entry] = Entry.objects.filter(wallet_id=buyer.organization_id)
    assert (entry.kind, entry.contra, entry.amount) == ("purchase", "issuance", TEN_USD_OF_CREDITS)
    assert (entry.actor, entry.reason) == ("stripe", f"checkout payment {payment.pk}")
    assert checkout.payments_of(buyer.organization_id) == [payment]
    assert checkout.payments_of(Tenant().organization_id) == []


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 1, 2), (2, 2, 2), (0, 2, 1)])
def test_in_whatever_order_and_number_events_come_the_credits_come_once(
    buyer: Buyer, stripe: StripeServer, order: tuple[int, ...]
) -> None:
    events = stripe.pay(str(buyer.start().session_id))
    receive(*(events[place] for place in order))
    assert buyer.moves() == PURCHASE


def test_the_same_event_again_is_a_duplicate(buyer: Buyer, stripe: StripeServer) -> None:
    completed = stripe.pay(str(buyer.start().session_id))[-1]
    assert receive(completed, completed, completed) == ["done", "duplicate", "duplicate"]
    assert StripeEvent.objects.get(pk=completed["id"]).outcome == "done"
    assert buyer.moves() == PURCHASE


def test_an_event_may_be_here_before_stripes_answer(buyer: Buyer, stripe: StripeServer) -> None:
    """The payer is quicker than our own request: the payment is found by our id."""

    payment = Payment.objects.create(
        organization_id=buyer.organization_id, kind="checkout", amount_cents=TEN_USD, credits_micro=TEN_USD_OF_CREDITS
    )
    session = checkout._session(payment, save_card=False, return_path="/billing")
    assert Payment.objects.get().session_id is None
    assert receive(*stripe.pay(session.id)) == ["ignored", "done", "nothing_new"]
    assert Payment.objects.get().session_id == session.id
    assert buyer.moves() == PURCHASE


def test_money_that_takes_days_is_credited_when_it_comes(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.start()
    assert receive(stripe.promise(str(payment.session_id))) == ["nothing_new"]
    assert buyer.moves() == []
    assert receive(*stripe.arrive(str(payment.session_id))) == ["ignored", "done", "nothing_new"]
    assert buyer.moves() == PURCHASE


def test_money_that_does_not_come_gives_nothing(buyer: Buyer, stripe: StripeServer) -> None:
    late, left = buyer.start(), buyer.start()
    receive(stripe.promise(str(late.session_id)))
    assert receive(stripe.bounce(str(late.session_id)), stripe.expire(str(left.session_id))) == ["done", "done"]
    assert list(Payment.objects.order_by("failure").values_list("state", "failure")) == [
        ("failed", "expired"),
        ("failed", "payment_failed"),
    ]
    assert buyer.moves() == []


def test_a_declined_card_on_stripes_page_ends_nothing(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.start()
    assert receive(stripe.fail_on_page(str(payment.session_id))) == ["ignored"]
    payment.refresh_from_db()
    assert (payment.state, payment.failure) == ("created", "")
    assert receive(*stripe.pay(str(payment.session_id), card="pm_another")) == ["ignored", "done", "nothing_new"]
    assert buyer.moves() == PURCHASE


@pytest.mark.parametrize(
    ("field", "value"), [("amount_total", 1), ("amount_total", None), ("currency", "jpy"), ("id", "cs_test_other")]
)
def test_an_event_that_does_not_fit_the_payment_is_not_believed(
    buyer: Buyer, stripe: StripeServer, caplog: pytest.LogCaptureFixture, field: str, value: Any
) -> None:
    completed = stripe.pay(str(buyer.start().session_id))[-1]
    completed["data"]["object"][field] = value
    assert receive(completed) == ["mismatch"]
    assert "does not fit our payment" in caplog.text
    payment = Payment.objects.get()
    assert (payment.state, payment.payment_intent, buyer.moves()) == ("created", None, [])


@pytest.mark.parametrize("reference", [None, str(UUID(int=7, version=4)), "not an id", str(UUID(int=0))])
def test_payments_of_others_at_the_same_stripe_are_left_alone(
    buyer: Buyer, stripe: StripeServer, reference: str | None
) -> None:
    completed = stripe.pay(str(buyer.start().session_id))[-1]
    completed["data"]["object"] |= {"client_reference_id": reference, "metadata": {}}
    assert receive(completed) == ["ignored"]
    assert buyer.moves() == []


def test_what_is_not_known_is_received_and_ignored(buyer: Buyer, stripe: StripeServer) -> None:
    event = stripe.emit("customer.subscription.created", {"id": "sub_1", "object": "subscription"})
    assert receive(event) == ["ignored"]
    assert outcomes() == {"customer.subscription.created": "ignored"}


# --- Who may speak ----------------------------------------------------------------------------------


def test_only_stripe_may_speak(buyer: Buyer, stripe: StripeServer) -> None:
    completed = stripe.pay(str(buyer.start().session_id))[-1]
    body, signature = signed(completed)
    refused = [
        post(body, None),
        post(body, ""),
        post(body, "t=,v1="),
        post(body, signature.replace("v1", "v0")),
        post(body, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        post(body + b" ", signature),
        post(*signed(completed, secret="whsec_other")),
        post(*signed(completed, at=now() - 301)),
        post(b"\xff" + body, signature),
    ]
    assert [response.status_code for response in refused] == [400] * 9
    assert StripeEvent.objects.count() == 0
    assert buyer.moves() == []
    assert post(*signed(completed, at=now() - 290)).json() == {"outcome": "done"}


@pytest.mark.parametrize(
    "event", [[], {}, {"id": 1}, {"id": "evt_1", "type": "charge.refunded", "data": {"object": 7}}]
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(db: None, stripe: StripeServer, event: Any) -> None:
    assert post(*signed(event)).status_code == 400
    assert StripeEvent.objects.count() == 0


def test_too_much_is_refused_whoever_signed_it(db: None, stripe: StripeServer) -> None:
    fits, too_much = [
        {"id": "evt_1", "type": "x", "data": {"object": {}}, "more": "x" * size} for size in (1, 256 * 1024)
    ]
    assert [post(*signed(event)).status_code for event in (fits, too_much)] == [200, 400]


def test_events_are_posted(db: None, stripe: StripeServer, client: Any) -> None:
    assert client.get("/webhooks/stripe").status_code == 405


def test_an_effect_that_fails_is_tried_again_with_the_next_delivery(
    buyer: Buyer, stripe: StripeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed = stripe.pay(str(buyer.start().session_id))[-1]
    with monkeypatch.context() as broken:
        broken.setattr("billing.payments.account.journal.post", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            receive(completed)
    assert (StripeEvent.objects.count(), buyer.moves()) == (0, [])
    assert receive(completed) == ["done"]
    assert buyer.moves() == PURCHASE


# --- The Stripe of the tests is strict --------------------------------------------------------------


def test_our_stripe_refuses_what_stripe_refuses(stripe: StripeServer) -> None:
    headers = {"Authorization": "Bearer sk_test_quantized", "Stripe-Version": stripe_api.API_VERSION}

    def ask(body: str, key: str = "", path: str = "/v1/customers", **changed: str) -> tuple[int, str]:
        given = headers | {"Idempotency-Key": key or make_id("key")} | changed
        status, answer = stripe.answer("POST", path, given, "", body)
        return status, answer.get("error", {}).get("code") or answer.get("error", {}).get("type", "")

    assert ask("name=x", Authorization="Bearer other") == (401, "invalid_request_error")
    assert ask("name=x", **{"Stripe-Version": "2020-08-27"}) == (400, "invalid_request_error")
    assert ask("nme=x") == (400, "parameter_unknown")
    assert ask("mode=payment", path="/v1/checkout/sessions") == (400, "parameter_missing")
    assert ask("", path="/v1/nothing") == (404, "invalid_request_error")
    assert [ask("name=x", "k"), ask("name=x", "k"), ask("name=y", "k")] == [
        (200, ""),
        (200, ""),
        (400, "idempotency_error"),
    ]
    assert len(stripe.customers) == 1


def test_what_a_payment_is_about_cannot_be_changed(buyer: Buyer) -> None:
    buyer.buy()
    for change in (
        {"amount_cents": 1},
        {"credits_micro": 2 * TEN_USD_OF_CREDITS},
        {"paid_at": None, "state": "created"},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Payment.objects.update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.all().delete()
