"""Payments and the automatic top-up; the list of monthly statements and their files."""

from datetime import UTC, datetime
from importlib import import_module

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing.models import AutoTopUp, Entry, Payment
from billing.payments import account, auto_top_up, checkout
from billing.usage.rollups import roll_up
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import call, text
from tests.kit.stripe import Buyer, buyer, receive, stripe
from tests.kit.stripe_server import StripeServer
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

__all__ = ["buyer", "stripe"]
WISH = {"threshold": "12.5", "amount": "25", "monthly_max": "60.50"}


@pytest.fixture
def owner(buyer: Buyer) -> Client:
    return buyer.member("owner", "alice@example.org").client


# --- Payments ---------------------------------------------------------------------------------------


def test_payments_are_listed_with_what_became_of_them(owner: Client, buyer: Buyer, stripe: StripeServer):
    assert "No payment yet" in text(owner.get("/billing/payments"))
    buyer.start(500)
    paid = buyer.buy(1_050)
    receive(stripe.refund(str(paid.payment_intent), 250))
    failed = buyer.start(2_000)
    receive(stripe.expire(str(failed.session_id)))
    page = text(owner.get("/billing/payments"))
    assert page.split("Paid Credits ")[1].startswith(
        "just now Payment page failed The payment page was left open for too long $20 2,000 "
        "just now Payment page partly refunded $2.50 back $10.50 1,050 "
        "just now Payment page waiting $5 500 "
    )


def test_thirty_payments_cost_the_queries_of_one(owner: Client, buyer: Buyer):
    buyer.start()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert owner.get("/billing/payments").status_code == 200
        return len(captured)

    before = queries()
    Payment.objects.bulk_create(
        Payment(organization_id=buyer.organization_id, kind="checkout", amount_cents=100, credits_micro=1)
        for _ in range(120)
    )
    assert queries() == before <= 12
    assert f"The newest {checkout.PAYMENTS_SHOWN_MAX} are shown" in text(owner.get("/billing/payments"))


# --- Automatic top-up -------------------------------------------------------------------------------


def test_without_a_saved_card_the_page_says_how_to_save_one(owner: Client):
    page = text(owner.get("/billing/payments"))
    assert "Automatic top-up off" in page
    assert "No card is saved yet: add credits once and tick “Save the card”." in page
    assert "Switch on" not in page


def test_it_is_switched_on_changed_and_off(owner: Client, buyer: Buyer):
    buyer.buy(save_card=True)
    assert "Switch on" in text(owner.get("/billing/payments"))
    page = text(owner.post("/billing/auto-top-up", WISH, follow=True))
    assert "The automatic top-up is on." in page
    assert "Automatic top-up on $0 of $60.50 this month" in page
    row = AutoTopUp.objects.get(pk=buyer.organization_id)
    assert (row.threshold_micro, row.amount_cents, row.monthly_max_cents) == (12_500_000, 2_500, 6_050)
    html = owner.get("/billing/payments").content.decode()
    for typed in ("12.5", "25", "60.5"):
        assert f'value="{typed}"' in html
    owner.post("/billing/auto-top-up", WISH | {"threshold": "0"})
    assert AutoTopUp.objects.get(pk=buyer.organization_id).threshold_micro == 0
    page = text(owner.post("/billing/auto-top-up/off", follow=True))
    assert "Automatic top-up off" in page
    assert "Switched off." not in page  # no trouble: somebody wanted it
    assert not AutoTopUp.objects.get(pk=buyer.organization_id).enabled


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"threshold": ""}, "threshold", "This field is required."),
        ({"threshold": "-1"}, "threshold", "greater than or equal to 0."),
        ({"threshold": "9999999999999"}, "threshold", "Must not be negative, nor above"),
        ({"amount": "3"}, "amount", "Must be between 5.00 and 1000.00 USD, not 3.00."),
        ({"monthly_max": "24"}, "monthly_max", "Must not be less than one top-up."),
    ],
)
def test_a_wish_that_cannot_be_is_refused_beside_its_field(
    wrong: dict[str, str], field: str, says: str, owner: Client, buyer: Buyer
):
    buyer.buy(save_card=True)
    page = owner.post("/billing/auto-top-up", WISH | wrong)
    assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
    assert says in text(page)
    assert not AutoTopUp.objects.exists()


def test_why_it_failed_is_told_and_when_it_was_given_up(owner: Client, buyer: Buyer, stripe: StripeServer):
    buyer.buy(save_card=True)
    owner.post("/billing/auto-top-up", WISH)
    AutoTopUp.objects.filter(pk=buyer.organization_id).update(failures=1, reason="insufficient_funds")
    page = text(owner.get("/billing/payments"))
    assert "The account of the card does not cover it. It is tried again later." in page
    AutoTopUp.objects.filter(pk=buyer.organization_id).update(
        failures=account.FAILURES_MAX, reason="some_new_code", enabled=False
    )
    page = text(owner.get("/billing/payments"))
    assert f"Some new code. It was switched off after {account.FAILURES_MAX} failures." in page


def test_sentences_of_old_rows_become_codes_and_back(owner: Client, buyer: Buyer):
    migration = import_module("billing.migrations.0032_why_a_top_up_is_off_as_a_code")
    buyer.buy(save_card=True)
    owner.post("/billing/auto-top-up", WISH)
    pairs = [
        ("Switched off.", "switched_off"),
        ("A payment was disputed.", "payment_disputed"),
        ("card_declined", "card_declined"),
        ("", ""),
    ]
    for sentence, code in pairs:
        AutoTopUp.objects.update(reason=sentence)
        for statement, then in ((migration.CODES, code), (migration.SENTENCES, sentence)):
            with connection.cursor() as cursor:
                cursor.execute(statement)
            assert AutoTopUp.objects.get().reason == then


