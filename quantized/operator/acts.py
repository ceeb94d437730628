"""What operators do to an organization's account: a form for each act, then a page that says what will happen and
whether a second operator is needed, then it happens. Requests that wait are decided here too. The work is done by
billing/credits/operations.py.
"""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse

from accounts.models import Organization
from billing.credits import operations
from billing.credits.operations import Asked
from billing.models import Operation, Wallet
from quantized.operator import forms as commands
from quantized.operator.forms import REFUSALS, Command, micro
from quantized.operator.pages import operator, page_of, typed_id
from quantized.templatetags.numbers import credits

Kind = Operation.Kind
MAY_LOOK, MAY_ASK, MAY_DECIDE = "billing.view_operation", "billing.add_operation", "billing.change_operation"
# The service's words for a field, and ours; "" is what the ledger itself refuses.
FIELDS = {"overdraft": "amount", "": "amount"}


class ActForm(Command):
    """`id` is made when the form is first shown: sent twice, it happens once."""

    id = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if kind in operations.WITH_AMOUNT:
            self.fields["amount"] = commands.credits_field("Credits", least="0.000001")
        if kind == Kind.OVERDRAFT:
            self.fields["amount"] = commands.credits_field(
                "New overdraft", least="0", help_text="Credits the balance may go below zero; 0 for none."
            )
        if kind == Kind.GRANT:
            self.fields["expires_at"] = commands.moment_field("Expires", "UTC. Empty: never.")
        self.fields["reason"] = commands.reason_field("For the entry and the audit log; the tenant may read it.")

    def asked(self, kind: str, organization: Organization) -> Asked:
        given = self.cleaned_data
        return Asked(
            id=given["id"],
            kind=kind,
            organization_id=organization.pk,
            reason=given["reason"],
            amount_micro=micro(given.get("amount")),
            expires_at=given.get("expires_at"),
        )


class DecisionForm(Command):
    reason = commands.reason_field("Needed to decline; for the audit log.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = self.data.get("decision") == "decline"


# --- Asking -----------------------------------------------------------------------------------------


def act(request: HttpRequest, context: dict[str, Any], object_id: str, kind: str) -> HttpResponseBase:
    """The form; what it will do; done. `context` is the site's."""
    if not request.user.has_perm(MAY_ASK):
        raise PermissionDenied
    organization = get_object_or_404(Organization.objects.select_related("wallet"), pk=object_id)
    form = ActForm(kind, request.POST or None, initial={"id": uuid.uuid4()})
    page = context | {
        "title": f"{Kind(kind).label}: {organization.name}",
        "form": form,
        "back": page_of(organization),
        "wallet": organization.wallet,
        "verb": Kind(kind).label,
    }
    if request.method != "POST" or "edit" in request.POST or not form.is_valid():
        return TemplateResponse(request, "operator/command.html", page)
    asked = form.asked(kind, organization)
    if "confirmed" not in request.POST:
        needs_second = operations.needs_second_operator(Operation(kind=asked.kind, amount=asked.amount_micro))
        page |= {"words": in_words(asked, organization), "second": needs_second, "given": commands.hidden(form)}
        return TemplateResponse(request, "operator/confirm.html", page)
    try:
        operation = operations.request(asked, operator(request))
    except REFUSALS as error:
        form.refuse(error, FIELDS)
        return TemplateResponse(request, "operator/command.html", page)
    tell(request, operation)
    return redirect(page_of(organization))


def in_words(asked: Asked, organization: Organization) -> list[tuple[str, str]]:
    """What will happen, line by line."""
    lines = [("Organization", f"{organization.name} ({organization.pk})"), *effects(asked, organization.wallet)]
    return [*lines, ("Reason", asked.reason)]


def effects(asked: Asked, wallet: Wallet) -> list[tuple[str, str]]:
    amount = exactly(asked.amount_micro)
    if asked.kind == Kind.GRANT:
        until = f"{asked.expires_at:%Y-%m-%d %H:%M} UTC" if asked.expires_at else "never"
        return [("Grants", amount), ("Expires", until), balance(wallet, asked.amount_micro)]
    if asked.kind == Kind.DEDUCT:
        return [("Deducts", amount), balance(wallet, -asked.amount_micro)]
    if asked.kind == Kind.REFUND:
        return [("Takes back of a purchase", amount), balance(wallet, -asked.amount_micro)]
    if asked.kind == Kind.OVERDRAFT:
        return [("Overdraft", f"{credits(wallet.overdraft)} → {credits(asked.amount_micro)} credits")]
    return [("Effect", OTHERS[Kind(asked.kind)])]


OTHERS = {
    Kind.UNLIMITED: "Its calls are no longer bounded by its balance, which may go below zero without end.",
    Kind.LIMITED: "Its calls are bounded by its balance and overdraft again.",
    Kind.SUSPEND: "Its keys are refused everywhere within a second; calls under way end as usual. Nothing is lost.",
    Kind.REACTIVATE: "Its keys are accepted again.",
}


def balance(wallet: Wallet, change_micro: int) -> tuple[str, str]:
    return "Balance", f"{credits(wallet.posted)} → {credits(wallet.posted + change_micro)} credits"


def exactly(amount_micro: int) -> str:
    return f"{credits(amount_micro)} credits ({amount_micro:,} micro-credits)"


def tell(request: HttpRequest, operation: Operation) -> None:
    what = f"{operation.get_kind_display()}, {operation.organization}"
    if operation.state == Operation.State.WAITING:
        messages.warning(request, f"{what}: waits until a second operator approves it.")
    else:
        messages.success(request, f"{what}: {operation.state}.")


# --- Deciding ---------------------------------------------------------------------------------------


def decide(request: HttpRequest, context: dict[str, Any], object_id: str) -> HttpResponseBase:
    """What was asked; approve or decline it while it waits. Who asked may only take it back."""
    may_decide = request.user.has_perm(MAY_DECIDE)
    if not (may_decide or request.user.has_perm(MAY_LOOK)) or (request.method == "POST" and not may_decide):
        raise PermissionDenied
    operation = get_object_or_404(
        Operation.objects.select_related("organization__wallet", "requested_by", "decided_by"), pk=typed_id(object_id)
    )
    form = DecisionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            decided = decision(request, operation, form)
        except REFUSALS as error:
            form.refuse(error, {})
        else:
            tell(request, decided)
            return redirect("admin:billing_operation_changelist")
    page = context | {
        "title": str(operation),
        "form": form,
        "operation": operation,
        "words": in_words(as_asked(operation), operation.organization),
        "may_decide": may_decide,
        "is_own": operation.requested_by_id == operator(request).pk,
    }
    return TemplateResponse(request, "operator/decide.html", page)


def decision(request: HttpRequest, operation: Operation, form: DecisionForm) -> Operation:
    if request.POST.get("decision") == "decline":
        return operations.decline(operation.pk, operator(request), form.cleaned_data["reason"])
    return operations.approve(operation.pk, operator(request))


def as_asked(operation: Operation) -> Asked:
    return Asked(
        id=operation.pk,
        kind=operation.kind,
        organization_id=operation.organization_id,
        reason=operation.reason,
        amount_micro=operation.amount,
        expires_at=operation.expires_at,
    )
