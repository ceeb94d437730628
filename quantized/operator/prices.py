"""A new price for a route: the figures, then what they change and sell for, then it is scheduled."""

from decimal import Decimal
from typing import Any

import msgspec
from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold import widgets

from billing.pricing import money
from billing.pricing.classes import BY_NAME, CLASSES, NAMES, TOTALS, PriceClass
from common.numbers import plain
from completions.catalog import price_changes
from completions.models import Route
from quantized.operator import forms as commands
from quantized.operator.forms import REFUSALS, Command
from quantized.operator.pages import operator, page_of
from quantized.templatetags.numbers import credits

MAY_PRICE = "completions.add_pricechange"


class PriceForm(Command):
    """A figure per class, as the route has them now. Empty: not priced apart, or not offered."""

    def __init__(self, route: Route, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = route.price.usd if route.price else {}
        for one in CLASSES:
            self.fields[one.name] = figure(one, now.get(one.name))
        self.fields["effective_from"] = commands.moment_field("Effective from", "UTC. Empty: at once.")
        self.fields["reason"] = commands.reason_field("Why the price changes, for the audit log.")

    def figures(self) -> dict[str, Decimal | None]:
        return {name: self.cleaned_data[name] for name in NAMES}


def figure(one: PriceClass, now: Decimal | None) -> forms.DecimalField:
    return forms.DecimalField(
        label=one.title or one.words.capitalize(),
        required=one.name in TOTALS,
        min_value=Decimal(0),
        max_digits=20,
        decimal_places=one.decimals,
        initial=None if now is None else plain(now),
        help_text="USD per million tokens" if one.is_token else "USD each",
        widget=widgets.UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )


class PriceDifference(msgspec.Struct, frozen=True):
    """A class that changes: USD before and after, by how much, and what a million of it (or one) sells for."""

    name: str
    before: str
    after: str
    percent: str
    tone: str
    sells_before: str
    sells_after: str
    unit: str


def new_price(request: HttpRequest, context: dict[str, Any], route_id: int) -> HttpResponseBase:
    if not request.user.has_perm(MAY_PRICE):
        raise PermissionDenied
    route = get_object_or_404(Route.objects.select_related("price", "model", "provider"), pk=route_id)
    form = PriceForm(route, request.POST or None)
    page = context | {
        "title": f"New price: {route}",
        "shape": "q-grid",
        "intro": "Calls under way keep the price they began with. Tiers for long prompts stay as they are.",
        "form": form,
        "back": page_of(route),
        "verb": "Schedule it" if request.POST.get("effective_from_0") else "Put it in force",
    }
    if request.method != "POST" or "edit" in request.POST or not form.is_valid():
        return TemplateResponse(request, "operator/command.html", page)
    lines = price_changes.difference(route.price, form.figures())
    if not lines:
        form.add_error(None, "Nothing changes: these are the figures the route has.")
        return TemplateResponse(request, "operator/command.html", page)
    if "confirmed" not in request.POST:
        page |= {"lines": [shown(line) for line in lines], "words": words(route, form), "given": commands.hidden(form)}
        return TemplateResponse(request, "operator/price_preview.html", page)
    return scheduled(request, route, form, page)


def scheduled(request: HttpRequest, route: Route, form: PriceForm, page: dict[str, Any]) -> HttpResponseBase:
    try:
        change = price_changes.schedule(
            route.pk,
            form.figures(),
            list(route.price.tiers) if route.price else [],
            effective_from=form.cleaned_data["effective_from"] or timezone.now(),
            reason=form.cleaned_data["reason"],
            operator=operator(request),
        )
    except REFUSALS as error:
        form.refuse(error, {"price": ""})
        return TemplateResponse(request, "operator/command.html", page)
    at = "now" if change.applied_at else f"from {change.effective_from:%Y-%m-%d %H:%M} UTC"
    messages.success(request, f"{route}: version {change.price.version} is in force {at}.")
    return redirect(page_of(route))


def words(route: Route, form: PriceForm) -> list[tuple[str, str]]:
    at = form.cleaned_data["effective_from"]
    return [
        ("Route", str(route)),
        ("Effective from", f"{at:%Y-%m-%d %H:%M} UTC" if at else "at once"),
        ("Reason", form.cleaned_data["reason"]),
    ]


def shown(line: price_changes.Line) -> PriceDifference:
    percent = line.percent
    return PriceDifference(
        name=BY_NAME[line.name].words,
        before=usd(line.before),
        after=usd(line.after),
        percent="–" if percent is None else f"{percent:+.1f} %",
        tone="" if not percent else "bad" if percent > 0 else "good",
        sells_before=sells(line.name, line.before),
        sells_after=sells(line.name, line.after),
        unit="million tokens" if BY_NAME[line.name].is_token else "each",
    )


def sells(name: str, price_usd: Decimal | None) -> str:
    """Credits for a million tokens, or for one, with our margin as it is set."""
    if price_usd is None:
        return "–"
    return credits(money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN).micro(money.pico(price_usd)))


def usd(figure: Decimal | None) -> str:
    return "not offered" if figure is None else f"${plain(figure)}"
