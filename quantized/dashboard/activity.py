"""Every call: a table that is searched and filtered, the receipt of each with its arithmetic, and the table as CSV."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase, QueryDict
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.models import Entry, Usage
from billing.pricing import money
from billing.pricing.classes import BY_NAME
from billing.usage.browse import CallFilter, Outcome, Position, calls, position
from billing.usage.receipts import CallReceipt, receipt
from billing.usage.report import day_start
from common.checks import as_uuid
from common.ids import generation_id, hold_id_of
from completions.catalog.loader import load_catalog
from quantized.dashboard.downloads import PAGE_ROWS, Rows, csv_download, moment
from quantized.dashboard.frame import Visitor, member_page, show

PAGE_CALLS = 50
KEYS_MAX = 200  # in the filter's list, the newest ones
TEXT_MAX = 200
OUTCOMES: tuple[tuple[Outcome, str], ...] = (("", "All calls"), ("answered", "Answered"), ("failed", "Failed"))
FILTERS = ("key", "model", "provider", "outcome", "from", "to")
CSV_HEADER = (
    "time",
    "id",
    "model",
    "provider",
    "key",
    "key_name",
    "member",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "micro_credits",
    "estimated",
    "streamed",
    "finish_reason",
    "error",
    "first_token_ms",
    "latency_ms",
)


class ShownCall(msgspec.Struct, frozen=True):
    """A row of the table."""

    usage: Usage
    generation: str
    tokens_per_second: float | None


class ActivityFilter(msgspec.Struct, frozen=True):
    """What was asked for: as it was typed, and as the books understand it. `problem` says what of it cannot be read."""

    typed: dict[str, str]
    filter: CallFilter
    problem: str = ""

    @property
    def is_filtered(self) -> bool:
        return bool(self.typed)


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    search = request.GET.get("q", "").strip()[:TEXT_MAX]
    if search and receipt(visitor.organization.pk, search) is not None:
        return redirect("dashboard:receipt", search)
    wanted = wanted_of(request.GET, visitor)
    after = position_of(request.GET.get("after", ""))
    found = calls(visitor.organization.pk, wanted.filter, after, PAGE_CALLS + 1)
    catalog = load_catalog()
    context = {
        "calls": [ShownCall(usage, generation_id(usage.hold_id), speed(usage)) for usage in found[:PAGE_CALLS]],
        "wanted": wanted,
        "search": search,
        "query": urlencode(wanted.typed),
        "after": after,
        "older": token_of(position(found[PAGE_CALLS - 1])) if len(found) > PAGE_CALLS else "",
        "keys": visitor.organization.keys.order_by("-created_at")[:KEYS_MAX],
        "models": choices(catalog.models, wanted.typed.get("model", "")),
        "providers": choices(
            (route.provider.name for card in catalog.models.values() for route in card.routes),
            wanted.typed.get("provider", ""),
        ),
        "outcomes": OUTCOMES,
    }
    return show(request, visitor, "activity.html", context)


@require_safe
@member_page
def download(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """What the table shows, all pages of it, with exact micro-credits and times in UTC."""
    wanted = wanted_of(request.GET, visitor)
    if wanted.problem:
        raise Http404
    return csv_download("activity", CSV_HEADER, csv_pages(visitor, wanted.filter))


def csv_pages(visitor: Visitor, wanted: CallFilter) -> Iterator[Rows]:
    after = None
    while found := calls(visitor.organization.pk, wanted, after, PAGE_ROWS):
        yield [csv_row(usage) for usage in found]
        after = position(found[-1])


def csv_row(usage: Usage) -> tuple[Any, ...]:
    return (
        moment(usage.recorded_at),
        generation_id(usage.hold_id),
        usage.model,
        usage.provider,
        usage.key_id or "",
        usage.key.name if usage.key else "",
        usage.user.email if usage.user else "",
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.reasoning_tokens,
        usage.charged,
        str(usage.estimated).lower(),
        str(usage.streamed).lower(),
        usage.finish_reason,
        usage.error_code,
        "" if usage.first_token_ms is None else usage.first_token_ms,
        "" if usage.latency_ms is None else usage.latency_ms,
    )


# --- What is asked for ------------------------------------------------------------------------------


def wanted_of(given: QueryDict, visitor: Visitor) -> ActivityFilter:
    told = {name: str(given.get(name, "")).strip()[:TEXT_MAX] for name in FILTERS}
    typed = {name: text for name, text in told.items() if text}
    first, last = day_of(typed.get("from", "")), day_of(typed.get("to", ""))
    key_id = as_uuid(typed.get("key", ""))
    problem = ""
    if ("from" in typed and first is None) or ("to" in typed and last is None):
        problem = "A day is written like 2026-01-31."
    elif first and last and last < first:
        problem = "The last day is before the first one."
    elif ("key" in typed and key_id is None) or typed.get("outcome", "") not in dict(OUTCOMES):
        problem = "This filter is not known."
    if problem:
        return ActivityFilter(typed, CallFilter(), problem)
    return ActivityFilter(
        typed,
        CallFilter(
            key_id=key_id,
            model=typed.get("model", ""),
            provider=typed.get("provider", ""),
            outcome=cast(Outcome, typed.get("outcome", "")),
            start=day_start(first, visitor.zone) if first else None,
            end=day_start(last + timedelta(days=1), visitor.zone) if last else None,
        ),
    )


def day_of(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year < 2200 else None


def position_of(text: str) -> Position | None:
    """Where the page before ended: its last row's time and id. What cannot be read is the beginning."""
    at, _, generation = text.partition("~")
    hold_id = hold_id_of(generation)
    try:
        recorded_at = datetime.fromisoformat(at)
    except ValueError:
        return None
    return Position(recorded_at, hold_id) if hold_id and timezone.is_aware(recorded_at) else None


