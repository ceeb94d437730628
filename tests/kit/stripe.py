"""A Stripe to pay at, and an organization that does: what every test of payments stands on."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import User
from accounts.services import create_user
from billing.models import Payment
from billing.oversight import verifier
from billing.payments import checkout
from tests.kit.stripe_server import SECRET_KEY, WEBHOOK_SECRET, Json, StripeServer, signed
from tests.kit.tenants import Tenant

TEN_USD = 1_000
TEN_USD_OF_CREDITS = 1_000_000_000  # 100 credits for a dollar, a million micro-credits each


class Buyer(Tenant):
    """A tenant with somebody who pays for it."""

    def __init__(self, stripe: StripeServer, credits: int = 0, **wallet: Any) -> None:
        super().__init__(credits, **wallet)
        self.stripe = stripe
        self.user: User = create_user(f"buyer-{uuid4()}@example.org")

    def start(self, cents: int = TEN_USD, **options: Any) -> Payment:
        started = checkout.start(self.organization_id, cents, self.user.pk, **options)
        return Payment.objects.get(pk=started.payment_id)

    def buy(self, cents: int = TEN_USD, **options: Any) -> Payment:
        """Paid, and all events of it received."""
        payment = self.start(cents, **options)
        receive(*self.stripe.pay(str(payment.session_id)))
        payment.refresh_from_db()
        return payment

    def moves(self) -> list[tuple[str, int]]:
        return [entry[1:3] for entry in self.entries()]


def receive(*events: Json) -> list[str]:
    """Through the view, in this process; what became of each."""
    return [post(*signed(event)).json()["outcome"] for event in events]


def post(body: bytes, signature: str | None) -> Any:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return Client().post("/webhooks/stripe", body, content_type="application/json", headers=headers)


@pytest.fixture
def stripe(settings: Settings) -> Iterator[StripeServer]:
    with StripeServer() as server:
        settings.STRIPE_SECRET_KEY = SECRET_KEY
        settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
        settings.STRIPE_BASE_URL = server.origin
        yield server


@pytest.fixture
def buyer(db: None, stripe: StripeServer) -> Iterator[Buyer]:
    yield Buyer(stripe)
    assert verifier.violations() == []
