"""What Stripe tells us: signed events, each with its effect once.

Events come twice, twenty at once, in any order, and before Stripe has answered the request they are about. An event's
row and its effect are one transaction, so the same event again is a duplicate; different events about one payment
only leave marks on it, and `account` makes the books agree with the marks. Nothing is fetched. Ids of ours in an event
say which payment it is about; amount and currency are compared with the payment's own.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import stripe
from django.conf import settings
from django.db import connection, transaction
from msgspec import Struct

from billing.notices import outbox
from billing.payments import account
from billing.payments.account import Mismatch
from billing.payments.models import AutoTopUp, Dispute, Payment, StripeCustomer, StripeEvent
from common.checks import as_uuid

logger = logging.getLogger(__name__)

BODY_BYTES_MAX = 256 * 1024
TOLERANCE_S = 300

REMEMBER = """
INSERT INTO billing_stripeevent (id, type, outcome, payment_intent, body) VALUES (%s, %s, '', '', '')
ON CONFLICT DO NOTHING
"""
# Every event that names a payment intent holds this lock until its transaction ends. A dispute may come beside the
# event that tells us the payment's intent: whichever has the lock second sees what the first one wrote, a dispute that
# waits for its payment or a payment that knows its intent.
LOCK_INTENT = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 20))"

MONEY_IS_BACK = ("won", "warning_closed", "prevented")


class BadEvent(ValueError):
    """Not from Stripe, too old, or nothing that can be read."""


# --- What is read of an event -----------------------------------------------------------------------


class Data(Struct):
    object: msgspec.Raw


class Event(Struct):
    id: str
    type: str
    data: Data


class Session(Struct):
    id: str
    payment_status: str
    client_reference_id: str | None = None
    payment_intent: str | None = None
    amount_total: int | None = None
    currency: str | None = None


class PaymentFailure(Struct):
    code: str | None = None
    decline_code: str | None = None


class Intent(Struct):
    id: str
    amount_received: int
    currency: str
    customer: str | None = None
    payment_method: str | None = None
    setup_future_usage: str | None = None
    metadata: dict[str, str] = {}
    last_payment_error: PaymentFailure | None = None


class Charge(Struct):
    id: str
    amount_refunded: int
    currency: str
    payment_intent: str | None = None
    metadata: dict[str, str] = {}


class DisputeSaid(Struct):
    id: str
    amount: int
    currency: str
    status: str
    payment_intent: str | None = None
    reason: str = ""


# --- Receiving --------------------------------------------------------------------------------------


def receive(body: bytes, signature: str) -> str:
    """What became of the event: done, nothing_new, waiting, ignored, mismatch or duplicate. A BadEvent is to be
    answered with 400, anything else that is raised with 500: Stripe will send the event again."""
    event = _verified(body, signature)
    with transaction.atomic():
        if not _is_new(event):
            return "duplicate"
        outcome = _effect(event, body)
        StripeEvent.objects.filter(pk=event.id).update(outcome=outcome)
    logger.info("Stripe's event %s (%s): %s", event.id, event.type, outcome)
    return outcome


def _verified(body: bytes, signature: str) -> Event:
    if len(body) > BODY_BYTES_MAX:
        raise BadEvent(f"more than {BODY_BYTES_MAX} bytes")
    try:
        stripe.WebhookSignature.verify_header(body, signature, settings.STRIPE_WEBHOOK_SECRET, TOLERANCE_S)
        return msgspec.json.decode(body, type=Event)
    except stripe.SignatureVerificationError as error:
        raise BadEvent("the signature is not Stripe's, or is too old") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEvent("not an event") from error


def _is_new(event: Event) -> bool:
    """Waits for another delivery of the same event that is at work, and then is not."""
    with connection.cursor() as cursor:
        cursor.execute(REMEMBER, [event.id, event.type])
        return cursor.rowcount == 1


def _effect(event: Event, body: bytes) -> str:
    handler = HANDLERS.get(event.type)
    return "ignored" if handler is None else _if_it_fits(event, partial(handler, event, body))


def _if_it_fits(event: Event, work: Callable[[], str]) -> str:
    """All of an effect or, when something does not fit, none of it."""
    try:
        with transaction.atomic():
            return work()
    except Mismatch as mismatch:
        logger.error("Stripe's event %s (%s) does not fit our payment: %s", event.id, event.type, mismatch)
        return "mismatch"


# --- Whose payment ----------------------------------------------------------------------------------


def payment_of(intent: str | None, named: str | None) -> Payment | None:
    """By our id in what Stripe says, or by its intent: locked, and knowing its intent now. None: it is not ours."""
    if intent:
        with connection.cursor() as cursor:
            cursor.execute(LOCK_INTENT, [intent])
    payment_id = _payment_id(intent, named)
    if payment_id is None:
        return None
    payment = account.locked(payment_id)
    if intent and payment.payment_intent != intent:
        payment.payment_intent = account.same("payment_intent", intent, payment.payment_intent)
        payment.save(update_fields=["payment_intent"])
        _take_waiting(payment, intent)
    return payment


def _payment_id(intent: str | None, named: str | None) -> UUID | None:
    by_name = as_uuid(named) if named else None
    if by_name is not None:
        return Payment.objects.filter(pk=by_name).values_list("pk", flat=True).first()
    return Payment.objects.filter(payment_intent=intent).values_list("pk", flat=True).first() if intent else None


def _take_waiting(payment: Payment, intent: str) -> None:
    for row in StripeEvent.objects.filter(outcome="waiting", payment_intent=intent).order_by("received_at"):
        event = msgspec.json.decode(row.body, type=Event)
        said = _read(event, DisputeSaid)
        row.outcome = _if_it_fits(event, partial(_mark_disputed, payment, said, event.type))
        row.body = ""
        row.save(update_fields=["outcome", "body"])


# --- The events -------------------------------------------------------------------------------------


def _session_paid(event: Event, body: bytes) -> str:
    session = _read(event, Session)
    payment = payment_of(session.payment_intent, session.client_reference_id)
    if payment is None:
        return "ignored"
    payment.session_id = account.same("session", session.id, payment.session_id)
    payment.save(update_fields=["session_id"])
    if session.payment_status != "paid":
        return "nothing_new"  # a bank transfer and the like: the money comes, or does not, by a later event
    return _said(account.pay(payment, session.amount_total, session.currency))


def _session_failed(event: Event, body: bytes) -> str:
    session = _read(event, Session)
    payment = payment_of(session.payment_intent, session.client_reference_id)
    if payment is None:
        return "ignored"
    account.same("session", session.id, payment.session_id)
    return _said(account.fail(payment, "expired" if event.type.endswith("expired") else "payment_failed"))


def _intent_succeeded(event: Event, body: bytes) -> str:
    intent = _read(event, Intent)
    payment = payment_of(intent.id, intent.metadata.get("payment"))
    if payment is None:
        return "ignored"
    paid = account.pay(payment, intent.amount_received, intent.currency)
    if intent.setup_future_usage == "off_session" and intent.payment_method:
        cards = StripeCustomer.objects.filter(pk=payment.organization_id, customer_id=intent.customer)
        cards.update(payment_method=intent.payment_method)
    return _said(paid)


def _intent_failed(event: Event, body: bytes) -> str:
    """Only of auto top-ups: on a page of Stripe's, the member may try another card."""
    intent = _read(event, Intent)
    named = as_uuid(intent.metadata.get("payment", ""))
    if named is None or not Payment.objects.filter(pk=named, kind=Payment.Kind.AUTO).exists():
        return "ignored"
    payment = payment_of(intent.id, str(named))
    assert payment is not None
    failure = intent.last_payment_error or PaymentFailure()
    return _said(account.fail(payment, failure.code or failure.decline_code or "payment_failed"))