def token_of(place: Position) -> str:
    return f"{moment(place.recorded_at)}~{generation_id(place.hold_id)}"


def choices(known: Any, chosen: str) -> list[str]:
    """What is served now, and what was chosen although it is not."""
    return sorted({*known, chosen} - {""})


def speed(usage: Usage) -> float | None:
    """Tokens of the answer in a second, from the first one on when it is known when that was."""
    if not usage.completion_tokens or usage.latency_ms is None or usage.error_code:
        return None
    took_ms = usage.latency_ms - (usage.first_token_ms or 0 if usage.streamed else 0)
    return usage.completion_tokens * 1000 / took_ms if took_ms > 0 else None


# --- The receipt ------------------------------------------------------------------------------------


class Item(msgspec.Struct, frozen=True):
    """A line of the arithmetic."""

    name: str
    quantity: int
    pico_each: int
    is_token: bool

    @property
    def cost_pico(self) -> int:
        return self.quantity * self.pico_each


class Sum(msgspec.Struct, frozen=True):
    """From tokens to micro-credits, as billing/pricing/money.py does it."""

    items: list[Item]
    counted_pico: int
    cost_pico: int  # what the books kept: the provider's own figure where it is more exact
    sells_for: int  # rounded up
    margin: str
    credits_per_usd: str


@require_safe
@member_page
def receipt_page(request: HttpRequest, visitor: Visitor, generation: str) -> HttpResponseBase:
    found = receipt(visitor.organization.pk, generation)
    if found is None:
        raise Http404
    charges = list(Entry.objects.filter(hold_id=found.hold.pk).order_by("seq"))
    context = {
        "receipt": found,
        "hold": found.hold,
        "usage": found.usage,
        "generation": generation,
        "sum": sum_of(found),
        "charges": charges,
        "balance_before": charges[0].balance_after - charges[0].amount if charges else None,
        "charged": -sum(entry.amount for entry in charges),
        "key": visitor.organization.keys.filter(pk=found.hold.key_id).first() if found.hold.key_id else None,
        "speed": speed(found.usage) if found.usage else None,
    }
    return show(request, visitor, "receipt.html", context)


def sum_of(found: CallReceipt) -> Sum | None:
    """None for a call that consumed nothing, or has not ended."""
    usage = found.usage
    if usage is None:
        return None
    items = [
        Item(BY_NAME[name].label, quantity, pico_each, BY_NAME[name].is_token)
        for name, quantity, pico_each in money.lines(usage.to_struct(), found.price.to_struct())
    ]
    rate = money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN)
    return Sum(
        items=items,
        counted_pico=sum(item.cost_pico for item in items),
        cost_pico=usage.cost_pico,
        sells_for=rate.micro(usage.cost_pico),
        margin=f"{settings.MARGIN * 100:f}".rstrip("0").rstrip("."),
        credits_per_usd=f"{settings.CREDITS_PER_USD:f}",
    )
