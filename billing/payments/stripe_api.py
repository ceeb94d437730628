"""Stripe's API: the only place that talks to it, and the border where its errors become ours.

The version is pinned: what the webhooks' endpoint is set to and what we read must be the same (docs/operating.md).
Every request that changes something carries an idempotency key made from our own row's id: the same again, after a
time-out or a crash, is the same payment.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import stripe
from django.conf import settings

from billing.payments.models import Payment
from common import outbound

logger = logging.getLogger(__name__)

API_VERSION = "2026-10-28.endive"
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
RETRIES_MAX = 2
INTENTS_PER_PAGE = 100


class PaymentError(Exception):
    """The message may be shown to members."""


class NotConfigured(PaymentError):
    """There is no Stripe key: vouchers and the operator's contact are what is offered."""


class Unavailable(PaymentError):
    """Stripe did not answer, or not us: what was asked for may have happened or not, and may be asked for again."""


class Rejected(PaymentError):
    """Stripe refuses this request for good."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Declined(Rejected):
    """The card was refused, or its owner would have to confirm."""


class Session(msgspec.Struct, frozen=True):
    id: str
    url: str


class Intent(msgspec.Struct, frozen=True):
    id: str
    status: str
    amount_received: int
    currency: str


def is_configured() -> bool:
    return bool(settings.STRIPE_SECRET_KEY)


def create_customer(organization_id: UUID) -> str:
    with _client() as client:
        customer = client.v1.customers.create(
            {"metadata": {"organization": str(organization_id)}},
            {"idempotency_key": f"customer-{organization_id}"},
        )
    return customer.id


def create_session(
    payment: Payment, customer_id: str, *, success_url: str, cancel_url: str, save_card: bool
) -> Session:
    ids = _ids(payment)
    price = {
        "currency": payment.currency,
        "unit_amount": payment.amount_cents,
        "product_data": {"name": "Credits"},
    }
    params: Any = {
        "mode": "payment",
        "customer": customer_id,
        "client_reference_id": str(payment.id),
        "success_url": success_url,
        "cancel_url": cancel_url,
        "line_items": [{"quantity": 1, "price_data": price}],
        "metadata": ids,
        "payment_intent_data": {"metadata": ids} | ({"setup_future_usage": "off_session"} if save_card else {}),
    }
    with _client() as client:
        session = client.v1.checkout.sessions.create(params, {"idempotency_key": f"checkout-{payment.id}"})
    return Session(session.id, str(session.url))


def charge(payment: Payment, customer_id: str) -> Intent:
    """Charge the saved card while nobody is there. The same payment again is the same charge, for a day at least."""
    with _client() as client:
        intent = client.v1.payment_intents.create(
            {
                "amount": payment.amount_cents,
                "currency": payment.currency,
                "customer": customer_id,
                "payment_method": payment.payment_method,
                "confirm": True,
                "off_session": True,
                "description": "Credits",
                "metadata": _ids(payment),
            },
            {"idempotency_key": f"charge-{payment.id}"},
        )
    return _intent(intent)


def find_charge(payment: Payment, customer_id: str, since: datetime) -> Intent | None:
    """What became of a charge so old that its idempotency key may be forgotten."""
    with _client() as client:
        page = client.v1.payment_intents.list(
            {"customer": customer_id, "created": {"gte": int(since.timestamp())}, "limit": INTENTS_PER_PAGE}
        )
        for intent in page.auto_paging_iter():
            if intent.metadata is not None and intent.metadata.to_dict().get("payment") == str(payment.id):
                return _intent(intent)
    return None


def _ids(payment: Payment) -> dict[str, str]:
    return {"payment": str(payment.id), "organization": str(payment.organization_id)}


def _intent(intent: stripe.PaymentIntent) -> Intent:
    return Intent(intent.id, intent.status, intent.amount_received, intent.currency)


@contextmanager
def _client() -> Iterator[stripe.StripeClient]:
    if not is_configured():
        raise NotConfigured("Payments are not set up on this server.")
    stripe.enable_telemetry = False  # it would tell the machine's name; there is no switch per client
    with outbound.session() as session:
        client = stripe.StripeClient(
            settings.STRIPE_SECRET_KEY,
            stripe_version=API_VERSION,
            base_addresses={"api": settings.STRIPE_BASE_URL},
            max_network_retries=RETRIES_MAX,
            http_client=stripe.RequestsClient(timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), session=session),
        )
        with _ours():
            yield client


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except stripe.CardError as error:
        raise Declined(error.user_message or "The card was declined.", error.code or "card_declined") from error
    except stripe.InvalidRequestError as error:
        logger.error("Stripe refuses a request of ours: %s", error)
        raise Rejected("Stripe refused this payment.", error.code or "invalid_request") from error
    except stripe.StripeError as error:
        # Away, too busy, our key is not good, or a key of idempotency that says something else: in none of these
        # cases is it known that nothing has happened.
        logger.error("Stripe cannot be used: %s: %s", type(error).__name__, error)
        raise Unavailable("Payments cannot be made right now; try again in a few minutes.") from error
