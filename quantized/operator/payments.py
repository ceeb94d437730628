"""Payments at Stripe and what expires, to look at; and vouchers: batches are issued here, their codes shown once."""

import csv
import io
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from unfold import widgets

from billing.credits.vouchers import cancel_batch, create_batch
from billing.models import AutoTopUp, Dispute, Lot, Payment, StripeEvent, Voucher, VoucherBatch
from quantized.operator import forms as commands
from quantized.operator.acts import exactly
from quantized.operator.forms import Command, micro
from quantized.operator.pages import (
    ReadOnly,
    badge,
    column,
    credit,
    linked,
    of_organization,
    operator,
    page_of,
    record,
    state,
    when,
)

PAYMENT_TONES = {"paid": "good", "failed": "bad", "disputed": "bad", "refunded": "warn", "partly_refunded": "warn"}
MAY_ISSUE, MAY_CANCEL = "billing.add_voucherbatch", "billing.change_voucherbatch"
CODES_MAX = 5_000  # on one page; larger batches by the command


def cents(amount: int) -> str:
    return f"${Decimal(amount) / 100:,.2f}"


@admin.display(description="organization")
def of(row: Any) -> str:
    return linked(row.organization)


# --- Payments ---------------------------------------------------------------------------------------


class ShortfallFilter(admin.SimpleListFilter):
    title = "shortfall"
    parameter_name = "short"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "spent before it went back")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Payment]) -> QuerySet[Payment]:
        return queryset.filter(shortfall_micro__gt=0) if self.value() == "yes" else queryset


@admin.register(Payment)
class PaymentAdmin(ReadOnly):
    list_display = (
        when("created_at", "time, UTC"),
        of,
        "kind",
        state("state", PAYMENT_TONES),
        column("amount_cents", "amount", cents),
        credit("credits_micro", "credits"),
        column("refunded_cents", "refunded", cents),
        credit("taken_back_micro", "taken back"),
        credit("shortfall_micro", "shortfall"),
        "failure",
    )
    list_display_links = (list_display[0],)
    list_filter = ("state", "kind", ShortfallFilter)
    list_select_related = ("organization",)
    ordering = ("-created_at",)
    search_fields = ("organization__name", "id", "payment_intent", "session_id")


@admin.register(Dispute)
class DisputeAdmin(ReadOnly):
    list_display = (
        when("created_at", "time, UTC"),
        "id",
        "payment",
        "status",
        column("amount_cents", "amount", cents),
        "withdrawn",
        "returned",
    )
    list_filter = ("status",)
    list_select_related = ("payment",)
    ordering = ("-created_at",)
    search_fields = ("id", "payment__id", "payment__payment_intent")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = (when("received_at", "received, UTC"), "type", "id", "outcome")
    list_filter = ("outcome",)
    ordering = ("-received_at",)
    search_fields = ("id",)
    exclude = ("body",)


off_words = dict(AutoTopUp.Off.choices)
why = column("reason", "reason", lambda code: off_words.get(code, code) or "–")


@admin.register(AutoTopUp)
class AutoTopUpAdmin(ReadOnly):
    list_display = (
        of,
        column("enabled", "state", lambda on: badge("on", "good") if on else badge("off")),
        credit("threshold_micro", "below, credits"),
        column("amount_cents", "buys", cents),
        column("monthly_max_cents", "at most a month", cents),
        "failures",
        why,
    )
    list_display_links = ("failures",)
    fields = (
        "organization",
        "enabled",
        "threshold_micro",
        "amount_cents",
        "monthly_max_cents",
        "enabled_by",
        "enabled_at",
        "failures",
        "retry_at",
        why,
    )
    list_filter = ("enabled",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__id")


@admin.register(Lot)
class LotAdmin(ReadOnly):
    list_display = (
        when("expires_at", "expires, UTC"),
        of_organization,
        credit("amount", "granted"),
        credit("left"),
        credit("expired"),
        "reason",
        when("closed_at"),
    )
    list_display_links = (list_display[0],)
    list_select_related = ("wallet__organization",)
    ordering = ("-id",)
    search_fields = ("wallet__organization__name", "wallet__organization__id")


# --- Vouchers ---------------------------------------------------------------------------------------


class BatchForm(Command):
    name = forms.CharField(
        max_length=200,
        help_text="Whom or what it is for; redeemers see it in their ledger.",
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"autofocus": True}),
    )
    count = forms.IntegerField(
        label="How many codes",
        min_value=1,
        max_value=CODES_MAX,
        help_text=f"Up to {CODES_MAX:,} here; more by `manage.py createvouchers`.",
        widget=widgets.UnfoldAdminIntegerFieldWidget,
    )
    amount = commands.credits_field("Credits each", least="0.000001")
    redeem_until = commands.moment_field("Redeem until", "UTC. Empty: for ever.")
    credit_days = forms.IntegerField(
        label="Credit lasts, days",
        required=False,
        min_value=1,
        help_text="From redemption on. Empty: it does not expire.",
        widget=widgets.UnfoldAdminIntegerFieldWidget,
    )
    once_per_organization = forms.BooleanField(
        required=False, widget=widgets.UnfoldBooleanSwitchWidget, label="One for each organization"
    )

    def clean(self) -> dict[str, Any]:
        """Nobody gives away alone by vouchers what they could not grant alone."""
        given = super().clean() or self.cleaned_data
        total_micro = micro(given.get("amount")) * (given.get("count") or 0)
        if total_micro > settings.APPROVAL_ABOVE_MICRO:
            most = exactly(settings.APPROVAL_ABOVE_MICRO)
            raise forms.ValidationError(f"A batch is worth at most {most} here, not {exactly(total_micro)}.")
        return given

    def in_words(self) -> list[tuple[str, str]]:
        given = self.cleaned_data
        each = micro(given["amount"])
        until, days = given["redeem_until"], given["credit_days"]
        return [
            ("Batch", given["name"]),
            ("Codes", f"{given['count']:,}, each worth {exactly(each)}"),
            ("In all", exactly(each * given["count"])),
            ("To be redeemed", f"until {until:%Y-%m-%d %H:%M} UTC" if until else "at any time"),
            ("The credit", f"expires {days} days after redemption" if days else "does not expire"),
            ("An organization", "may redeem one" if given["once_per_organization"] else "may redeem many"),
        ]


