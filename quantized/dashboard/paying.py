"""What people type to add credits, and payments in their words. The rules are billing/payments' and vouchers'."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from django import forms
from django.conf import settings

from billing.credits import vouchers
from billing.models import Payment
from billing.payments import checkout
from common.checks import Invalid, as_uuid
from quantized.dashboard.frame import sentence
from quantized.middleware import OURS_ALONE, policy

PRESETS_USD = (10, 25, 50, 100, 250)
OWN = "own"
CHECKOUT_ORIGIN = "https://checkout.stripe.com"
SLOW_AFTER = timedelta(minutes=1)  # usually the money is here within seconds

STATES = {
    Payment.State.CREATED: ("waiting", ""),
    Payment.State.PAID: ("paid", "good"),
    Payment.State.FAILED: ("failed", "bad"),
    Payment.State.PARTLY_REFUNDED: ("partly refunded", "warn"),
    Payment.State.REFUNDED: ("refunded", "warn"),
    Payment.State.DISPUTED: ("disputed", "bad"),
}
# Why money did not come, by Stripe's codes and our own.
FAILURES = {
    "authentication_required": "The bank wants the card’s holder to confirm, and nobody was there",
    "card_declined": "The bank declined the card",
    "expired": "The payment page was left open for too long",
    "expired_card": "The card has expired",
    "insufficient_funds": "The account of the card does not cover it",
    "never_reached_stripe": "The payment could not be begun",
    "payment_disputed": "A payment was disputed",
    "payment_failed": "The payment failed",
    "requires_payment_method": "The bank declined the card",
}


class PaymentLine(msgspec.Struct, frozen=True):
    """A payment in people's words."""

    payment: Payment
    state: str
    tone: str
    failure: str
    is_slow: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.payment.state == Payment.State.CREATED


class Choice(msgspec.Struct, frozen=True):
    """One of the amounts to choose from."""

    usd: int
    credits_micro: int


class TopUpForm(forms.Form):
    amount = forms.ChoiceField(label="Amount")
    own = forms.DecimalField(
        required=False, max_digits=8, decimal_places=2, label="Another amount, USD", widget=forms.NumberInput
    )
    save_card = forms.BooleanField(required=False, label="Save the card for automatic top-ups")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id="top_up_%s", initial={"amount": str(self.choices()[0].usd)})
        amount = self.fields["amount"]
        assert isinstance(amount, forms.ChoiceField)
        amount.choices = [*((str(choice.usd), "") for choice in self.choices()), (OWN, "")]
        own = self.fields["own"]
        own.widget.attrs |= {"min": f"{settings.TOP_UP_MIN_USD}", "max": f"{settings.TOP_UP_MAX_USD}", "step": "0.01"}

    @staticmethod
    def choices() -> list[Choice]:
        least, most = checkout.bounds_cents()
        offered = [usd for usd in PRESETS_USD if least <= usd * 100 <= most] or [-(-least // 100)]
        return [Choice(usd, checkout.credits_of(usd * 100)) for usd in offered]

    @property
    def chosen(self) -> str:
        return str(self["amount"].value())

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        is_own = given.get("amount") == OWN
        if is_own and given.get("own") is None:
            if "own" not in self.errors:
                self.add_error("own", "Say how many dollars.")
        elif "amount" in given:
            given["cents"] = int((given["own"] if is_own else Decimal(given["amount"])) * 100)
            self.check(given["cents"])
        return given

    def check(self, cents: int) -> None:
        try:
            checkout.check_amount(cents)
        except Invalid as invalid:
            self.add_error("own", sentence(invalid.message))


class VoucherForm(forms.Form):
    code = forms.CharField(
        max_length=100,
        label="Code",
        error_messages={"required": "Type the voucher’s code."},
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "XXXX-XXXX-XXXX-XXXX-XXXX-XXXX"}
        ),
    )

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id="voucher_%s")

    def refuse(self, refused: vouchers.Refused) -> None:
        says = str(refused)
        if isinstance(refused, vouchers.TooManyFailures):
            minutes = -(-refused.retry_after_s // 60)
            wait = "in a minute" if minutes == 1 else f"in {minutes} minutes"
            says = f"Too many codes that were not good. Try again {wait}."
        self.add_error("code", says)


# --- Payments ---------------------------------------------------------------------------------------


def payment_of(organization_id: UUID, payment_id: str | UUID) -> Payment | None:
    """Another tenant's is as unknown as one that never was."""
    wanted = as_uuid(payment_id)
    return Payment.objects.filter(organization_id=organization_id, pk=wanted).first() if wanted else None


def payment_line(payment: Payment, now: datetime) -> PaymentLine:
    state, tone = STATES[Payment.State(payment.state)]
    return PaymentLine(payment, state, tone, failure_words(payment.failure), now - payment.created_at > SLOW_AFTER)


def failure_words(code: str) -> str:
    return FAILURES.get(code, sentence(code.replace("_", " ")).rstrip(".")) if code else ""


def paying_policy() -> str:
    """A form's redirect must be allowed too: the one page that leads to Stripe's."""
    origins = {CHECKOUT_ORIGIN}
    stripe = urlsplit(settings.STRIPE_BASE_URL)
    if stripe.hostname != "api.stripe.com":  # another server stands in for it, and has its own page
        origins.add(f"{stripe.scheme}://{stripe.netloc}")
    return policy(OURS_ALONE | {"form-action": " ".join(["'self'", *sorted(origins)])})
