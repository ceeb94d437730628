"""The books in the admin: to look at, never to change. Money moves by commands and services alone."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from billing.models import (
    AutoTopUp,
    CreditRate,
    Dispute,
    Entry,
    ExtraCharge,
    Hold,
    Loss,
    Lot,
    Meter,
    Payment,
    Price,
    ProviderDay,
    StripeEvent,
    Usage,
    UsageHour,
    Voucher,
    VoucherBatch,
    Wallet,
)


class ReadOnly(admin.ModelAdmin):
    show_full_result_count = False  # counting a ledger costs more than reading a page of it
    list_per_page = 50
    actions = None

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Wallet)
class WalletAdmin(ReadOnly):
    list_display = ("organization", "posted", "held", "unlimited", "overdraft", "status", "seq")
    list_filter = ("status", "unlimited")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__id")


@admin.register(Entry)
class EntryAdmin(ReadOnly):
    list_display = ("created_at", "organization", "kind", "amount", "balance_after", "actor", "reason")
    list_filter = ("kind", "contra")
    list_select_related = ("wallet__organization",)
    ordering = ("-id",)
    search_fields = ("wallet__organization__name", "hold__id", "idempotency_key")

    @admin.display(description="organization")
    def organization(self, entry: Entry) -> str:
        return entry.wallet.organization.name


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    list_display = ("id", "created_at", "state", "model", "provider", "amount", "actual", "charged", "expires_at")
    list_filter = ("state",)
    ordering = ("-id",)  # UUIDv7: the order of time
    search_fields = ("id", "provider_ref")


@admin.register(Usage)
class UsageAdmin(ReadOnly):
    list_display = (
        "hold_id",
        "recorded_at",
        "model",
        "provider",
        "prompt_tokens",
        "completion_tokens",
        "charged",
        "estimated",
        "error_code",
        "latency_ms",
        "reconciliation",
    )
    list_filter = ("reconciliation", "estimated", "streamed", "cancelled")
    ordering = ("-recorded_at",)
    search_fields = ("hold__id", "provider_ref")


@admin.register(UsageHour)
class UsageHourAdmin(ReadOnly):
    list_display = ("hour", "model", "provider", "requests", "errors", "prompt_tokens", "completion_tokens", "charged")
    ordering = ("-hour",)


@admin.register(Price)
class PriceAdmin(ReadOnly):
    list_display = ("id", "version", "input", "output", "cache_read", "cache_write_5m", "created_at")
    ordering = ("-id",)


@admin.register(Meter)
class MeterAdmin(ReadOnly):
    list_display = ("key", "day_spent", "week_spent", "month_spent", "total_spent", "total_held")
    list_select_related = ("key",)
    search_fields = ("key__id", "key__name")


@admin.register(CreditRate)
class CreditRateAdmin(ReadOnly):
    list_display = ("id", "credits_per_usd", "margin", "created_at")
    ordering = ("-id",)


@admin.register(ExtraCharge)
class ExtraChargeAdmin(ReadOnly):
    list_display = ("id", "created_at", "hold_id", "amount_micro", "taken_micro", "state", "decided_by", "decided_at")
    list_filter = ("state",)
    ordering = ("-id",)
    search_fields = ("hold__id", "wallet__organization__name")


@admin.register(Loss)
class LossAdmin(ReadOnly):
    list_display = ("hold_id", "noted_at", "reason", "cost_usd")
    list_filter = ("reason",)
    ordering = ("-noted_at",)
    search_fields = ("hold__id",)


@admin.register(ProviderDay)
class ProviderDayAdmin(ReadOnly):
    list_display = ("day", "provider", "model", "expected_usd", "reported_usd", "alerted_at", "checked_at")
    list_filter = ("provider", ("alerted_at", admin.EmptyFieldListFilter))
    ordering = ("-day", "provider", "model")
    search_fields = ("model",)


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
        "created_at",
        "organization",
        "kind",
        "state",
        "amount_cents",
        "refunded_cents",
        "taken_back_micro",
        "shortfall_micro",
        "failure",
    )
    list_filter = ("state", "kind", ShortfallFilter)
    list_select_related = ("organization",)
    ordering = ("-created_at",)
    search_fields = ("organization__name", "id", "payment_intent", "session_id")


@admin.register(Dispute)
class DisputeAdmin(ReadOnly):
    list_display = ("created_at", "id", "payment", "status", "amount_cents", "withdrawn", "returned")
    list_filter = ("status",)
    list_select_related = ("payment",)
    ordering = ("-created_at",)
    search_fields = ("id", "payment__id", "payment__payment_intent")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = ("received_at", "type", "id", "outcome")
    list_filter = ("outcome",)
    ordering = ("-received_at",)
    search_fields = ("id",)
    exclude = ("body",)


@admin.register(AutoTopUp)
class AutoTopUpAdmin(ReadOnly):
    list_display = (
        "organization",
        "enabled",
        "threshold_micro",
        "amount_cents",
        "monthly_max_cents",
        "failures",
        "reason",
    )
    list_filter = ("enabled",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__id")


@admin.register(Lot)
class LotAdmin(ReadOnly):
    list_display = ("expires_at", "wallet", "amount", "left", "expired", "reason", "closed_at")
    ordering = ("-id",)
    search_fields = ("wallet__organization__name", "wallet__organization__id")


@admin.register(VoucherBatch)
class VoucherBatchAdmin(ReadOnly):
    list_display = ("id", "name", "amount_micro", "count", "redeem_until", "credit_days", "created_by", "cancelled_at")
    ordering = ("-id",)
    search_fields = ("name",)


@admin.register(Voucher)
class VoucherAdmin(ReadOnly):
    list_display = ("batch", "tail", "redeemed_at", "organization", "redeemed_by")
    list_filter = ("batch",)
    list_select_related = ("batch", "organization", "redeemed_by")
    ordering = ("-id",)
    search_fields = ("tail", "organization__name")
