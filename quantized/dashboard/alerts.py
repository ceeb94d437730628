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
from billing.models import AlertRule
from billing.notices import alerts, webhooks
from billing.notices.kinds import KINDS, AlertKind
from common.checks import Invalid, as_uuid
from common.numbers import MICRO, typed_credits
from quantized.dashboard.frame import Visitor, member_page, require_payer, sentence, show

FIELDS = {"email": "addresses"}  # where the service's word is another one
ROLES = [(role, f"{role}s" if role != "billing" else "billing") for role in Membership.Role.values]


class AlertForm(forms.Form):
    """What people type: the threshold, what its kind asks for besides, and the receivers."""

    threshold = forms.DecimalField(max_digits=19, decimal_places=6, min_value=Decimal("0.000001"))
    roles = forms.MultipleChoiceField(
        required=False,
        choices=ROLES,
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
        self,
        visitor: Visitor,
        kind: AlertKind,
        data: Mapping[str, Any] | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=initial)
        self.kind = kind
        own = kind.form_fields(visitor.organization.pk)
        self.fields.update(own)
        self.order_fields(["threshold", *own])
        self.fields["threshold"].label = kind.threshold_label
        self.fields["roles"].initial = list(kind.roles)
        endpoints = webhooks.endpoints_of(visitor.organization.pk)
        webhook = self.fields["webhook"]
        assert isinstance(webhook, forms.ChoiceField)
        webhook.choices = [("", "None"), *((str(each.pk), each.url) for each in endpoints)]

    def arguments(self) -> dict[str, Any]:
        """By the names of billing/notices/alerts.py."""
        given = self.cleaned_data
        return {
            "threshold_micro": int(given["threshold"] * MICRO),
            **self.kind.wanted(given),
            "roles": given["roles"],
            "addresses": given["addresses"].split(),
            "webhook_id": as_uuid(given["webhook"]),
        }

    def refuse(self, invalid: Invalid) -> None:
        """Beside the field it is about."""
        field = FIELDS.get(invalid.field, invalid.field)
        says = sentence(invalid.message)
        if field == "roles":
            says = "Choose who is told: members, other addresses or a webhook."
        self.add_error(field if field in self.fields else None, says)


def as_typed(rule: AlertRule) -> dict[str, Any]:
    return {
        "threshold": typed_credits(rule.threshold_micro),
        **KINDS[rule.kind].typed(rule),
        "roles": rule.roles,
        "addresses": "\n".join(rule.addresses),
        "webhook": str(rule.webhook_id or ""),
        "enabled": rule.enabled,
    }


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    rules = [(rule, KINDS[rule.kind]) for rule in alerts.rules_of(visitor.organization.pk)]
    context = {"rules": rules, "rules_max": alerts.RULES_MAX, "kinds": list(KINDS.values())}
    return show(request, visitor, "alerts.html", context)


@require_http_methods(["GET", "POST"])
@member_page
def new(request: HttpRequest, visitor: Visitor, kind: str) -> HttpResponseBase:
    require_payer(visitor)
    wanted = KINDS.get(kind.replace("-", "_"))
    if wanted is None:
        raise Http404
    form = AlertForm(visitor, wanted, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            alerts.create_rule(visitor.organization.pk, wanted.name, **form.arguments())
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
    form = AlertForm(visitor, KINDS[rule.kind], request.POST or None, as_typed(rule))
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
    """The arguments that differ from the rule's: setting a threshold to what it is would tell its crossing once
    more."""
    arguments = form.arguments() | {"enabled": form.cleaned_data["enabled"]}
    return {name: value for name, value in arguments.items() if value != getattr(rule, name)}


@require_http_methods(["GET", "POST"])
@member_page
def delete(request: HttpRequest, visitor: Visitor, rule_id: UUID) -> HttpResponseBase:
    require_payer(visitor)
    rule = own_rule(visitor, rule_id)
    if request.method == "POST":
        alerts.delete_rule(visitor.organization.pk, rule.pk)
        messages.success(request, "The alert is deleted.")
        return redirect("dashboard:alerts")
    return show(request, visitor, "alert_delete.html", {"rule": rule, "kind": KINDS[rule.kind]})


def show_form(request: HttpRequest, visitor: Visitor, form: AlertForm, rule: AlertRule | None) -> HttpResponseBase:
    context = {"form": form, "rule": rule}
    return show(request, visitor, "alert_form.html", context, status=422 if form.errors else 200)


def own_rule(visitor: Visitor, rule_id: UUID) -> AlertRule:
    """Another tenant's rule is as unknown as one that never was."""
    try:
        return alerts.find_rule(visitor.organization.pk, rule_id)
    except Invalid:
        raise Http404 from None
