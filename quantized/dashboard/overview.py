"""The first page: what is left, how long it lasts, where it went; and the first three steps of a new tenant."""

import math
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.timezone import localtime
from django.views.decorators.http import require_safe

from accounts.models import ApiKey
from billing.models import Usage, Wallet
from billing.usage.browse import balances_at
from billing.usage.overview import BurnRate, Overview, Tally, burn_rate, overview
from billing.usage.report import Span, day_start
from common.ids import generation_id
from quantized.dashboard.charts import Line, line, stacked
from quantized.dashboard.downloads import csv_download
from quantized.dashboard.frame import Visitor, member_page, show
from quantized.dashboard.keys import once

DAYS = 30
TOP_MAX = 5
DAYS_LEFT_MAX = 3650
DAYS_AHEAD_MAX = 14  # of the projection; what lasts longer leaves the picture
NO_KEY = "Playground and access tokens"


class Top(msgspec.Struct, frozen=True):
    """One of the dearest models or keys."""

    name: str
    hint: str
    query: str  # of the activity page; empty where it cannot tell
    tally: Tally
    share: int  # of the dearest, in percent


class Outlook(msgspec.Struct, frozen=True):
    rate: BurnRate | None
    days_left: float | None  # None: not known, or without an end
    empty_on: date | None


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    found = overview(visitor.organization.pk, span_of(visitor), visitor.now)
    total = found.total()
    look_ahead = outlook(visitor.wallet, burn_rate(found, visitor.now), visitor.now)
    context = {
        "days": DAYS,
        "total": total,
        "balance": balance_of(visitor, look_ahead),
        "chart": chart_of(found, request.GET.get("model", "")),
        "only": request.GET.get("model", ""),
        "outlook": look_ahead,
        "top_models": top_models(found),
        "top_keys": top_keys(found),
    }
    if not total.requests and not first_call(visitor):
        has_key = visitor.organization.keys.filter(revoked_at=None).exists()
        context |= {"first_run": True, "has_key": has_key, "once": once(request)}
    return show(request, visitor, "overview.html", context)


@require_safe
@member_page
def first_call_part(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What the last of the three steps asks for every two seconds, until there is something to show."""
    call = first_call(visitor)
    context: dict[str, Any] = {"call": call, "generation": generation_id(call.hold_id) if call else ""}
    return render(request, "dashboard/first_call.html", context)


@require_safe
@member_page
def spend_download(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """The chart's figures: a row for each day and model, in micro-credits."""
    found = overview(visitor.organization.pk, span_of(visitor), visitor.now)
    rows = [
        (found.days[day].group, model, tally.requests, tally.errors, tally.credits_used)
        for (day, model), tally in sorted(found.cells.items())
    ]
    return csv_download("spend", ("day", "model", "requests", "errors", "micro_credits"), iter([rows]))


def span_of(visitor: Visitor) -> Span:
    """Whole days on the viewer's clocks, today included."""
    today = localtime(visitor.now, visitor.zone).date()
    first, tomorrow = today - timedelta(days=DAYS - 1), today + timedelta(days=1)
    return Span(day_start(first, visitor.zone), day_start(tomorrow, visitor.zone), visitor.zone)


def chart_of(found: Overview, only: str) -> Any:
    labels = [f"{date.fromisoformat(bucket.group):%-d %b}" for bucket in found.days]
    return stacked(labels, {cell: tally.credits_used for cell, tally in found.cells.items()}, only)


def outlook(wallet: Wallet, rate: BurnRate | None, now: datetime) -> Outlook:
    if rate is None or wallet.unlimited or rate.micro_per_day <= 0:
        return Outlook(rate, None, None)
    days_left = max(wallet.posted, 0) / rate.micro_per_day
    lasts = days_left <= DAYS_LEFT_MAX
    return Outlook(rate, days_left, localtime(now + timedelta(days=days_left)).date() if lasts else None)


def balance_of(visitor: Visitor, ahead: Outlook) -> Line:
    """At the end of every day, and now; no figure for days before the organization existed."""
    span = span_of(visitor)
    days = [localtime(span.start, visitor.zone).date() + timedelta(days=number) for number in range(DAYS)]
    ends = [day_start(day + timedelta(days=1), visitor.zone) for day in days[:-1]]
    balances = balances_at(visitor.organization.pk, ends)
    born = visitor.organization.created_at
    known = [(balance or 0) if end > born else None for end, balance in zip(ends, balances, strict=True)]
    labels = [f"{day:%-d %b}" for day in days]
    return line(list(zip(labels, [*known, visitor.wallet.posted], strict=True)), projected(visitor, ahead, days[-1]))


def projected(visitor: Visitor, ahead: Outlook, today: date) -> list[tuple[str, int]]:
    """The balance of the next days at this rate, down to nothing."""
    if ahead.rate is None or ahead.days_left is None or visitor.wallet.posted <= 0:
        return []
    days = min(math.ceil(ahead.days_left), DAYS_AHEAD_MAX)
    left = [visitor.wallet.posted - ahead.rate.micro_per_day * number for number in range(1, days + 1)]
    return [(f"{today + timedelta(days=number):%-d %b}", max(micro, 0)) for number, micro in enumerate(left, start=1)]


def first_call(visitor: Visitor) -> Usage | None:
    return Usage.objects.filter(wallet_id=visitor.organization.pk).order_by("recorded_at").first()


# --- The dearest ------------------------------------------------------------------------------------


def top_models(found: Overview) -> list[Top]:
    models = list(found.models().items())[:TOP_MAX]
    return [top(name, "", {"model": name}, tally, models[0][1]) for name, tally in models if tally.requests]


def top_keys(found: Overview) -> list[Top]:
    keys = sorted(found.keys.items(), key=lambda item: (-item[1].credits_used, str(item[0])))[:TOP_MAX]
    rows = ApiKey.objects.in_bulk([key_id for key_id, _ in keys if key_id])
    return [top_key(key_id, rows, tally, keys[0][1]) for key_id, tally in keys if tally.requests]


def top_key(key_id: UUID | None, rows: dict[UUID, ApiKey], tally: Tally, dearest: Tally) -> Top:
    row = rows.get(key_id) if key_id else None
    if row is None:
        return top(NO_KEY, "", {}, tally, dearest)
    masked = f"{row.prefix}…{row.last_four}"
    return top(row.name or masked, masked if row.name else "", {"key": row.pk}, tally, dearest)


def top(name: str, hint: str, query: dict[str, Any], tally: Tally, dearest: Tally) -> Top:
    share = round(100 * max(tally.credits_used, 0) / dearest.credits_used) if dearest.credits_used > 0 else 0
    return Top(name, hint, urlencode(query), tally, share)