def _charge_refunded(event: Event, body: bytes) -> str:
    """`amount_refunded` is all that went back so far: the highest one seen is the truth."""
    charge = _read(event, Charge)
    payment = payment_of(charge.payment_intent, charge.metadata.get("payment"))
    if payment is None:
        return "ignored"
    _require_currency(charge.currency, payment)
    if charge.amount_refunded <= payment.refunded_cents:
        return "nothing_new"
    if charge.amount_refunded > payment.amount_cents:
        raise Mismatch(f"{charge.amount_refunded} cents went back of {payment.amount_cents}")
    payment.refunded_cents = charge.amount_refunded
    account.settle_up(payment)
    return "done"


def _disputed(event: Event, body: bytes) -> str:
    said = _read(event, DisputeSaid)
    payment = payment_of(said.payment_intent, None)
    if payment is not None:
        return _mark_disputed(payment, said, event.type)
    if said.payment_intent is None:
        return "ignored"
    # A dispute carries none of our ids; its payment may not have told us its intent yet.
    text = body.decode()
    StripeEvent.objects.filter(pk=event.id).update(payment_intent=said.payment_intent, body=text)
    return "waiting"


def _mark_disputed(payment: Payment, said: DisputeSaid, event_type: str) -> str:
    _require_currency(said.currency, payment)
    dispute, is_new = Dispute.objects.get_or_create(
        pk=said.id, defaults={"payment": payment, "amount_cents": said.amount, "status": said.status}
    )
    account.same("payment of the dispute", str(payment.pk), str(dispute.payment_id))
    before = (dispute.withdrawn, dispute.returned)
    # An inquiry ("warning_...") takes no money; what is withdrawn or lost has.
    dispute.withdrawn |= event_type.endswith("funds_withdrawn") or not said.status.startswith("warning")
    dispute.returned |= event_type.endswith("funds_reinstated") or said.status in MONEY_IS_BACK
    if dispute.status not in ("won", "lost", "warning_closed"):
        dispute.status = said.status
    dispute.save()
    if is_new:
        _alert(payment, said)
    account.settle_up(payment)
    return _said(is_new or before != (dispute.withdrawn, dispute.returned))


