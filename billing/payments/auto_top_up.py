"""Auto top-up: a saved card is charged when the balance is below a threshold, up to a sum per month.

A pass decides under the wallet's lock and leaves a payment in the state `created`; only then Stripe is asked. So any
number of passes at once charge once, and a pass that dies after Stripe's answer leaves what the webhook or the next
pass finishes: the same request again, while Stripe knows its idempotency key, is the same charge, and later the charge
is looked up.
"""

import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models import Sum

from accounts.models import Organization
from billing.credits import lots
from billing.ledger.kernel import window_starts
from billing.ledger.models import Wallet
from billing.payments import account, checkout, stripe_api, webhooks
from billing.payments.models import AutoTopUp, Payment, StripeCustomer
from common.checks import Invalid
from common.numbers import BIGINT_MAX, INTEGER_MAX

logger = logging.getLogger(__name__)

PER_PASS_MAX = 50
PENDING_AFTER = timedelta(minutes=2)  # a request that is still at work is left alone so long
KEYS_ARE_KNOWN_FOR = timedelta(hours=20)  # Stripe forgets idempotency keys after 24 hours at the earliest
WAITS_FOR_STRIPE = ("processing", "requires_capture")

BELOW = """
SELECT t.organization_id FROM billing_autotopup t
JOIN billing_wallet w ON w.organization_id = t.organization_id AND NOT w.unlimited AND w.status = 'active'
    AND w.posted < t.threshold_micro
JOIN accounts_organization o ON o.id = t.organization_id AND o.status = 'active'
JOIN billing_stripecustomer c ON c.organization_id = t.organization_id AND c.payment_method <> ''
WHERE t.enabled AND (t.retry_at IS NULL OR t.retry_at <= now())
  AND NOT EXISTS (SELECT 1 FROM billing_payment p WHERE p.organization_id = t.organization_id
                  AND p.kind = 'auto' AND p.state = 'created')
  AND t.amount_cents + (
      SELECT coalesce(sum(p.amount_cents), 0) FROM billing_payment p WHERE p.organization_id = t.organization_id
      AND p.kind = 'auto' AND p.state <> 'failed' AND p.created_at >= date_trunc('month', now(), 'UTC')
  ) <= t.monthly_max_cents
ORDER BY t.organization_id LIMIT %s
"""


class Setting(msgspec.Struct, frozen=True):
    """For pages. `reason`: the code why it failed last, or is off; see AutoTopUp."""

    enabled: bool
    threshold_micro: int
    amount_cents: int
    monthly_max_cents: int
    charged_this_month_cents: int
    has_card: bool
    failures: int
    reason: str


def setting_of(organization_id: UUID) -> Setting | None:
    row = AutoTopUp.objects.filter(pk=organization_id).first()
    if row is None:
        return None
    return Setting(
        row.enabled,
        row.threshold_micro,
        row.amount_cents,
        row.monthly_max_cents,
        _charged_this_month(organization_id),
        has_card(organization_id),
        row.failures,
        row.reason,
    )


def has_card(organization_id: UUID) -> bool:
    """A card is saved when a checkout with `save_card` is paid."""
    return StripeCustomer.objects.filter(pk=organization_id).exclude(payment_method="").exists()


def enable(
    organization_id: UUID, *, threshold_micro: int, amount_cents: int, monthly_max_cents: int, user_id: int
) -> None:
    """Set it, or set it anew, which forgets its failures.

    Raises Invalid, naming the field: `threshold`, `amount` or `monthly_max`.
    """
    checkout.check_amount(amount_cents)
    if not 0 <= threshold_micro <= BIGINT_MAX:
        raise Invalid("threshold", f"must not be negative, nor above {BIGINT_MAX} micro-credits")
    if not amount_cents <= monthly_max_cents <= INTEGER_MAX:
        raise Invalid("monthly_max", "must not be less than one top-up")
    AutoTopUp.objects.update_or_create(
        pk=organization_id,
        defaults={
            "enabled": True,
            "threshold_micro": threshold_micro,
            "amount_cents": amount_cents,
            "monthly_max_cents": monthly_max_cents,
            "enabled_by_id": user_id,
            "enabled_at": datetime.now(UTC),
            "failures": 0,
            "retry_at": None,
            "reason": "",
        },
    )


def disable(organization_id: UUID) -> None:
    account.disable_auto_top_up(organization_id, AutoTopUp.Off.BY_MEMBER)


# --- The pass ---------------------------------------------------------------------------------------


