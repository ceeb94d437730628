"""Auto top-up: a saved card is charged when the balance is low, once, up to a sum per month, not for ever in vain."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.services import reactivate, suspend
from billing.models import AutoTopUp, Payment, StripeCustomer, Wallet
from billing.oversight import verifier
from billing.payments import account, auto_top_up, stripe_api
from billing.tasks import top_up_wallets
from common.checks import Invalid
from tests.kit.books import do
from tests.kit.stripe import TEN_USD, TEN_USD_OF_CREDITS, Buyer, receive
from tests.kit.stripe_server import StripeServer

FIVE_USD = 500
FIVE_USD_OF_CREDITS = 500_000_000
THRESHOLD = 100_000_000
BOUGHT = ("purchase", TEN_USD_OF_CREDITS)
TOPPED_UP = ("purchase", FIVE_USD_OF_CREDITS)


@pytest.fixture
def low(buyer: Buyer) -> Buyer:
    """A card is saved, auto top-up is on, and the balance is below the threshold."""
    buyer.buy(save_card=True)
    enable(buyer)
    drain(buyer)
    return buyer


def enable(buyer: Buyer, **changed: int) -> None:
    given: dict[str, int] = {
        "threshold_micro": THRESHOLD,
        "amount_cents": FIVE_USD,
        "monthly_max_cents": 2_000,
    } | changed
    auto_top_up.enable(buyer.organization_id, user_id=buyer.user.pk, **given)


def drain(buyer: Buyer) -> None:
    cost = buyer.wallet[0] - THRESHOLD + 1
    do(buyer.settle(buyer.hold(cost), cost))


def purchases(buyer: Buyer) -> list[tuple[str, int]]:
    return [move for move in buyer.moves() if move[0] == "purchase"]


def auto(buyer: Buyer) -> Payment:
    return Payment.objects.filter(organization_id=buyer.organization_id, kind="auto").latest("created_at")


def setting(buyer: Buyer) -> auto_top_up.Setting:
    found = auto_top_up.setting_of(buyer.organization_id)
    assert found is not None
    return found


@pytest.fixture
def declining(low: Buyer, stripe: StripeServer) -> Iterator[Buyer]:
    stripe.cards["pm_card_visa"] = "card_declined"
    yield low
    assert purchases(low) == [BOUGHT]


# --- When it charges --------------------------------------------------------------------------------


def test_a_low_balance_is_topped_up_once(low: Buyer, stripe: StripeServer) -> None:
    assert auto_top_up.run() == 1
    payment = auto(low)
    assert (payment.state, payment.amount_cents, payment.user_id) == ("paid", FIVE_USD, low.user.pk)
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    top_up_wallets()
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    path, asked = stripe.requests[-1]
    assert (path, asked["amount"], asked["payment_method"]) == ("/v1/payment_intents", "500", "pm_card_visa")
    assert asked["metadata"] == {"payment": str(payment.pk), "organization": str(low.organization_id)}
    assert receive(*stripe.events[-2:]) == ["ignored", "nothing_new"]
    assert purchases(low) == [BOUGHT, TOPPED_UP]


def test_a_balance_at_the_threshold_is_left_alone(low: Buyer) -> None:
    do(low.post(1, kind="purchase"))
    assert auto_top_up.run() == 0
    do(low.post(-1, kind="adjustment"))
    assert auto_top_up.run() == 1


@pytest.mark.parametrize("why", ["disabled", "unlimited", "frozen", "suspended", "no card", "no stripe"])
def test_nobody_is_charged_who_should_not_be(low: Buyer, stripe: StripeServer, settings: Any, why: str) -> None:
    match why:
        case "disabled":
            auto_top_up.disable(low.organization_id)
        case "unlimited":
            Wallet.objects.filter(pk=low.organization_id).update(unlimited=True)
        case "frozen":
            low.set_status("frozen")
        case "suspended":
            suspend(low.organization_id)
        case "no card":
            StripeCustomer.objects.update(payment_method="")
        case "no stripe":
            settings.STRIPE_SECRET_KEY = ""
    assert auto_top_up.run() == 0
    assert not Payment.objects.filter(kind="auto").exists()
    if why == "suspended":
        reactivate(low.organization_id)
        assert auto_top_up.run() == 1


def test_the_months_sum_is_kept(low: Buyer) -> None:
    enable(low, monthly_max_cents=1_200)
    for _ in range(4):
        auto_top_up.run()
        drain(low)
    assert purchases(low) == [BOUGHT, TOPPED_UP, TOPPED_UP]
    assert setting(low).charged_this_month_cents == 1_000
    first = Payment.objects.filter(kind="auto").order_by("created_at")[0]
    last_month = datetime.now(UTC).replace(day=1) - timedelta(days=2)
    Payment.objects.filter(pk=first.pk).update(created_at=last_month)
    assert auto_top_up.run() == 1


def test_looking_costs_the_same_however_many_wish_it(low: Buyer, stripe: StripeServer) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert auto_top_up.run() == 0
        return len(captured)

    auto_top_up.run()
    alone = queries()
    for _ in range(5):
        other = Buyer(stripe, THRESHOLD)
        enable(other)
        StripeCustomer.objects.create(
            pk=other.organization_id, customer_id=f"cus_{other.organization_id}", payment_method="pm"
        )
    assert queries() == alone


@pytest.mark.parametrize("why", ["unlimited", "frozen", "suspended"])
def test_what_became_of_the_organization_after_the_pass_had_looked(low: Buyer, stripe: StripeServer, why: str) -> None:
    enable(low)
    match why:
        case "unlimited":
            Wallet.objects.filter(pk=low.organization_id).update(unlimited=True)
        case "frozen":
            low.set_status("frozen")
        case "suspended":
            suspend(low.organization_id)
    before = len(stripe.intents), Payment.objects.count()
    assert auto_top_up.top_up(low.organization_id) is False
    assert (len(stripe.intents), Payment.objects.count()) == before


def test_under_the_lock_everything_is_looked_at_again(low: Buyer) -> None:
    """What a pass found may be over when its turn comes."""
    enable(low, monthly_max_cents=700)
    assert auto_top_up.top_up(low.organization_id)
    assert not auto_top_up.top_up(low.organization_id)  # it is not low any more
    drain(low)
    assert not auto_top_up.top_up(low.organization_id)  # the month's sum
    enable(low)
    AutoTopUp.objects.update(retry_at=datetime.now(UTC) + timedelta(hours=1))
    assert not auto_top_up.top_up(low.organization_id)  # not yet
    AutoTopUp.objects.update(retry_at=None)
    assert auto_top_up.top_up(low.organization_id)
    assert purchases(low) == [BOUGHT, TOPPED_UP, TOPPED_UP]


def test_an_answer_that_does_not_fit_stops_only_this_one(
    low: Buyer, stripe: StripeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Buyer(stripe)
    other.buy(save_card=True)
    enable(other)
    drain(other)
    charged = stripe_api.charge

    def charge(payment: Payment, customer_id: str) -> stripe_api.Intent:
        intent = charged(payment, customer_id)
        return (
            msgspec.structs.replace(intent, amount_received=1)
            if payment.organization_id == low.organization_id
            else intent
        )

    monkeypatch.setattr(stripe_api, "charge", charge)
    assert auto_top_up.run() == 1
    assert (purchases(low), purchases(other)) == ([BOUGHT], [BOUGHT, TOPPED_UP])
    assert "does not fit our payment: amount is 1, not 500" in caplog.text
    assert auto(low).state == "created"


# --- When it fails ----------------------------------------------------------------------------------


def test_a_declined_card_is_tried_again_later_and_then_no_more(declining: Buyer, stripe: StripeServer) -> None:
    for failures in (1, 2, 3):
        assert auto_top_up.run() == 0
        assert auto(declining).state == "failed"
        assert auto(declining).failure == "card_declined"
        now = setting(declining)
        assert (now.failures, now.enabled, now.reason) == (failures, failures < 3, "card_declined")
        assert auto_top_up.run() == 0  # not before its time
        assert Payment.objects.filter(kind="auto").count() == failures
        AutoTopUp.objects.update(retry_at=datetime.now(UTC) - timedelta(hours=1))
    assert auto_top_up.run() == 0
    assert Payment.objects.filter(kind="auto").count() == 3
    assert setting(declining).charged_this_month_cents == 0


def test_the_webhook_of_a_decline_counts_no_second_failure(declining: Buyer, stripe: StripeServer) -> None:
    auto_top_up.run()
    assert receive(stripe.events[-1]) == ["nothing_new"]
    assert setting(declining).failures == 1


def test_a_top_up_that_works_forgets_the_failures(low: Buyer, stripe: StripeServer) -> None:
    stripe.cards["pm_card_visa"] = "authentication_required"
    auto_top_up.run()
    assert (setting(low).failures, setting(low).reason) == (1, "authentication_required")
    stripe.cards["pm_card_visa"] = "ok"
    AutoTopUp.objects.update(retry_at=datetime.now(UTC) - timedelta(hours=1))
    assert auto_top_up.run() == 1
    assert (setting(low).failures, setting(low).reason) == (0, "")


def test_a_card_that_stripe_does_not_know_any_more_is_a_failure(low: Buyer, stripe: StripeServer) -> None:
    del stripe.cards["pm_card_visa"]
    auto_top_up.run()
    assert (auto(low).state, auto(low).failure) == ("failed", "resource_missing")


# --- When something dies in between -----------------------------------------------------------------


def a_minute_later(payment: Payment, age: timedelta = timedelta(minutes=3)) -> None:
    Payment.objects.filter(pk=payment.pk).update(created_at=datetime.now(UTC) - age)


def test_when_stripe_is_away_the_next_pass_goes_on(low: Buyer, stripe: StripeServer) -> None:
    stripe.away = 3
    assert auto_top_up.run() == 0
    assert auto(low).state == "created"
    assert auto_top_up.run() == 0  # it may still be at work: left alone, and no second one is begun
    assert Payment.objects.filter(kind="auto").count() == 1
    a_minute_later(auto(low))
    assert auto_top_up.run() == 1
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    assert len(stripe.intents) == 2


def test_a_crash_after_stripes_answer_is_healed_by_the_webhook(low: Buyer, stripe: StripeServer) -> None:
    crash(low)
    assert receive(*stripe.events[-2:]) == ["ignored", "done"]
    a_minute_later(auto(low))
    assert auto_top_up.run() == 0
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    assert len(stripe.intents) == 2


def test_or_by_the_next_pass(low: Buyer, stripe: StripeServer) -> None:
    crash(low)
    a_minute_later(auto(low))
    assert auto_top_up.run() == 1
    assert receive(*stripe.events[-2:]) == ["ignored", "nothing_new"]
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    assert len(stripe.intents) == 2


def test_after_a_day_the_charge_is_looked_up_instead_of_repeated(low: Buyer, stripe: StripeServer) -> None:
    crash(low)
    stripe.answers.clear()  # Stripe has forgotten the idempotency keys
    a_minute_later(auto(low), timedelta(hours=21))
    stripe.intents[next(reversed(stripe.intents))]["created"] -= 21 * 3_600
    assert auto_top_up.run() == 1
    assert purchases(low) == [BOUGHT, TOPPED_UP]
    assert len(stripe.intents) == 2


def test_a_charge_that_never_reached_stripe_is_given_up_after_a_day(low: Buyer, stripe: StripeServer) -> None:
    stripe.away = 3
    auto_top_up.run()
    a_minute_later(auto(low), timedelta(hours=21))
    assert auto_top_up.run() == 0
    assert (auto(low).state, auto(low).failure) == ("failed", "never_reached_stripe")
    assert len(stripe.intents) == 1


def crash(buyer: Buyer) -> None:
    """Stripe has charged the card; the process dies before it books it."""
    payment = auto_top_up._start(buyer.organization_id)
    assert payment is not None
    stripe_api.charge(payment, StripeCustomer.objects.get().customer_id)


def test_a_bank_that_takes_its_time_blocks_another_charge(low: Buyer, stripe: StripeServer) -> None:
    stripe.cards["pm_card_visa"] = "processing"
    assert auto_top_up.run() == 0
    a_minute_later(auto(low))
    assert auto_top_up.run() == 0
    assert (auto(low).state, Payment.objects.filter(kind="auto").count()) == ("created", 1)
    assert receive(*stripe.finish(str(auto(low).payment_intent))) == ["ignored", "done"]
    assert purchases(low) == [BOUGHT, TOPPED_UP]


def test_money_of_a_charge_we_had_given_up_is_credited(low: Buyer, stripe: StripeServer) -> None:
    stripe.cards["pm_card_visa"] = "processing"
    auto_top_up.run()
    account.fail_by_id(auto(low).pk, "given up")
    receive(*stripe.finish(str(auto(low).payment_intent)))
    assert (auto(low).state, purchases(low)) == ("paid", [BOUGHT, TOPPED_UP])


# --- Settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"amount_cents": 1}, "amount"),
        ({"threshold_micro": -1}, "threshold"),
        ({"threshold_micro": 2**63}, "threshold"),
        ({"monthly_max_cents": FIVE_USD - 1}, "monthly_max"),
    ],
)
def test_settings_that_make_no_sense_are_named(buyer: Buyer, changed: dict[str, int], named: str) -> None:
    with pytest.raises(Invalid, match=f"^{named}: ") as refused:
        enable(buyer, **changed)
    assert refused.value.field == named
    assert auto_top_up.setting_of(buyer.organization_id) is None


def test_a_setting_says_what_a_page_needs(buyer: Buyer) -> None:
    enable(buyer)
    assert setting(buyer) == auto_top_up.Setting(True, THRESHOLD, FIVE_USD, 2_000, 0, False, 0, "")
    auto_top_up.disable(buyer.organization_id)
    assert (setting(buyer).enabled, setting(buyer).reason) == (False, "switched_off")
    buyer.buy(save_card=True)
    enable(buyer)
    assert setting(buyer) == auto_top_up.Setting(True, THRESHOLD, FIVE_USD, 2_000, 0, True, 0, "")


def test_the_database_allows_one_in_flight(low: Buyer) -> None:
    assert auto_top_up._start(low.organization_id) is not None
    assert auto_top_up._start(low.organization_id) is None
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.create(organization_id=low.organization_id, kind="auto", amount_cents=TEN_USD, credits_micro=1)


def test_the_books_are_right_at_the_end(low: Buyer) -> None:
    auto_top_up.run()
    assert verifier.violations() == []