def test_a_dispute_is_told_in_words_and_a_members_switch_is_not(owner: Client, buyer: Buyer):
    buyer.buy(save_card=True)
    owner.post("/billing/auto-top-up", WISH)
    account.disable_auto_top_up(buyer.organization_id, AutoTopUp.Off.DISPUTED)
    assert "A payment was disputed. It was switched off" in text(owner.get("/billing/payments"))
    AutoTopUp.objects.update(reason=AutoTopUp.Off.BY_MEMBER)
    assert "switched off" not in text(owner.get("/billing/payments")).lower()


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_others_see_it_and_cannot_set_it(role: str, buyer: Buyer):
    buyer.buy(save_card=True)
    auto_top_up.enable(
        buyer.organization_id,
        threshold_micro=1_000_000,
        amount_cents=2_500,
        monthly_max_cents=5_000,
        user_id=buyer.user.pk,
    )
    before = list(AutoTopUp.objects.values())
    member = buyer.member(role).client
    page = text(member.get("/billing/payments"))
    assert "When less than 1 credits are left, credits for $25 are bought." in page
    assert "Switch off" not in page
    assert member.post("/billing/auto-top-up", WISH).status_code == 403
    assert member.post("/billing/auto-top-up/off").status_code == 403
    assert list(AutoTopUp.objects.values()) == before


def test_charlie_sets_his_own_and_sees_none_of_ours(buyer: Buyer, client: Client):
    buyer.buy(1_234, save_card=True)
    auto_top_up.enable(
        buyer.organization_id,
        threshold_micro=1_000_000,
        amount_cents=2_500,
        monthly_max_cents=5_000,
        user_id=buyer.user.pk,
    )
    before = list(AutoTopUp.objects.values())
    charlie = Tenant(5, email="charlie@example.org").client
    assert "$12.34" not in text(charlie.get("/billing/payments"))
    charlie.post("/billing/auto-top-up/off")
    assert list(AutoTopUp.objects.values()) == before
    for address in ("/billing/auto-top-up", "/billing/auto-top-up/off"):
        assert client.post(address).headers["location"] == f"/accounts/login/?next={address}"


def test_without_stripe_there_is_no_automatic_top_up(settings: Settings):
    page = text(Tenant(5).client.get("/billing/payments"))
    assert "Automatic top-up" not in page
    assert "Credits are not sold by card here." in page


# --- Statements -------------------------------------------------------------------------------------


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def alice(alice: Tenant) -> Tenant:
    now = datetime.now(UTC)
    months_ago = now.year * 12 + now.month - 1 - 29  # thirty months with this one
    born = datetime(months_ago // 12, months_ago % 12 + 1, 15, tzinfo=UTC)
    Organization.objects.filter(pk=alice.organization_id).update(created_at=born, name="Alice & Co")
    return alice


def test_every_month_since_the_beginning_has_its_files(alice: Tenant):
    member = alice.member("viewer").client
    page = member.get("/billing/statements")
    now = datetime.now(UTC)
    assert f"{now:%B %Y} to date PDF CSV" in text(page)
    assert text(page).count("final PDF CSV") == 23
    assert "1–24 of 30" in text(page)
    second = member.get("/billing/statements?page=2")
    assert text(second).count("final PDF CSV") == 6
    assert "to date" not in text(second)


def test_a_statement_is_downloaded(alice: Tenant):
    member = alice.member("viewer").client
    month = f"{datetime.now(UTC):%Y-%m}"
    table = member.get(f"/billing/statements/{month}.csv")
    assert table.headers["content-disposition"] == f'attachment; filename="statement-alice-co-{month}.csv"'
    assert table.headers["cache-control"] == "private, no-store"
    assert "purchase,a test,,,10000000,10.000000,10000000,10.000000" in table.content.decode()
    paper = member.get(f"/billing/statements/{month}.pdf")
    assert (paper.headers["content-type"], paper.content[:5]) == ("application/pdf", b"%PDF-")


@pytest.mark.parametrize("name", ["1999-01.csv", "2999-01.csv", "nonsense.csv", "{month}.exe", "{month}."])
def test_what_is_no_statement_is_not_found(name: str, alice: Tenant):
    address = f"/billing/statements/{name}".replace("{month}", f"{datetime.now(UTC):%Y-%m}")
    assert alice.client.get(address).status_code == 404


def test_what_does_not_add_up_is_not_given_out():
    clock = DatabaseClock(datetime(2026, 5, 10, 9, 0, tzinfo=UTC))
    alice = Tenant(10_000_000)
    Organization.objects.filter(pk=alice.organization_id).update(created_at=clock.now)
    call(alice, 5)
    clock.set(datetime(2026, 5, 10, 12, 0, tzinfo=UTC))
    roll_up()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_usagehour SET charged = charged + 1 WHERE wallet_id = %s", [alice.organization_id]
        )
    page = alice.client.get("/billing/statements/2026-05.csv", follow=True)
    assert "The figures of 2026-05 are being checked: its statement cannot be given out now." in text(page)


def test_charlies_statement_has_nothing_of_ours(alice: Tenant, client: Client):
    month = f"{datetime.now(UTC):%Y-%m}"
    charlie = Tenant(5, email="charlie@example.org").client
    before = Entry.objects.count()
    table = charlie.get(f"/billing/statements/{month}.csv").content.decode()
    assert "10000000" not in table
    address = f"/billing/statements/{month}.csv"
    assert client.get(address).headers["location"] == f"/accounts/login/?next={address}"
    assert Entry.objects.count() == before
