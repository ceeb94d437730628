"""What a payment does to the books.

A payment's credits are posted once (`purchase`), and taken back as far as money went back (`refund`): `settle_up`
compares what should be back with what is, and posts the difference. So it does not matter in which order, how often
or how many at once events come: each leaves a mark on the payment, and settling up twice posts nothing.

Everything here runs under the wallet's lock, taken before the payment's.
"""

import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from billing.credits import lots
from billing.ledger import journal
from billing.ledger.models import Wallet
from billing.notices import outbox
from billing.payments.models import AutoTopUp, Payment
from common.invariants import EntryKey, Invariant

logger = logging.getLogger(__name__)

FAILURES_MAX = 3
RETRY_AFTER = timedelta(hours=1)  # times the failures so far
ACTOR = "stripe"

PAYMENT = EntryKey("payment")  # of a payment: its purchase; with a number: that movement back or forth
INVARIANT = Invariant(
    "a payment moved what it says",
    f"""p.id::text,
       format('%%s of %%s, %%s taken back; entries %%s and %%s', p.state, p.credits_micro, p.taken_back_micro, e.amount,
              coalesce(b.amount, 0))
FROM billing_payment p LEFT JOIN LATERAL (
    SELECT amount, kind FROM billing_entry
    WHERE wallet_id = p.organization_id AND idempotency_key = {PAYMENT.sql("p.id")} OFFSET 0) e ON true,
LATERAL (
    SELECT sum(amount) AS amount FROM generate_series(0, p.movements - 1) AS movement(number), LATERAL (
        SELECT amount FROM billing_entry
        WHERE wallet_id = p.organization_id AND idempotency_key = {PAYMENT.sql("p.id", "number")}
          AND kind = 'refund' OFFSET 0) moved) b
WHERE (p.paid_at IS NOT NULL) <> (e.amount IS NOT NULL) OR e.amount <> p.credits_micro OR e.kind <> 'purchase'
   OR coalesce(b.amount, 0) <> -p.taken_back_micro""",  # noqa: S608 - of constants
)


class Mismatch(Exception):
    """Stripe names another amount, currency, session or intent than the payment: nothing is believed."""


def locked(payment_id: UUID) -> Payment:
    """The payment, its wallet and itself locked until the transaction ends."""
    lots.lock_wallet(Payment.objects.values_list("organization_id", flat=True).get(pk=payment_id))
    return Payment.objects.select_for_update(no_key=True).get(pk=payment_id)


def pay(payment: Payment, amount_cents: int | None, currency: str | None) -> bool:
    """The money is here: post its credits. False if that was known. Also a payment we had given up."""
    _compare("amount", amount_cents, payment.amount_cents)
    _compare("currency", currency, payment.currency)
    if payment.paid_at is not None:
        return False
    payment.paid_at, payment.state, payment.failure = datetime.now(UTC), Payment.State.PAID, ""
    journal.post(
        payment.organization_id,
        "purchase",
        payment.credits_micro,
        actor=ACTOR,
        reason=f"{payment.kind} payment {payment.id}",
        idempotency_key=PAYMENT.of(payment.id),
    )
    if payment.kind == Payment.Kind.AUTO:
        AutoTopUp.objects.filter(pk=payment.organization_id).update(failures=0, retry_at=None, reason="")
    settle_up(payment)
    return True


def fail(payment: Payment, reason: str) -> bool:
    """No money came of it; False if that was known, or is not so any more."""
    if payment.state != Payment.State.CREATED:
        return False
    payment.state, payment.failure = Payment.State.FAILED, reason
    payment.save(update_fields=["state", "failure"])
    if payment.kind == Payment.Kind.AUTO:
        _count_failure(payment.organization_id, reason)
    return True


def settle_up(payment: Payment) -> None:
    """Take back the credits of money that went back, as far as the floor allows, or give them back again."""
    if payment.paid_at is not None:
        disputed_cents = _disputed_cents(payment)
        back_cents = min(payment.amount_cents, payment.refunded_cents + disputed_cents)
        _move(payment, _share(payment, back_cents) - payment.taken_back_micro - payment.shortfall_micro)
        payment.state = _state(payment, disputed_cents)
    payment.save()


def disable_auto_top_up(organization_id: UUID, reason: AutoTopUp.Off) -> None:
    AutoTopUp.objects.filter(pk=organization_id, enabled=True).update(enabled=False, reason=reason)


def same(what: str, said: str | None, known: str | None) -> str | None:
    """What is known, or what is said while nothing is known; a Mismatch if they differ."""
    if said and known:
        _compare(what, said, known)
    return known or said


def _compare(what: str, said: object, known: object) -> None:
    if said != known:
        raise Mismatch(f"{what} is {said}, not {known}")


def _move(payment: Payment, missing_micro: int) -> None:
    """Above 0: still to be taken back. Below 0: to be given back; what was never taken needs no giving."""
    if missing_micro > 0:
        taken = Wallet.objects.get(pk=payment.organization_id).payable(missing_micro)
        _post(payment, -taken)
        payment.taken_back_micro += taken
        payment.shortfall_micro += missing_micro - taken
        if taken < missing_micro:
            short = missing_micro - taken
            logger.error("payment %s went back, but %d micro-credits of it are spent already", payment.id, short)
            figures = {"payment": str(payment.id), "organization": str(payment.organization_id), "micro_credits": short}
            about = f"shortfall:{payment.id}:{payment.shortfall_micro}"
            outbox.notify_operator("payment.spent_before_it_went_back", about, figures)
    elif missing_micro < 0:
        forgiven = min(payment.shortfall_micro, -missing_micro)
        payment.shortfall_micro -= forgiven
        given = -missing_micro - forgiven
        _post(payment, given)
        payment.taken_back_micro -= given


def _post(payment: Payment, amount_micro: int) -> None:
    if amount_micro:
        journal.post(
            payment.organization_id,
            "refund",
            amount_micro,
            actor=ACTOR,
            reason=f"{'money back' if amount_micro < 0 else 'dispute won'}: payment {payment.id}",
            idempotency_key=PAYMENT.of(payment.id, payment.movements),
        )
        payment.movements += 1


def _share(payment: Payment, cents: int) -> int:
    """The credits of a part of the money, rounded down; of all of it, all of them."""
    return payment.credits_micro * cents // payment.amount_cents


def _disputed_cents(payment: Payment) -> int:
    away = payment.disputes.filter(withdrawn=True, returned=False)
    return away.aggregate(total=Sum("amount_cents"))["total"] or 0


def _state(payment: Payment, disputed_cents: int) -> Payment.State:
    if disputed_cents:
        return Payment.State.DISPUTED
    if payment.refunded_cents == payment.amount_cents:
        return Payment.State.REFUNDED
    return Payment.State.PARTLY_REFUNDED if payment.refunded_cents else Payment.State.PAID


def _count_failure(organization_id: UUID, reason: str) -> None:
    setting = AutoTopUp.objects.select_for_update().filter(pk=organization_id).first()
    if setting is None:
        return
    setting.failures += 1
    setting.reason = reason
    setting.retry_at = datetime.now(UTC) + RETRY_AFTER * setting.failures
    if setting.failures >= FAILURES_MAX:
        setting.enabled = False
        logger.warning("auto top-up of organization %s is off after %d failures", organization_id, setting.failures)
    setting.save(update_fields=["failures", "reason", "retry_at", "enabled"])


@transaction.atomic
def fail_by_id(payment_id: UUID, reason: str) -> bool:
    return fail(locked(payment_id), reason)
