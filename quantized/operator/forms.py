"""Command forms: asked, shown in words, confirmed. What is typed stays, and a refusal stands beside its field."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from unfold import widgets

from billing.credits.accounts import AMOUNT_MAX_MICRO, REASON_CHARACTERS_MAX
from billing.ledger.journal import LedgerRefused
from common.checks import Invalid
from common.numbers import MICRO

AMOUNT_MAX = Decimal(AMOUNT_MAX_MICRO // MICRO)


class Command(forms.Form):
    """`confirmed` comes with the second step alone, whose page has no field to type in."""

    def refuse(self, error: Exception, names: Mapping[str, str]) -> None:
        """What a service says of a field, beside it; of anything else, above the form."""
        field = names.get(error.field, error.field) if isinstance(error, Invalid) else names.get("", "")
        message = error.message if isinstance(error, Invalid) else str(error)
        self.add_error(field if field in self.fields else None, f"{message[:1].upper()}{message[1:]}.")


def credits_field(label: str, *, least: str, help_text: str = "") -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        min_value=Decimal(least),
        max_value=AMOUNT_MAX,
        decimal_places=6,
        help_text=help_text or "Credits, with up to six decimals.",
        widget=widgets.UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "autofocus": True}),
    )


def reason_field(help_text: str) -> forms.CharField:
    return forms.CharField(
        label="Reason",
        max_length=REASON_CHARACTERS_MAX,
        help_text=help_text,
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
    )


def moment_field(label: str, help_text: str) -> forms.SplitDateTimeField:
    return forms.SplitDateTimeField(
        label=label,
        required=False,
        help_text=help_text,
        widget=widgets.UnfoldAdminSplitDateTimeWidget(),
    )


def micro(credits: Decimal | None) -> int:
    return int((credits or Decimal(0)) * MICRO)


def hidden(form: forms.Form) -> list[tuple[str, Any]]:
    """What was typed, field by field as the browser sent it, for the page that asks once more."""
    return [(name, form.data[name]) for name in form.data if name not in ("csrfmiddlewaretoken", "confirmed", "edit")]


REFUSALS = (Invalid, LedgerRefused)