@admin.register(VoucherBatch)
class VoucherBatchAdmin(ReadOnly):
    list_display = (
        "name",
        credit("amount_micro", "credits each"),
        "count",
        column("redeemed", "redeemed", lambda number: number),
        when("redeem_until"),
        "credit_days",
        "created_by",
        column("cancelled_at", "state", lambda at: badge("cancelled", "bad") if at else badge("good", "good")),
    )
    ordering = ("-id",)
    search_fields = ("name",)
    change_list_template = "operator/voucher_batches.html"
    change_form_outer_before_template = "operator/voucher_batch.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[VoucherBatch]:
        redeemed = Count("vouchers", filter=Q(vouchers__redeemed_at__isnull=False))
        return super().get_queryset(request).annotate(redeemed=redeemed)

    def get_urls(self) -> list[Any]:
        issue = sensitive_post_parameters("codes")(never_cache(self.issue))
        return [
            path("issue/", self.admin_site.admin_view(issue), name="voucherbatch_issue"),
            path("codes.csv", self.admin_site.admin_view(self.download), name="voucherbatch_codes"),
            path("<int:object_id>/cancel/", self.admin_site.admin_view(self.cancel), name="voucherbatch_cancel"),
            *super().get_urls(),
        ]

    def issue(self, request: HttpRequest) -> HttpResponseBase:
        """The form, then in words, then the codes, this once."""
        if not request.user.has_perm(MAY_ISSUE):
            raise PermissionDenied
        form = BatchForm(request.POST or None)
        page = self.admin_site.each_context(request) | {
            "title": "Issue vouchers",
            "form": form,
            "shape": "q-grid",
            "back": reverse("admin:billing_voucherbatch_changelist"),
            "verb": "Issue them",
        }
        if request.method != "POST" or "edit" in request.POST or not form.is_valid():
            return TemplateResponse(request, "operator/command.html", page)
        if "confirmed" not in request.POST:
            page |= {"words": form.in_words(), "given": commands.hidden(form)}
            return TemplateResponse(request, "operator/confirm.html", page)
        try:
            batch, codes = issued(request, form.cleaned_data)
        except ValueError as error:
            form.refuse(error, {"amount_micro": "amount"})
            return TemplateResponse(request, "operator/command.html", page)
        page |= {"title": f"The codes of {batch}", "batch": batch, "codes": codes}
        return TemplateResponse(request, "operator/voucher_codes.html", page)

    def download(self, request: HttpRequest) -> HttpResponseBase:
        """What the page of the codes sends back to have as a file: nobody keeps them."""
        if request.method != "POST" or not request.user.has_perm(MAY_ISSUE):
            raise PermissionDenied
        text = io.StringIO()
        csv.writer(text).writerows([("code",), *((code,) for code in request.POST.get("codes", "").split())])
        headers = {"Content-Disposition": 'attachment; filename="vouchers.csv"', "Cache-Control": "no-store"}
        return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)

    def cancel(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        if request.method != "POST" or not request.user.has_perm(MAY_CANCEL):
            raise PermissionDenied
        batch = get_object_or_404(VoucherBatch, pk=object_id)
        with transaction.atomic():
            left = cancel_batch(batch.pk)
            record(request, "vouchers.cancel", batch, codes=left)
        messages.success(request, f"{batch}: {left} codes are worth nothing any more.")
        return redirect(page_of(batch))


@transaction.atomic
def issued(request: HttpRequest, given: dict[str, Any]) -> tuple[VoucherBatch, list[str]]:
    batch, codes = create_batch(
        given["name"],
        given["count"],
        micro(given["amount"]),
        redeem_until=given["redeem_until"],
        credit_days=given["credit_days"],
        once_per_organization=given["once_per_organization"],
        created_by=operator(request).email,
    )
    record(request, "vouchers.issue", batch, codes=batch.count, amount_micro=batch.amount_micro)
    return batch, codes


@admin.display(description="code")
def tail(voucher: Voucher) -> str:
    return f"…{voucher.tail}"


@admin.display(description="redeemed by")
def redeemer(voucher: Voucher) -> str:
    return linked(voucher.organization)


@admin.register(Voucher)
class VoucherAdmin(ReadOnly):
    list_display = (tail, "batch", when("redeemed_at", "redeemed, UTC"), redeemer, "redeemed_by")
    list_filter = (("redeemed_at", admin.EmptyFieldListFilter),)
    list_select_related = ("batch", "organization", "redeemed_by")
    ordering = ("-id",)
    search_fields = ("tail", "organization__name", "batch__name")
