"""Buying credits: what is offered, and a page of Stripe's to pay on. The credits come by webhook."""

from uuid import UUID

import msgspec
from django.conf import settings

from billing.payments import account, stripe_api
from billing.payments.models import Payment, StripeCustomer
from billing.payments.stripe_api import PaymentError
from billing.pricing import money
from common.checks import Invalid

CURRENCY = "usd"
PAYMENTS_SHOWN_MAX = 100


class Offer(msgspec.Struct, frozen=True):
    """What the page offers: buying between these amounts, or, without Stripe, vouchers and somebody to ask."""

    can_buy: bool
    min_cents: int
    max_cents: int
    operator_contact: str


class Checkout(msgspec.Struct, frozen=True):
    payment_id: UUID
    url: str


def offer() -> Offer:
    """What can be bought now. Without Stripe nothing can, and the operator's contact is offered."""
    return Offer(stripe_api.is_configured(), *bounds_cents(), settings.OPERATOR_CONTACT)


def bounds_cents() -> tuple[int, int]:
    """The least and the most that one payment may be, in US cents, both included."""
    return int(settings.TOP_UP_MIN_USD * 100), int(settings.TOP_UP_MAX_USD * 100)


def check_amount(amount_cents: int) -> None:
    """Raises Invalid("amount", ...) for US cents that are not offered."""
    least, most = bounds_cents()
    if not least <= amount_cents <= most:
        given = f"{amount_cents / 100:.2f}"
        raise Invalid("amount", f"must be between {least / 100:.2f} and {most / 100:.2f} USD, not {given}")


def credits_of(amount_cents: int) -> int:
    """The micro-credits that US cents buy at today's CREDITS_PER_USD, rounded down."""
    return money.micro_of_cents(amount_cents, settings.CREDITS_PER_USD)


def start(
    organization_id: UUID,
    amount_cents: int,
    user_id: int,
    *,
    save_card: bool = False,
    return_path: str = "/billing",
) -> Checkout:
    """A payment of US cents, and the page of Stripe's where the member pays it.

    `save_card` asks there for the consent that auto top-ups need; from there the member comes back to `return_path`,
    with the payment's id. Raises Invalid("amount", ...) for an amount that is not offered, NotConfigured without
    Stripe, and another PaymentError if Stripe gives no page: then the payment has failed, and nobody can pay it.
    Whether the member may pay is `services.may_pay`'s question.
    """
    check_amount(amount_cents)
    payment = _payment(organization_id, amount_cents, user_id)
    try:
        session = _session(payment, save_card, return_path)
    except PaymentError as error:
        # Nobody has seen the page, if there is one: it cannot be paid.
        account.fail_by_id(payment.pk, str(error))
        raise
    # Its events may have been here already and have said the same.
    Payment.objects.filter(pk=payment.pk, session_id=None).update(session_id=session.id)
    return Checkout(payment.pk, session.url)


def payments_of(organization_id: UUID) -> list[Payment]:
    """The newest first."""
    return list(Payment.objects.filter(organization_id=organization_id).order_by("-created_at")[:PAYMENTS_SHOWN_MAX])


def customer_of(organization_id: UUID) -> StripeCustomer:
    """Made at the first payment. Two at once are one: the idempotency key is the organization's."""
    known = StripeCustomer.objects.filter(pk=organization_id).first()
    if known is not None:
        return known
    customer_id = stripe_api.create_customer(organization_id)
    return StripeCustomer.objects.get_or_create(pk=organization_id, defaults={"customer_id": customer_id})[0]


def _payment(organization_id: UUID, amount_cents: int, user_id: int) -> Payment:
    if not stripe_api.is_configured():
        raise stripe_api.NotConfigured("Payments are not set up on this server.")
    return Payment.objects.create(
        organization_id=organization_id,
        kind=Payment.Kind.CHECKOUT,
        amount_cents=amount_cents,
        currency=CURRENCY,
        credits_micro=credits_of(amount_cents),
        user_id=user_id,
    )


def _session(payment: Payment, save_card: bool, return_path: str) -> stripe_api.Session:
    back = f"{settings.PUBLIC_URL}{return_path}{'&' if '?' in return_path else '?'}payment={payment.pk}"
    return stripe_api.create_session(
        payment,
        customer_of(payment.organization_id).customer_id,
        success_url=back,
        cancel_url=f"{back}&cancelled=1",
        save_card=save_card,
    )
