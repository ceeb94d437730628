"""What was paid, and the automatic top-up: its threshold, its amount, its bound, and why it failed."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from billing.models import AutoTopUp
from billing.payments import auto_top_up, checkout
from common.checks import Invalid
from common.numbers import MICRO, plain, typed_credits
from quantized.dashboard.frame import Visitor, member_page, require_payer, sentence, show, user_of
from quantized.dashboard.paying import failure_words, payment_line


class AutoTopUpForm(forms.Form):
    threshold = forms.DecimalField(label="When less than, credits", max_digits=19, decimal_places=6, min_value=0)
    amount = forms.DecimalField(label="Buy for, USD", max_digits=8, decimal_places=2)
    monthly_max = forms.DecimalField(
        label="At most a month, USD",
        max_digits=9,
        decimal_places=2,
        help_text="Months are UTC’s. What would pass it is not charged.",
    )

    def __init__(self, data: Mapping[str, Any] | None, setting: auto_top_up.Setting | None) -> None:
        super().__init__(data, auto_id="auto_%s", initial=as_typed(setting))

    def arguments(self) -> dict[str, int]:
        """By the names of billing/payments/auto_top_up.py."""
        given = self.cleaned_data
        return {
            "threshold_micro": int(given["threshold"] * MICRO),
            "amount_cents": int(given["amount"] * 100),
            "monthly_max_cents": int(given["monthly_max"] * 100),
        }

    def refuse(self, invalid: Invalid) -> None:
        """Beside the field it is about, which the service names as this form does."""
        self.add_error(invalid.field, sentence(invalid.message))


def as_typed(setting: auto_top_up.Setting | None) -> dict[str, str]:
    if setting is None:
        return {"threshold": "100", "amount": "25", "monthly_max": "100"}
    return {
        "threshold": typed_credits(setting.threshold_micro),
        "amount": plain(Decimal(setting.amount_cents) / 100),
        "monthly_max": plain(Decimal(setting.monthly_max_cents) / 100),
    }


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    return show_payments(request, visitor)


def show_payments(
    request: HttpRequest, visitor: Visitor, form: AutoTopUpForm | None = None, status: int = 200
) -> HttpResponseBase:
    setting = auto_top_up.setting_of(visitor.organization.pk)
    has_card = setting.has_card if setting else auto_top_up.has_card(visitor.organization.pk)
    found = checkout.payments_of(visitor.organization.pk)
    context = {
        "lines": [payment_line(payment, visitor.now) for payment in found],
        "shown_max": checkout.PAYMENTS_SHOWN_MAX,
        "offer": checkout.offer(),
        "setting": setting,
        "has_card": has_card,
        "trouble": trouble_of(setting),
        "form": form or AutoTopUpForm(None, setting),
    }
    return show(request, visitor, "payments.html", context, status=status)


def trouble_of(setting: auto_top_up.Setting | None) -> str:
    """Why it failed last; not that a member switched it off."""
    return failure_words(setting.reason) if setting and setting.reason != AutoTopUp.Off.BY_MEMBER else ""


@require_POST
@member_page
def auto_on(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    require_payer(visitor)
    form = AutoTopUpForm(request.POST, None)
    if form.is_valid():
        try:
            auto_top_up.enable(visitor.organization.pk, **form.arguments(), user_id=user_of(request).pk)
        except Invalid as invalid:
            form.refuse(invalid)
        else:
            messages.success(request, "The automatic top-up is on.")
            return redirect("dashboard:payments")
    return show_payments(request, visitor, form, status=422)


@require_POST
@member_page
def auto_off(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    require_payer(visitor)
    auto_top_up.disable(visitor.organization.pk)
    messages.success(request, "The automatic top-up is off.")
    return redirect("dashboard:payments")
