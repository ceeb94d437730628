"""The books in the admin: every page opens for an operator, none lets anybody write."""

import uuid
from datetime import date
from decimal import Decimal

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from billing.credits.accounts import open_account
from billing.ledger import journal, rates
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import (
    AutoTopUp,
    CreditRate,
    Dispute,
    Entry,
    ExtraCharge,
    FailedAttempt,
    Heartbeat,
    Hold,
    Loss,
    Lot,
    Meter,
    Operation,
    Payment,
    Price,
    ProviderDay,
    StripeEvent,
    Usage,
    UsageHour,
    VerifierRun,
    Voucher,
    VoucherBatch,
    Wallet,
)
from billing.reconciliation import drift, losses
from billing.reconciliation.extra_charges import queue_extra
from billing.usage.rollups import roll_up

BOOKS = [Wallet, Entry, Hold, Usage, UsageHour, Price, Meter, CreditRate, ExtraCharge, FailedAttempt, Loss]
BOOKS += [ProviderDay]
# Looked at in test_payments_admin.py.
PAYMENTS = [AutoTopUp, Dispute, Lot, Payment, StripeEvent, Voucher, VoucherBatch]


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com", "secret"))
    return client


@pytest.fixture
def a_call(db: None) -> uuid.UUID:
    account = open_account("Acme", "alice@example.com", credits_micro=10_000, actor="test")
    price = Price.objects.create(version=1, rates={"input": "0.400000", "output": "1.600000"})
    hold_id = uuid.uuid4()
    wallet_id, key_id = account.organization.pk, account.key.pk
    reserve = Reserve(
        wallet_id=wallet_id,
        hold_id=hold_id,
        key_id=key_id,
        user_id=None,
        model="openai/gpt-4.1-mini",
        price_id=price.pk,
        provider="openrouter",
        amount=5_000,
        floor=5_000,
        life_s=60,
    )
    receipt = Receipt(model="openai/gpt-4.1-mini", provider="openrouter", price_id=price.pk)
    journal.execute(
        [reserve, Settle(wallet_id=wallet_id, hold_id=hold_id, key_id=key_id, actual=2_400, receipt=receipt)]
    )
    roll_up()
    rates.current()
    queue_extra(Hold.objects.get(pk=hold_id), 5, Decimal("0.1"))
    losses.note(hold_id, Loss.Reason.NO_REFERENCE)
    FailedAttempt.objects.create(
        hold_id=hold_id, provider="openrouter", provider_ref="gen-1", recorded_at=timezone.now(), reconciliation="none"
    )
    drift.compare_reported(date(2026, 1, 2), "anthropic", {"m": drift.Bill(Decimal(5))})
    return hold_id


@pytest.mark.parametrize("model", BOOKS)
def test_an_operator_reads_the_books(operator: Client, a_call: uuid.UUID, model: type):
    listing = operator.get(reverse(f"admin:billing_{model.__name__.lower()}_changelist"))
    assert listing.status_code == 200
    assert listing.context["cl"].result_count == 1 or model is Entry
    row = model.objects.first()
    page = operator.get(reverse(f"admin:billing_{model.__name__.lower()}_change", args=[row.pk]))
    assert page.status_code == 200
    assert "_save" not in page.content.decode()


@pytest.mark.parametrize("model", BOOKS)
def test_nobody_writes_them(operator: Client, a_call: uuid.UUID, model: type):
    name = model.__name__.lower()
    row = model.objects.first()
    assert operator.get(reverse(f"admin:billing_{name}_add")).status_code == 403
    assert operator.post(reverse(f"admin:billing_{name}_change", args=[row.pk]), {"posted": 1}).status_code == 403
    assert operator.post(reverse(f"admin:billing_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_every_model_of_the_books_is_there():
    shown = {model for model in admin.site._registry if model._meta.app_label == "billing"}
    assert shown == {*BOOKS, *PAYMENTS, Heartbeat, Operation, VerifierRun}  # the last three: tests/test_operator_*.py