def _alert(payment: Payment, said: DisputeSaid) -> None:
    account.disable_auto_top_up(payment.organization_id, AutoTopUp.Off.DISPUTED)
    logger.error(
        "payment %s of organization %s is disputed: %s, %d cents, reason %s; answer at Stripe before it is lost",
        payment.pk,
        payment.organization_id,
        said.id,
        said.amount,
        said.reason or "not said",
    )
    outbox.notify_operator(
        "payment.disputed",
        f"dispute:{said.id}",
        {
            "payment": str(payment.pk),
            "organization": str(payment.organization_id),
            "dispute": said.id,
            "cents": said.amount,
            "reason": said.reason or "not said",
        },
    )


def _require_currency(said: str, payment: Payment) -> None:
    if said != payment.currency:
        raise Mismatch(f"currency is {said}, not {payment.currency}")


def _read(event: Event, kind: Any) -> Any:
    try:
        return msgspec.json.decode(event.data.object, type=kind)
    except msgspec.DecodeError as error:
        raise BadEvent(f"{event.type}: {error}") from error


def _said(changed: bool) -> str:
    return "done" if changed else "nothing_new"


HANDLERS: dict[str, Callable[[Event, bytes], str]] = {
    "checkout.session.completed": _session_paid,
    "checkout.session.async_payment_succeeded": _session_paid,
    "checkout.session.async_payment_failed": _session_failed,
    "checkout.session.expired": _session_failed,
    "payment_intent.succeeded": _intent_succeeded,
    "payment_intent.payment_failed": _intent_failed,
    "charge.refunded": _charge_refunded,
    "charge.dispute.created": _disputed,
    "charge.dispute.updated": _disputed,
    "charge.dispute.funds_withdrawn": _disputed,
    "charge.dispute.funds_reinstated": _disputed,
    "charge.dispute.closed": _disputed,
}