def run() -> int:
    """Finish what is pending, then top up what is below; how many payments were paid."""
    if not stripe_api.is_configured():
        return 0
    try:
        return sum(_finish(payment) for payment in _pending()) + sum(top_up(wallet) for wallet in _below())
    except stripe_api.Unavailable:
        logger.warning("auto top-up stopped: Stripe cannot be used; it goes on with the next pass")
        return 0


def top_up(organization_id: UUID) -> bool:
    """Charge the saved card, if it is still to be charged. Whether money came of it."""
    payment = _start(organization_id)
    return payment is not None and _finish(payment)


@transaction.atomic
def _start(organization_id: UUID) -> Payment | None:
    """Looks at everything again, under the wallet's lock: another pass, or a webhook, may have been here."""
    lots.lock_wallet(organization_id)
    wallet = Wallet.objects.select_related("organization").get(pk=organization_id)
    setting = AutoTopUp.objects.filter(pk=organization_id, enabled=True).first()
    customer = StripeCustomer.objects.filter(pk=organization_id).exclude(payment_method="").first()
    if setting is None or customer is None or not _is_in_use(wallet) or wallet.posted >= setting.threshold_micro:
        return None
    if setting.retry_at is not None and setting.retry_at > datetime.now(UTC):
        return None
    if _in_flight(organization_id):
        return None
    if _charged_this_month(organization_id) + setting.amount_cents > setting.monthly_max_cents:
        return None
    return Payment.objects.create(
        organization_id=organization_id,
        kind=Payment.Kind.AUTO,
        amount_cents=setting.amount_cents,
        currency=checkout.CURRENCY,
        credits_micro=checkout.credits_of(setting.amount_cents),
        user_id=setting.enabled_by_id,
        payment_method=customer.payment_method,
    )


def _is_in_use(wallet: Wallet) -> bool:
    """Nobody is charged for credits that could not be spent, or need not be bought."""
    is_active = wallet.status == Wallet.Status.ACTIVE and wallet.organization.status == Organization.Status.ACTIVE
    return is_active and not wallet.unlimited


def _finish(payment: Payment) -> bool:
    """Ask Stripe, and book its answer. Unavailable leaves the payment for the next pass."""
    try:
        intent = _ask(payment)
    except stripe_api.Rejected as refusal:
        account.fail_by_id(payment.pk, refusal.code)
        return False
    if intent is None:
        account.fail_by_id(payment.pk, "never_reached_stripe")
        return False
    try:
        return _book(payment, intent)
    except account.Mismatch as mismatch:  # stays in flight, so that nothing more is charged until somebody has looked
        logger.error("Stripe's answer %s does not fit our payment: %s", intent.id, mismatch)
        return False


def _ask(payment: Payment) -> stripe_api.Intent | None:
    customer_id = StripeCustomer.objects.get(pk=payment.organization_id).customer_id
    if datetime.now(UTC) - payment.created_at < KEYS_ARE_KNOWN_FOR:
        return stripe_api.charge(payment, customer_id)
    return stripe_api.find_charge(payment, customer_id, payment.created_at - timedelta(hours=1))


@transaction.atomic
def _book(payment: Payment, intent: stripe_api.Intent) -> bool:
    """As a webhook would; whoever comes second finds it done."""
    found = webhooks.payment_of(intent.id, str(payment.pk))
    assert found is not None
    if intent.status == "succeeded":
        return account.pay(found, intent.amount_received, intent.currency)
    if intent.status not in WAITS_FOR_STRIPE:
        account.fail(found, "authentication_required" if intent.status == "requires_action" else intent.status)
    return False


def _pending() -> list[Payment]:
    before = datetime.now(UTC) - PENDING_AFTER
    pending = Payment.objects.filter(kind=Payment.Kind.AUTO, state=Payment.State.CREATED, created_at__lte=before)
    return list(pending.order_by("created_at")[:PER_PASS_MAX])


def _below() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(BELOW, [PER_PASS_MAX])
        return [organization_id for (organization_id,) in cursor.fetchall()]


def _in_flight(organization_id: UUID) -> bool:
    payments = Payment.objects.filter(organization_id=organization_id, kind=Payment.Kind.AUTO)
    return payments.filter(state=Payment.State.CREATED).exists()


def _charged_this_month(organization_id: UUID) -> int:
    """Or about to be. Refunds make no room: the card was charged."""
    payments = Payment.objects.filter(
        organization_id=organization_id,
        kind=Payment.Kind.AUTO,
        created_at__gte=window_starts(datetime.now(UTC))["month"],
    )
    total = payments.exclude(state=Payment.State.FAILED).aggregate(total=Sum("amount_cents"))["total"]
    return int(total or 0)
