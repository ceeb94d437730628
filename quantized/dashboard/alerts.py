"""Alerts: who is told when the balance becomes low or a budget is being used up.

The rules are those of billing/notices/alerts.py."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import Membership
from billing.notices import alerts, outbox, webhooks
from billing.notices.models import AlertRule
from common.checks import Invalid, as_uuid
from quantized.dashboard.frame import MICRO, Visitor, member_page, require_payer, sentence, show

KEYS_MAX = 200  # to choose from
FIELDS = {"email": "addresses"}  # where the service's word is another one
PERIODS = [("day", "a day"), ("week", "a week"), ("month", "a month")]
ROLES = [(role, f"{role}s" if role != "billing" else "billing") for role in Membership.Role.values]


class AlertForm(forms.Form):
    """What people type. Of a low balance: threshold and receivers; of a budget: also its period, percents and key."""

    threshold = forms.DecimalField(max_digits=19, decimal_places=6, min_value=Decimal("0.000001"))
    period = forms.ChoiceField(choices=PERIODS, initial="month", label="For")
    percents = forms.CharField(max_length=100, initial="50, 80, 100", label="Tell at, percent")
    key = forms.ChoiceField(required=False, label="Calls of")
    roles = forms.MultipleChoiceField(
        required=False,
        choices=ROLES,
        initial=list(outbox.MONEY_ROLES),
        label="Members",
        widget=forms.CheckboxSelectMultiple,
    )
    addresses = forms.CharField(
        required=False,
        max_length=3_000,
        label="Other addresses",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One a line.",
    )
    webhook = forms.ChoiceField(required=False, label="Webhook")
    enabled = forms.BooleanField(required=False, initial=True, label="On")

    def __init__(
        self, visitor: Visitor, kind: str, data: Mapping[str, Any] | None = None, initial: dict[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial=initial)
        self.kind = kind
        self.fields["threshold"].label = "Tell when less is left than, credits" if self.is_low else "Budget, credits"
        if self.is_low:
            for name in ("period", "percents", "key"):
                del self.fields[name]
        else:
            self.offer("key", [("", "All keys"), *keys_of(visitor)])
        endpoints = webhooks.endpoints_of(visitor.organization.pk)
        self.offer("webhook", [("", "None"), *((str(each.pk), each.url) for each in endpoints)])

    @property
    def is_low(self) -> bool:
        return self.kind == AlertRule.Kind.LOW_BALANCE

    def offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def clean_percents(self) -> list[int]:
        words = self.cleaned_data["percents"].replace("%", " ").replace(",", " ").split()
        if not all(word.isascii() and word.isdecimal() and len(word) < 5 for word in words):
            raise forms.ValidationError("Whole numbers with commas between, such as 50, 80, 100.")
        return [int(word) for word in words]

    def told(self) -> dict[str, Any]:
        """By the names of billing/notices/alerts.py."""
        given = self.cleaned_data
        told = {
            "threshold_micro": int(given["threshold"] * MICRO),
            "roles": given["roles"],
            "addresses": given["addresses"].split(),
            "webhook_id": as_uuid(given["webhook"]),
        }
        if not self.is_low:
            told |= {"period": given["period"], "percents": given["percents"], "key_id": as_uuid(given["key"])}
        return told

    def refuse(self, invalid: Invalid) -> None:
        """Beside the field it is about."""
        field = FIELDS.get(invalid.field, invalid.field)
        says = sentence(invalid.message)
        if field == "roles":
            says = "Choose who is told: members, other addresses or a webhook."
        self.add_error(field if field in self.fields else None, says)


def keys_of(visitor: Visitor) -> list[tuple[str, str]]:
    keys = visitor.organization.keys.filter(revoked_at=None).order_by("-created_at", "pk")[:KEYS_MAX]
    return [(str(key.pk), f"{key.name or 'Without a name'} ({key.prefix}…{key.last_four})") for key in keys]


def as_typed(rule: AlertRule) -> dict[str, Any]:
    return {
        "threshold": f"{(Decimal(rule.threshold_micro) / MICRO).normalize():f}",
        "period": rule.period,
        "percents": ", ".join(map(str, rule.percents)),
        "key": str(rule.key_id or ""),
        "roles": rule.roles,
        "addresses": "\n".join(rule.addresses),
        "webhook": str(rule.webhook_id or ""),
        "enabled": rule.enabled,
    }


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    context = {"rules": alerts.rules_of(visitor.organization.pk), "rules_max": alerts.RULES_MAX}
    return show(request, visitor, "alerts.html", context)


@require_http_methods(["GET", "POST"])
@member_page
def new(request: HttpRequest, visitor: Visitor, kind: str) -> HttpResponseBase:
    require_payer(visitor)
    kind = kind.replace("-", "_")
    if kind not in AlertRule.Kind.values:
        raise Http404
    form = AlertForm(visitor, kind, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            alerts.create_rule(visitor.organization.pk, kind, **form.told())
        except Invalid as invalid:
            form.refuse(invalid)
        else:
            messages.success(request, "The alert is on.")
            return redirect("dashboard:alerts")
    return show_form(request, visitor, form, None)


@require_http_methods(["GET", "POST"])
@member_page
def edit(request: HttpRequest, visitor: Visitor, rule_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    rule = own_rule(visitor, rule_id)
    form = AlertForm(visitor, rule.kind, request.POST or None, as_typed(rule))
    if request.method == "POST" and form.is_valid():
        try:
            alerts.change_rule(visitor.organization.pk, rule.pk, changes(form, rule))
        except Invalid as invalid:
            form.refuse(invalid)
        else:
            messages.success(request, "Saved.")
            return redirect("dashboard:alerts")
    return show_form(request, visitor, form, rule)


def changes(form: AlertForm, rule: AlertRule) -> dict[str, Any]:
    """What is left as it was is not said again: it would be told again."""
    told = form.told() | {"enabled": form.cleaned_data["enabled"]}
    return {name: value for name, value in told.items() if value != getattr(rule, name)}


@require_http_methods(["GET", "POST"])
@member_page
def delete(request: HttpRequest, visitor: Visitor, rule_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    rule = own_rule(visitor, rule_id)
    if request.method == "POST":
        alerts.delete_rule(visitor.organization.pk, rule.pk)
        messages.success(request, "The alert is deleted.")
        return redirect("dashboard:alerts")
    return show(request, visitor, "alert_delete.html", {"rule": rule})


def show_form(request: HttpRequest, visitor: Visitor, form: AlertForm, rule: AlertRule | None) -> HttpResponseBase:
    context = {"form": form, "rule": rule}
    return show(request, visitor, "alert_form.html", context, status=422 if form.errors else 200)


def own_rule(visitor: Visitor, rule_id: UUID) -> AlertRule:
    """Another tenant's rule is as unknown as one that never was."""
    try:
        return alerts.find_rule(visitor.organization.pk, rule_id)
    except Invalid:
        raise Http404 from None
