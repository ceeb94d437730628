"""Adding credits on the billing page: by card on Stripe's page and back, and by voucher."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.models import LogInThrottle
from billing.credits import accounts, vouchers
from billing.models import Entry, Payment, VoucherBatch
from quantized.dashboard.paying import STATES
from tests.kit.dashboard import text
from tests.kit.stripe import Buyer, buyer, receive, stripe
from tests.kit.stripe_server import StripeServer
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

__all__ = ["buyer", "stripe"]
WORTH = 500_000
PAYERS = ("owner", "admin", "billing")
OTHERS = ("developer", "viewer")


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def owner(buyer: Buyer) -> Client:
    return buyer.member("owner", "alice@example.org").client


def code(**rules: Any) -> str:
    return vouchers.create_batch("Spring", 1, WORTH, created_by="carol", **rules)[1][0]


def moves(tenant: Tenant) -> list[tuple[str, int]]:
    return [entry[1:3] for entry in tenant.entries()]


# --- By card ----------------------------------------------------------------------------------------


def test_every_state_of_a_payment_has_words():
    assert set(STATES) == set(Payment.State)


def test_amounts_are_offered_in_dollars_and_credits_within_the_operators_bounds(owner: Client, settings: Settings):
    settings.TOP_UP_MIN_USD, settings.TOP_UP_MAX_USD = 20, 60
    page = text(owner.get("/billing"))
    assert "How much? $25 2,500 credits $50 5,000 credits Another you say" in page
    assert "From $20 to $60. A dollar buys 100 credits." in page


def test_a_chosen_amount_leads_to_stripes_page_and_back_here(owner: Client, buyer: Buyer, stripe: StripeServer):
    answer = owner.post("/billing/top-up", {"amount": "25", "own": "99", "save_card": "on"})
    payment = Payment.objects.get()
    session = stripe.sessions[str(payment.session_id)]
    assert (answer.status_code, answer.headers["location"]) == (302, session["url"])
    assert (payment.amount_cents, payment.organization_id) == (2_500, buyer.organization_id)
    assert stripe.intent_data[session["id"]]["setup_future_usage"] == "off_session"
    assert session["success_url"] == f"http://localhost:8000/billing?payment={payment.pk}"


def test_an_amount_of_ones_own_is_exact_to_the_cent(owner: Client):
    owner.post("/billing/top-up", {"amount": "own", "own": "12.34"})
    payment = Payment.objects.get()
    assert (payment.amount_cents, payment.credits_micro) == (1_234, 1_234_000_000)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"amount": "own", "own": ""}, "Say how many dollars."),
        ({"amount": "own", "own": "3"}, "Must be between 5.00 and 1000.00 USD, not 3.00."),
        ({"amount": "own", "own": "1000.01"}, "Must be between 5.00 and 1000.00 USD, not 1000.01."),
        ({"amount": "own", "own": "12.345"}, "no more than 2 decimal places"),
        ({"amount": "own", "own": "ten"}, "Enter a number."),
    ],
)
def test_an_amount_that_is_not_offered_is_refused_beside_its_field(given: dict[str, str], says: str, owner: Client):
    page = owner.post("/billing/top-up", given)
    assert page.status_code == 422
    assert says in text(page)
    assert f'value="{given["own"]}"' in page.content.decode()  # what was typed stays
    assert 'value="own" checked' in page.content.decode()
    assert owner.post("/billing/top-up", {"amount": "7"}).status_code == 422  # no choice of ours
    assert not Payment.objects.exists()


def test_what_an_own_amount_buys_is_told_while_it_is_typed(owner: Client):
    assert text(owner.get("/billing/quote", {"own": "12.34"})) == "= 1,234 credits"
    for nonsense in ("", "3", "x", "1e9"):
        assert text(owner.get("/billing/quote", {"own": nonsense})) == ""


def test_the_page_waits_for_the_webhook_and_then_shows_the_new_balance(
    owner: Client, buyer: Buyer, stripe: StripeServer
):
    owner.post("/billing/top-up", {"amount": "10"})
    payment = Payment.objects.get()
    back, part = f"/billing?payment={payment.pk}", f"/billing/payment/{payment.pk}"
    page = owner.get(back)
    assert "$10: waiting for the payment to be confirmed. 1,000 credits appear here by themselves" in text(page)
    assert f'hx-get="{part}" hx-trigger="every 2s"' in page.content.decode()
    assert "waiting for the payment" in text(owner.get(part))
    receive(*stripe.pay(str(payment.session_id)))
    answer = owner.get(part)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, back)
    page = text(owner.get(back))
    assert "$10 paid. 1,000 credits came in." in page
    assert "Balance 1,000 credits" in page


def test_a_webhook_that_is_late_is_owned_up_to(
    owner: Client, buyer: Buyer, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    settings.OPERATOR_CONTACT = "help@example.org"
    payment = buyer.start()
    later = datetime.now(UTC) + timedelta(minutes=2)
    monkeypatch.setattr(timezone, "now", lambda: later)
    page = owner.get(f"/billing/payment/{payment.pk}")
    assert "It takes longer than usual. You may leave this page" in text(page)
    assert 'hx-trigger="every 15s"' in page.content.decode()
    assert 'href="mailto:help@example.org"' in page.content.decode()


def test_who_came_back_without_paying_is_told_that_nothing_was_charged(owner: Client, buyer: Buyer):
    payment = buyer.start()
    page = owner.get(f"/billing?payment={payment.pk}&cancelled=1")
    assert "You left the payment page, and nothing was charged." in text(page)
    assert "hx-trigger" not in page.content.decode().split('id="payment"')[1].split("</p>")[0]


def test_a_payment_that_failed_says_why(owner: Client, buyer: Buyer, stripe: StripeServer):
    payment = buyer.start()
    receive(stripe.expire(str(payment.session_id)))
    page = text(owner.get(f"/billing?payment={payment.pk}"))
    assert "The payment of $10 failed, and nothing was charged. The payment page was left open for too long." in page


def test_stripe_away_is_said_and_the_form_is_kept(owner: Client, settings: Settings):
    settings.STRIPE_BASE_URL = "http://127.0.0.1:9"
    page = owner.post("/billing/top-up", {"amount": "50"})
    assert page.status_code == 503
    assert "Payments cannot be made right now; try again in a few minutes." in text(page)
    assert 'value="50" checked' in page.content.decode()


def test_this_page_alone_may_lead_to_stripes(owner: Client, buyer: Buyer, stripe: StripeServer, settings: Settings):
    allowed = owner.get("/billing").headers["content-security-policy"]
    assert f"form-action 'self' {stripe.origin} https://checkout.stripe.com;" in allowed
    settings.STRIPE_BASE_URL = "https://api.stripe.com"
    assert "form-action 'self' https://checkout.stripe.com;" in owner.get("/billing").headers["content-security-policy"]
    for page in (owner.get("/team"), buyer.member("viewer").client.get("/billing")):
        assert "form-action 'self';" in page.headers["content-security-policy"]
    settings.STRIPE_SECRET_KEY = ""
    assert "form-action 'self';" in owner.get("/billing").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("contact", "shown"),
    [
        ("https://example.org/buy", '<a href="https://example.org/buy">'),
        ("sales@example.org", '<a href="mailto:sales@example.org">'),
        ("", "the operator of this server"),
    ],
)
def test_without_stripe_there_are_vouchers_and_somebody_to_ask(
    contact: str, shown: str, alice: Tenant, settings: Settings
):
    settings.OPERATOR_CONTACT = contact
    page = alice.client.get("/billing")
    assert "Credits are not sold by card here. Redeem a voucher, or ask" in text(page)
    assert shown in page.content.decode()
    assert "Go to payment" not in text(page)


# --- By voucher -------------------------------------------------------------------------------------


def test_a_voucher_is_redeemed(alice: Tenant):
    page = alice.client.post("/billing/voucher", {"code": code()}, follow=True)
    assert "0.5 credits came in." in text(page)
    assert "Balance 10.5 credits" in text(page)
    assert moves(alice)[-1] == ("grant", WORTH)


def test_credits_that_expire_are_listed_with_what_is_left(alice: Tenant):
    owner = alice.client
    assert "None of yours do." in text(owner.get("/billing"))
    page = text(owner.post("/billing/voucher", {"code": code(credit_days=30)}, follow=True))
    assert "0.5 credits came in, good until" in page
    assert "Expire From Left Of in 4 weeks voucher …" in page
    assert "of Spring 0.5 0.5 They are spent first" in page


def bad_codes() -> list[tuple[str, str]]:
    used, cancelled, late = code(), code(), code(redeem_until=datetime.now(UTC) + timedelta(days=1))
    vouchers.redeem(Tenant(1).organization_id, used, browser_user())
    vouchers.cancel_batch(VoucherBatch.objects.order_by("pk")[1].pk)
    VoucherBatch.objects.filter(redeem_until__isnull=False).update(redeem_until=datetime(2026, 1, 2, tzinfo=UTC))
    return [
        ("", "Type the voucher’s code."),
        ("ABCD", "There is no such voucher; look for a typo."),
        (vouchers.mint(), "There is no such voucher; look for a typo."),
        (used, "This voucher was redeemed already."),
        (cancelled, "This voucher was cancelled."),
        (late, "This voucher could be redeemed until 2026-01-02 00:00 UTC."),
    ]


def browser_user() -> int:
    client = Tenant(1).client
    return int(client.session["_auth_user_id"])


def test_every_refusal_is_a_sentence_beside_the_field(alice: Tenant):
    member = alice.client
    for given, says in bad_codes():
        page = member.post("/billing/voucher", {"code": given})
        assert (page.status_code, says in text(page)) == (422, True), says
        assert 'aria-invalid="true"' in page.content.decode()
        assert f'value="{given}"' in page.content.decode() or not given
    assert moves(alice) == [("purchase", 10_000_000)]


def test_one_of_a_kind_and_too_many_tries_are_told(alice: Tenant):
    member = alice.client
    _, codes = vouchers.create_batch("One", 2, WORTH, created_by="carol", once_per_organization=True)
    assert member.post("/billing/voucher", {"code": codes[0]}).status_code == 302
    assert "one is all it may." in text(member.post("/billing/voucher", {"code": codes[1]}))
    for _ in range(vouchers.FAILURES_PER_USER_MAX):
        page = member.post("/billing/voucher", {"code": vouchers.mint()})
    assert "Too many codes that were not good. Try again in" in text(page)
    assert "minutes." in text(page)
    assert LogInThrottle.objects.exists()
    assert moves(alice) == [("purchase", 10_000_000), ("grant", WORTH)]


# --- Who may ----------------------------------------------------------------------------------------


def test_the_pages_payers_are_the_services():
    assert [role for role in (*PAYERS, *OTHERS) if accounts.may_pay(role)] == list(PAYERS)


@pytest.mark.parametrize("role", OTHERS)
def test_others_see_and_cannot_act(role: str, buyer: Buyer):
    member = buyer.member(role).client
    page = text(member.get("/billing"))
    assert "Ask one of yours." in page
    assert "Go to payment" not in page
    assert "Redeem" not in page
    assert member.post("/billing/top-up", {"amount": "10"}).status_code == 403
    assert member.post("/billing/voucher", {"code": code()}).status_code == 403
    assert not Payment.objects.exists()
    assert moves(buyer) == []


@pytest.mark.parametrize("role", PAYERS)
def test_payers_act(role: str, buyer: Buyer):
    member = buyer.member(role).client
    assert member.post("/billing/top-up", {"amount": "10"}).status_code == 302
    assert member.post("/billing/voucher", {"code": code()}).status_code == 302
    assert moves(buyer) == [("grant", WORTH)]


def test_charlie_finds_no_payment_of_ours_and_changes_nothing(buyer: Buyer, client: Client):
    payment = buyer.start()
    charlie = Tenant(5, email="charlie@example.org").client
    before = (list(Payment.objects.values()), Entry.objects.count())
    assert charlie.get(f"/billing/payment/{payment.pk}").status_code == 404
    assert charlie.get(f"/billing/payment/{uuid4()}").status_code == 404
    assert "waiting for the payment" not in text(charlie.get(f"/billing?payment={payment.pk}"))
    assert charlie.get("/billing?payment=nonsense").status_code == 200
    assert (list(Payment.objects.values()), Entry.objects.count()) == before
    for address in ("/billing/top-up", "/billing/voucher"):
        assert client.post(address).headers["location"] == f"/accounts/login/?next={address}"
        assert charlie.get(address).status_code == 405
