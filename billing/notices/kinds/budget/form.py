"""What a budget asks for besides its threshold."""

from typing import Any
from uuid import UUID

from django import forms

from accounts.models import ApiKey
from billing.notices.models import AlertRule

KEYS_MAX = 200  # to choose from


class PercentsField(forms.CharField):
    """`50, 80 100%` → [50, 80, 100]."""

    def clean(self, value: Any) -> list[int]:
        words = super().clean(value).replace("%", " ").replace(",", " ").split()
        if not all(word.isascii() and word.isdecimal() and len(word) < 5 for word in words):
            raise forms.ValidationError("Whole numbers with commas between, such as 50, 80, 100.")
        return [int(word) for word in words]


def form_fields(organization_id: UUID) -> dict[str, forms.Field]:
    keys = ApiKey.objects.filter(organization_id=organization_id, revoked_at=None).order_by("-created_at", "pk")
    names = [(str(key.pk), f"{key.name or 'Without a name'} ({key.prefix}…{key.last_four})") for key in keys[:KEYS_MAX]]
    periods = [(period, f"a {period}") for period in AlertRule.Period.values]
    return {
        "period": forms.ChoiceField(choices=periods, initial="month", label="For"),
        "percents": PercentsField(max_length=100, initial="50, 80, 100", label="Tell at, percent"),
        "key": forms.ChoiceField(required=False, label="Calls of", choices=[("", "All keys"), *names]),
    }
