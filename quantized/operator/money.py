"""What reconciliation left to people: extra charges to take or waive, losses, and days on which a provider's bill and
our books differ."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path

from billing.models import CreditRate, ExtraCharge, FailedAttempt, Loss, ProviderDay
from billing.reconciliation.extra_charges import ExtraChargeDecided, charge_extra, waive_extra
from common.numbers import dollars
from quantized.operator import forms as commands
from quantized.operator.acts import exactly
from quantized.operator.forms import REFUSALS, Command
from quantized.operator.pages import (
    ReadOnly,
    badge,
    column,
    count,
    credit,
    linked,
    of_organization,
    operator,
    record,
    state,
    typed_id,
    when,
)
from quantized.templatetags.numbers import credits

MAY_DECIDE = "billing.change_extracharge"
CHARGE_TONES = {"waiting": "warn", "charged": "good"}


# --- Extra charges ----------------------------------------------------------------------------------


class ChargeForm(Command):
    reason = commands.reason_field("For the entry and the audit log; the tenant may read it.")


@admin.display(description="call")
def call(row: Any) -> str:
    return linked(row.hold)


class OfCalls(ReadOnly):
    """Found again by the id of their call."""

    search_fields = ("hold",)
    search_help_text = "The id of a call, as a whole."

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        term = search_term.strip()
        return (queryset.filter(hold_id=typed_id(term)) if term else queryset), False


@admin.register(ExtraCharge)
class ExtraChargeAdmin(OfCalls):
    """What a provider billed beyond what a call was charged: nothing is taken until somebody says so."""

    list_display = (
        when("created_at", "found, UTC"),
        of_organization,
        credit("amount_micro", "more, credits"),
        credit("call_charged_micro", "charged before"),
        credit("taken_micro", "taken"),
        state("state", CHARGE_TONES),
        "decided_by",
        "reason",
    )
    list_display_links = (list_display[0],)
    list_filter = ("state",)
    list_select_related = ("wallet__organization", "hold")
    ordering = ("-id",)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        if request.method == "POST" or not object_id.isdecimal():
            raise PermissionDenied
        return self.decide(request, int(object_id))

    def get_urls(self) -> list[Any]:
        decide = path("<int:object_id>/decide/", self.admin_site.admin_view(self.decide), name="extracharge_decide")
        return [decide, *super().get_urls()]

    def decide(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        return decide_charge(request, self.admin_site.each_context(request), object_id)


def decide_charge(request: HttpRequest, context: dict[str, Any], object_id: int) -> HttpResponseBase:
    """What it is about; charge it or waive it while it waits."""
    may_decide = request.user.has_perm(MAY_DECIDE)
    may_look = may_decide or request.user.has_perm("billing.view_extracharge")
    if not may_look or (request.method == "POST" and not may_decide):
        raise PermissionDenied
    row = get_object_or_404(ExtraCharge.objects.select_related("hold", "wallet__organization"), pk=object_id)
    form = ChargeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            decided = decide(request, row.pk, form.cleaned_data["reason"])
        except (*REFUSALS, ExtraChargeDecided) as error:
            form.refuse(error, {})
        else:
            messages.success(request, f"{exactly(decided.amount_micro)}: {decided.state}.")
            return redirect("admin:billing_extracharge_changelist")
    page = context | {
        "title": f"Extra charge: {row.wallet.organization.name}",
        "form": form,
        "charge": row,
        "words": charge_in_words(row),
        "may_decide": may_decide,
    }
    return TemplateResponse(request, "operator/extra_charge.html", page)


@transaction.atomic
def decide(request: HttpRequest, charge_id: int, reason: str) -> ExtraCharge:
    """Of two who press at once the first one is in the audit log."""
    was = ExtraCharge.objects.select_for_update(no_key=True).get(pk=charge_id).state
    act = waive_extra if request.POST.get("decision") == "waive" else charge_extra
    row = act(charge_id, actor=operator(request).email, reason=reason)
    if was == ExtraCharge.State.WAITING:
        figures = {"amount_micro": row.amount_micro, "taken_micro": row.taken_micro}
        record(request, f"extra_charge.{row.state}", row, reason=row.reason, **figures)
    return row


def charge_in_words(row: ExtraCharge) -> list[tuple[str, str]]:
    wallet = row.wallet
    payable = "all of it" if wallet.unlimited else f"balance {credits(wallet.posted)}, held {credits(wallet.held)}"
    return [
        ("Organization", wallet.organization.name),
        ("The provider billed", f"${row.billed_cost_usd.normalize():f}"),
        ("The call was charged", exactly(row.call_charged_micro)),
        ("More to take", exactly(row.amount_micro)),
        ("The wallet", payable),
        *([("Taken", exactly(row.taken_micro)), ("Reason", row.reason)] if row.decided_at else []),
    ]


# --- Losses -----------------------------------------------------------------------------------------


@admin.display(description="model")
def model_of(loss: Loss | FailedAttempt) -> str:
    return loss.hold.model


@admin.display(description="organization")
def bearer(loss: Loss | FailedAttempt) -> str:
    return linked(loss.hold.wallet.organization)


@admin.register(Loss)
class LossAdmin(OfCalls):
    list_display = (
        when("noted_at", "noted, UTC"),
        column("reason", "why", lambda why: why.replace("_", " ")),
        column("cost_usd", "cost", lambda usd: "not known" if usd is None else dollars(usd)),
        model_of,
        bearer,
        call,
    )
    list_filter = ("reason",)
    list_select_related = ("hold__wallet__organization",)
    ordering = ("-noted_at",)


@admin.register(FailedAttempt)
class FailedAttemptAdmin(OfCalls):
    """Providers that had begun to answer before another one did: what they billed is a loss too."""

    list_display = (
        when("recorded_at", "noted, UTC"),
        "provider",
        column("billed_cost_usd", "billed", lambda usd: "not known" if usd is None else dollars(usd)),
        "reconciliation",
        model_of,
        bearer,
        call,
    )
    list_filter = ("provider", "reconciliation")
    list_select_related = ("hold__wallet__organization",)
    ordering = ("-recorded_at",)


# --- Drift ------------------------------------------------------------------------------------------


@admin.display(description="difference")
def difference(day: ProviderDay) -> str:
    apart = day.reported_usd - day.expected_usd
    share = f" ({apart / day.expected_usd * 100:+.1f} %)" if day.expected_usd else ""
    text = f"{'+' if apart > 0 else ''}{dollars(apart)}{share}"
    return badge(text, "bad") if day.alerted_at else text


EXPECTED = column("expected_usd", "expected", dollars)
BILLED = column("reported_usd", "billed", dollars)


class DriftFilter(admin.SimpleListFilter):
    title = "drift"
    parameter_name = "drift"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Above the threshold"), ("any", "Any difference")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ProviderDay]) -> QuerySet[ProviderDay]:
        if self.value() == "open":
            return queryset.filter(alerted_at__isnull=False)
        return queryset.exclude(expected_usd=F("reported_usd")) if self.value() else queryset


@admin.register(ProviderDay)
class ProviderDayAdmin(ReadOnly):
    """What a provider says a model cost on a UTC day, beside what our books say."""

    list_display = (
        "day",
        "provider",
        "model",
        EXPECTED,
        BILLED,
        difference,
        credit("charged_micro", "charged, credits"),
        when("checked_at"),
    )
    list_filter = (DriftFilter, "provider")
    ordering = ("-day", "provider", "model")
    search_fields = ("model",)
    fields = (
        ("day", "provider", "model"),
        (EXPECTED, BILLED, difference),
        (count("prompt_tokens"), count("reported_prompt_tokens")),
        (count("completion_tokens"), count("reported_completion_tokens")),
        (
            credit("charged_micro", "charged, credits"),
            when("checked_at"),
            when("alerted_at", "above the threshold since"),
        ),
    )


@admin.register(CreditRate)
class CreditRateAdmin(ReadOnly):
    """What a dollar of cost sold for, as it was when calls began."""

    list_display = ("id", "credits_per_usd", "margin", when("created_at"))
    ordering = ("-id",)
