"""Extra charges in the admin: an operator takes them or waives them, with a reason, once."""

import re
import uuid
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from billing.credits.accounts import open_account
from billing.ledger import journal
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import ExtraCharge, Hold, Loss, Price, Wallet
from billing.reconciliation.extra_charges import queue_extra

pytestmark = pytest.mark.django_db


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


@pytest.fixture
def charge() -> ExtraCharge:
    """Of a call that was charged 2,400 and cost 1,000 more; the wallet has 7,600 left."""
    account = open_account("Acme", "alice@example.com", credits_micro=10_000, actor="test")
    wallet_id, hold_id = account.organization.pk, uuid.uuid4()
    price = Price.objects.create(version=1, rates={"input": "0.400000", "output": "1.600000"})
    reserve = Reserve(
        wallet_id=wallet_id,
        hold_id=hold_id,
        key_id=account.key.pk,
        user_id=None,
        model="openai/gpt-4.1-mini",
        price_id=price.pk,
        provider="openrouter",
        amount=5_000,
        floor=5_000,
        life_s=60,
    )
    receipt = Receipt(model="openai/gpt-4.1-mini", provider="openrouter", price_id=price.pk)
    settle = Settle(wallet_id=wallet_id, hold_id=hold_id, key_id=account.key.pk, actual=2_400, receipt=receipt)
    journal.execute([reserve, settle])
    return queue_extra(Hold.objects.get(pk=hold_id), 1_000, Decimal("0.0000323"))


def url(charge: ExtraCharge) -> str:
    return reverse("admin:extracharge_decide", args=[charge.pk])


def posted(charge: ExtraCharge) -> int:
    return Wallet.objects.get(pk=charge.wallet_id).posted


def shown(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_the_queue_says_what_it_is_about(dora, charge):
    page = shown(dora.get(reverse("admin:billing_extracharge_change", args=[charge.pk])))
    for words in ("Acme", "$0.0000323", "2,400 micro-credits", "1,000 micro-credits"):
        assert words in page


def test_charging_takes_it_once_and_says_so_in_the_audit_log(dora, charge):
    for _ in range(2):
        assert dora.post(url(charge), {"decision": "charge", "reason": "the bill is right"}).status_code == 302
    assert posted(charge) == 6_600
    entry = AuditEntry.objects.get(action__startswith="extra_charge")
    assert (entry.actor, entry.action, entry.reason) == (
        "dora@example.com",
        "extra_charge.charged",
        "the bill is right",
    )
    assert entry.details == {"amount_micro": 1_000, "taken_micro": 1_000}


def test_waiving_takes_nothing_and_is_a_loss(dora, charge):
    dora.post(url(charge), {"decision": "waive", "reason": "our mistake"})
    assert (posted(charge), Loss.objects.get().reason) == (7_600, "extra_charge_waived")


def test_a_reason_is_needed(dora, charge):
    page = dora.post(url(charge), {"decision": "charge", "reason": " "})
    assert list(page.context["form"].errors) == ["reason"]
    assert posted(charge) == 7_600


def test_what_was_decided_is_not_decided_otherwise(dora, charge):
    dora.post(url(charge), {"decision": "waive", "reason": "our mistake"})
    page = dora.post(url(charge), {"decision": "charge", "reason": "no, the bill is right"})
    assert page.status_code == 200
    assert list(page.context["form"].errors) == ["__all__"]
    assert posted(charge) == 7_600


def test_staff_without_the_permission_look_and_get_403(charge):
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_extracharge"))
    faye = logged_in(user)
    page = faye.get(url(charge))
    assert page.status_code == 200
    assert "Charge it" not in page.content.decode()
    assert faye.post(url(charge), {"decision": "charge", "reason": "mine"}).status_code == 403
    assert posted(charge) == 7_600


def test_charlie_never_sees_it(charge):
    charlie = logged_in(User.objects.create_user("charlie@example.com", "a long enough password"))
    assert charlie.get(url(charge)).status_code in (302, 403)
    assert charlie.post(url(charge), {"decision": "charge", "reason": "mine"}).status_code in (302, 403)
    assert (posted(charge), ExtraCharge.objects.get().state) == (7_600, "waiting")
