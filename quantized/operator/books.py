"""The ledger explorer: entries, holds, usage with the arithmetic of each receipt, prices. To look at, not to change."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import DecimalField, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.http import HttpRequest
from unfold.contrib.filters.admin import RangeDateTimeFilter

from billing.models import Entry, Heartbeat, Hold, Meter, Price, Usage, UsageHour, VerifierRun
from billing.pricing import money
from billing.pricing.classes import BY_NAME, CLASSES, PriceClass
from billing.usage import receipts
from common.ids import generation_id
from common.numbers import MICRO, dollars
from quantized.operator.pages import (
    Column,
    ReadOnly,
    amount,
    badge,
    column,
    count,
    credit,
    linked,
    milliseconds,
    movement,
    of_organization,
    state,
    typed_id,
    when,
)

HOLD_TONES = {"open": "warn", "settled": "good", "expired": "bad"}
RECONCILIATION_TONES = {"matched": "good", "corrected": "warn", "queued": "warn", "gave_up": "bad"}


class OfCalls(ReadOnly):
    """Millions of rows: searched by what an index knows, an id or a key as it is, and narrowed by the organization."""

    exact_fields: tuple[str, ...] = ()  # texts that are searched as they are
    id_fields: tuple[str, ...] = ()  # ids, of calls with or without their `gen-`

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        term = search_term.strip()
        if not term:
            return queryset, False
        found_id = typed_id(term)
        names = self.exact_fields if found_id is None else ()
        wanted = Q(pk__in=[])
        for name in (*names, *(self.id_fields if found_id else ())):
            wanted |= Q(**{name: found_id if name in self.id_fields else term})
        for name in self.exact_fields if found_id else ():
            wanted |= Q(**{name: term})
        return queryset.filter(wanted), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup.startswith("wallet__organization") or super().lookup_allowed(lookup, value, request)


@admin.display(description="call")
def call(entry: Entry) -> str:
    return linked(entry.hold) if entry.hold_id else "–"


@admin.register(Entry)
class EntryAdmin(OfCalls):
    list_display = (
        when("created_at", "time, UTC"),
        of_organization,
        "kind",
        movement("amount", "credits"),
        credit("balance_after"),
        "contra",
        "actor",
        "reason",
    )
    list_display_links = (list_display[0],)
    list_filter = ("kind", "contra", ("created_at", RangeDateTimeFilter))
    list_filter_submit = True
    list_select_related = ("wallet__organization",)
    ordering = ("-id",)
    search_fields = ("hold", "idempotency_key")
    search_help_text = "The id of a call, or an idempotency key, as a whole."
    exact_fields = ("idempotency_key",)
    id_fields = ("hold_id",)
    fields = (
        ("id", of_organization),
        (when("created_at", "time, UTC"), "seq"),
        ("kind", "contra"),
        (movement("amount", "credits"), credit("balance_after")),
        ("actor", "reason"),
        (call, "idempotency_key"),
    )


@admin.register(Hold)
class HoldAdmin(OfCalls):
    list_display = (
        when("created_at", "time, UTC"),
        of_organization,
        state("state", HOLD_TONES),
        "model",
        "provider",
        credit("amount", "held"),
        credit("actual", "cost"),
        credit("charged"),
        when("expires_at"),
    )
    list_display_links = (list_display[0],)
    list_filter = ("state", ("created_at", RangeDateTimeFilter))
    list_filter_submit = True
    list_select_related = ("wallet__organization",)
    ordering = ("-id",)  # UUIDv7: the order of time
    search_fields = ("id", "provider_ref")
    search_help_text = "The id of a call, or the provider's id of it, as a whole."
    exact_fields = ("provider_ref",)
    id_fields = ("pk",)
    fields = (
        ("id", of_organization),
        ("model", "provider"),
        ("provider_ref", "key"),
        ("price", "rate"),
        (when("created_at", "created, UTC"), when("dispatched_at", "dispatched, UTC")),
        (when("expires_at", "expires, UTC"), when("resolved_at", "resolved, UTC")),
    )
    change_form_outer_before_template = "operator/receipt.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return super().change_view(request, object_id, form_url, (extra_context or {}) | receipt_of(object_id))


@admin.display(description="tokens in → out")
def tokens(usage: Usage) -> str:
    return f"{usage.prompt_tokens:,} → {usage.completion_tokens:,}"


@admin.display(description="outcome")
def outcome(usage: Usage) -> str:
    if usage.error_code:
        return badge(usage.error_code, "bad")
    if usage.cancelled:
        return badge("cancelled", "warn")
    return badge("estimated", "warn") if usage.estimated else badge("answered", "good")


def units(name: str) -> Column:
    """A field of how many of one unit there were."""

    @admin.display(description=name.replace("_", " "))
    def shown(usage: Usage) -> int:
        return int(usage.units.get(name, 0))

    shown.__name__ = name
    return shown


@admin.register(Usage)
class UsageAdmin(OfCalls):
    list_display = (
        when("recorded_at", "time, UTC"),
        of_organization,
        "model",
        "provider",
        tokens,
        credit("charged", "credits"),
        outcome,
        column("latency_ms", "took", milliseconds),
        state("reconciliation", RECONCILIATION_TONES),
    )
    list_display_links = (list_display[0],)
    list_filter = ("reconciliation", "estimated", "streamed", "cancelled", ("recorded_at", RangeDateTimeFilter))
    list_filter_submit = True
    list_select_related = ("wallet__organization",)
    ordering = ("-recorded_at",)
    search_fields = ("hold", "provider_ref")
    search_help_text = "The id of a call, or the provider's id of it, as a whole."
    exact_fields = ("provider_ref",)
    id_fields = ("pk",)
    fields = tuple(
        shown
        for field in Usage._meta.fields
        for shown in (map(units, money.UNITS) if field.name == "units" else (field.name,))
    )
    change_form_outer_before_template = "operator/receipt.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return super().change_view(request, object_id, form_url, (extra_context or {}) | receipt_of(object_id))


@admin.register(UsageHour)
class UsageHourAdmin(ReadOnly):
    list_display = (
        when("hour", "hour, UTC"),
        "model",
        "provider",
        count("requests"),
        count("errors"),
        count("prompt_tokens"),
        count("completion_tokens"),
        credit("charged", "credits"),
    )
    list_filter = (("hour", RangeDateTimeFilter),)
    list_filter_submit = True
    ordering = ("-hour",)


def figure(one: PriceClass) -> Column:
    """A column of what a class costs, in USD."""

    @admin.display(
        description=one.words,
        ordering=Cast(KeyTextTransform(one.name, "rates"), DecimalField(max_digits=26, decimal_places=12)),
    )
    def shown(price: Price) -> str:
        return str(price.rates.get(one.name, "–"))

    shown.__name__ = one.name
    return shown


@admin.register(Price)
class PriceAdmin(ReadOnly):
    """Immutable versions; a route gets a new one by its page."""

    list_display = (
        "id",
        "version",
        *(figure(BY_NAME[name]) for name in ("input", "output", "cache_read", "cache_write_5m")),
        when("created_at"),
    )
    ordering = ("-id",)
    fields = ("version", *map(figure, CLASSES), "tiers")


@admin.register(Meter)
class MeterAdmin(ReadOnly):
    list_display = (
        "key",
        credit("day_spent"),
        credit("week_spent"),
        credit("month_spent"),
        credit("total_spent"),
        credit("total_held"),
    )
    list_select_related = ("key",)
    search_fields = ("key__id", "key__name")


@admin.display(description="found")
def found(run: VerifierRun) -> str:
    if run.error:
        return badge("could not end", "bad")
    return badge(f"{run.violations:,} violations", "bad") if run.violations else badge("all is right", "good")


@admin.display(description="took")
def took(run: VerifierRun) -> str:
    return f"{(run.finished_at - run.started_at).total_seconds():,.1f} s"


@admin.register(VerifierRun)
class VerifierRunAdmin(ReadOnly):
    list_display = (when("started_at", "began, UTC"), "kind", found, count("wallets"), count("entries"), took)
    list_filter = ("kind",)
    ordering = ("-started_at",)
    fields = (
        ("kind", found),
        (when("started_at", "began, UTC"), took),
        (count("wallets"), count("entries")),
        (when("hours_until", "roll-ups compared before"), "error"),
        "first_violations",
    )


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly):
    """When each periodic task last ran to its end, and when it last failed."""

    list_display = (
        "task",
        when("succeeded_at", "last ended well, UTC"),
        column("duration_ms", "took", milliseconds),
        when("failed_at", "last failed, UTC"),
        "error",
    )
    ordering = ("task",)


# --- The receipt ------------------------------------------------------------------------------------


def receipt_of(object_id: str) -> dict[str, Any]:
    """One call from hold to last entry, with its arithmetic."""
    hold_id = typed_id(object_id)
    hold = Hold.objects.filter(pk=hold_id).only("wallet_id").first() if hold_id else None
    found = receipts.receipt(hold.wallet_id, generation_id(hold.pk)) if hold else None
    if found is None:
        return {}
    entries = Entry.objects.filter(hold_id=found.hold.pk).order_by("seq")
    return {
        "receipt": found,
        "generation": generation_id(found.hold.pk),
        "sum": arithmetic(found) if found.usage else None,
        "entries": [(entry, amount(entry.amount, signed=True), amount(entry.balance_after)) for entry in entries],
        "organization": found.hold.wallet.organization,
    }


def arithmetic(found: receipts.CallReceipt) -> dict[str, Any]:
    """Tokens × price by class; today's margin and rate are said beside it, what was charged is the ledger's."""
    usage = found.usage
    assert usage is not None
    items = [
        {
            "name": BY_NAME[name].words,
            "quantity": quantity,
            "usd_each": shown_rate(name, each),
            "usd": dollars(money.usd(quantity * each)),
        }
        for name, quantity, each in money.lines(usage.to_struct(), found.price.to_struct())
    ]
    return {
        "lines": items,
        "cost_usd": dollars(money.usd(usage.cost_pico)),
        "margin_percent": f"{settings.MARGIN * 100:f}".rstrip("0").rstrip("."),
        "credits_per_usd": f"{settings.CREDITS_PER_USD:f}",
    }


def shown_rate(name: str, pico_each: int) -> str:
    if BY_NAME[name].is_token:
        return f"{dollars(money.usd(pico_each * MICRO))} / M"
    return f"{dollars(money.usd(pico_each))} each"
