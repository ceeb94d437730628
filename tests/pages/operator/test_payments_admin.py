"""Payments and promotions in the admin: an operator sees what is short, and changes nothing there."""

from datetime import UTC, datetime

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse

from accounts.models import User
from billing.credits import accounts, vouchers
from billing.models import AutoTopUp, Dispute, Lot, Payment, StripeEvent, Voucher, VoucherBatch
from billing.payments import auto_top_up
from tests.kit.books import do
from tests.kit.stripe import Buyer, receive
from tests.kit.stripe_server import StripeServer

ROWS = [Payment, Dispute, StripeEvent, AutoTopUp, Lot, VoucherBatch, Voucher]


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.com", "secret"))
    return client


@pytest.fixture
def everything(buyer: Buyer, stripe: StripeServer) -> Buyer:
    """A payment that was spent and then disputed, a lot, an auto top-up and a voucher."""
    payment = buyer.buy()
    do(buyer.settle(buyer.hold(600_000_000), 600_000_000))
    auto_top_up.enable(
        buyer.organization_id, threshold_micro=1, amount_cents=500, monthly_max_cents=500, user_id=buyer.user.pk
    )
    receive(*stripe.dispute(str(payment.payment_intent)))
    end = datetime(2030, 1, 1, tzinfo=UTC)
    accounts.grant(buyer.organization_id, 5, actor="carol", reason="welcome", expires_at=end)
    vouchers.create_batch("Spring", 1, 10, created_by="carol")
    return buyer


@pytest.mark.parametrize("model", ROWS)
def test_an_operator_looks_and_cannot_touch(operator: Client, everything: Buyer, model: type) -> None:
    name, row = model.__name__.lower(), model.objects.first()  # type: ignore[attr-defined]
    assert operator.get(reverse(f"admin:billing_{name}_changelist")).status_code == 200
    page = operator.get(reverse(f"admin:billing_{name}_change", args=[quote(row.pk)]))
    assert page.status_code == 200
    assert "_save" not in page.content.decode()
    assert operator.get(reverse(f"admin:billing_{name}_add")).status_code == 403
    assert (
        operator.post(reverse(f"admin:billing_{name}_change", args=[quote(row.pk)]), {"state": "paid"}).status_code
        == 403
    )
    assert (
        operator.post(reverse(f"admin:billing_{name}_delete", args=[quote(row.pk)]), {"post": "yes"}).status_code == 403
    )
    assert model.objects.count() == (5 if model is StripeEvent else 1)  # type: ignore[attr-defined]


def test_what_is_short_can_be_listed(operator: Client, everything: Buyer) -> None:
    everything.buy()
    listing = reverse("admin:billing_payment_changelist")
    assert operator.get(listing).context["cl"].result_count == 2
    [short] = operator.get(listing, {"short": "yes"}).context["cl"].result_list
    assert (short.state, short.shortfall_micro) == ("disputed", 600_000_000)


def test_no_code_can_be_read(operator: Client, everything: Buyer) -> None:
    page = operator.get(reverse("admin:billing_voucher_change", args=[Voucher.objects.get().pk])).content.decode()
    assert Voucher.objects.get().tail in page
    assert "digest" not in page.lower()
