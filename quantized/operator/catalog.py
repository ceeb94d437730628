"""Providers, models, routes and their prices. A provider's secret can be entered and replaced, never read; a route's
price changes by a form of its own, which shows the difference first."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils import timezone
from unfold import widgets

from completions.calls.processes import servers
from completions.catalog.capabilities import CAPABILITIES
from completions.catalog.price_changes import cancel
from completions.catalog.probe import probe
from completions.models import Model, PriceChange, Provider, Route
from quantized.operator import prices
from quantized.operator.first_page import HOUR, provider_lines
from quantized.operator.pages import Audited, ReadOnly, badge, column, linked, operator, page_of, record, when

# --- Providers --------------------------------------------------------------------------------------


class ProviderForm(forms.ModelForm):
    secret = forms.CharField(
        required=False,
        strip=True,
        widget=widgets.UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted, for this base URL's host alone, never shown again. Empty: the stored one stays.",
    )
    forget_secret = forms.BooleanField(
        required=False, widget=widgets.UnfoldBooleanSwitchWidget, help_text="Delete the stored secret."
    )

    class Meta:
        model = Provider
        fields = ("name", "kind", "base_url", "allow_plain_http", "when_client_leaves", "enabled")

    def clean(self) -> dict[str, Any]:
        """Seal before the model's own checks run: they compare the secret with the base URL it belongs to."""
        cleaned = super().clean() or self.cleaned_data
        if "base_url" in cleaned and (cleaned["secret"] or cleaned["forget_secret"]):
            self.instance.base_url = cleaned["base_url"]
            self.instance.set_secret("" if cleaned["forget_secret"] else cleaned["secret"])
        return cleaned


@admin.register(Provider)
class ProviderAdmin(Audited):
    form = ProviderForm
    list_display = (
        "name",
        "kind",
        "base_url",
        "when_client_leaves",
        column("enabled", "state", lambda on: badge("enabled", "good") if on else badge("off", "bad")),
        column("secret_encrypted", "own secret", lambda sealed: "yes" if sealed else "–"),
    )
    list_filter = ("kind", "enabled")
    search_fields = ("name", "base_url")
    ordering = ("name",)
    list_before_template = "operator/providers_health.html"
    change_form_outer_before_template = "operator/provider.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, (extra_context or {}) | health())

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        known = health(int(object_id)) if object_id.isdecimal() else {}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | known)

    def get_urls(self) -> list[Any]:
        test = path("<int:object_id>/test/", self.admin_site.admin_view(self.test), name="provider_test")
        return [test, *super().get_urls()]

    def test(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        """Does it answer, and take our key? Asked by POST alone: it is a call to somebody else's server."""
        if request.method != "POST" or not self.has_change_permission(request):
            raise PermissionDenied
        provider = get_object_or_404(Provider, pk=object_id)
        found = probe(provider)
        record(request, "provider.test", provider, is_well=found.is_well, status=found.status, ms=found.milliseconds)
        tell = messages.success if found.is_well else messages.error
        tell(request, f"{provider}: {found.words} ({found.milliseconds} ms)")
        return redirect(page_of(provider))


def health(provider_id: int | None = None) -> dict[str, Any]:
    """The last hour, of one provider or of all, with their circuits."""
    now, serving = timezone.now(), servers()
    lines = provider_lines(now - HOUR, now, serving)
    return {"servers": serving, "health": [one for one in lines if provider_id in (None, one.id)]}


# --- Models and routes ------------------------------------------------------------------------------


class RouteForm(forms.ModelForm):
    capabilities = forms.MultipleChoiceField(
        required=False,
        choices=[(word, word) for word in CAPABILITIES],
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = Route
        fields = (
            "model",
            "provider",
            "upstream_model",
            "priority",
            "capabilities",
            "context_length",
            "max_output_tokens",
            "price",
            "rules",
            "enabled",
        )


@admin.register(Route)
class RouteAdmin(Audited):
    form = RouteForm
    list_display = (
        "model",
        "provider",
        "upstream_model",
        "priority",
        "price",
        column("enabled", "state", lambda on: badge("served", "good") if on else badge("off", "bad")),
    )
    list_filter = ("enabled", "provider")
    search_fields = ("model__id", "model__name", "upstream_model")
    list_select_related = ("model", "provider", "price")
    autocomplete_fields = ("model", "provider")
    raw_id_fields = ("price",)
    change_form_outer_before_template = "operator/route.html"

    def get_urls(self) -> list[Any]:
        price = path("<int:object_id>/price/", self.admin_site.admin_view(self.new_price), name="route_price")
        return [price, *super().get_urls()]

    def new_price(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        return prices.new_price(request, self.admin_site.each_context(request), object_id)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return super().change_view(
            request, object_id, form_url, (extra_context or {}) | self.prices(request, object_id)
        )

    def prices(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        """Its price versions, and those that wait for their time."""
        if not object_id.isdecimal():
            return {}
        changes = PriceChange.objects.filter(route_id=int(object_id)).select_related("price", "requested_by")
        return {
            "route_id": object_id,
            "price_changes": changes.order_by("-effective_from", "-pk")[:20],
            "may_price": request.user.has_perm(prices.MAY_PRICE),
        }


@admin.display(description="state")
def progress(change: PriceChange) -> str:
    if change.applied_at:
        return badge("in force since then", "good")
    return badge("taken back") if change.cancelled_at else badge("waits", "warn")


@admin.display(description="route")
def of_route(change: PriceChange) -> str:
    return linked(change.route)


class WaitingFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting for their time")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceChange]) -> QuerySet[PriceChange]:
        return queryset.filter(applied_at=None, cancelled_at=None) if self.value() else queryset


@admin.register(PriceChange)
class PriceChangeAdmin(ReadOnly):
    list_display = (when("effective_from", "from, UTC"), of_route, "price", progress, "reason", "requested_by")
    list_filter = (WaitingFilter,)
    list_select_related = ("route__model", "route__provider", "price", "requested_by")
    ordering = ("-effective_from", "-pk")
    search_fields = ("route__model__id", "reason")
    fields = (
        (of_route, "price"),
        (when("effective_from", "from, UTC"), progress),
        ("reason", "requested_by"),
        (when("requested_at"), when("applied_at"), when("cancelled_at")),
    )
    change_form_outer_before_template = "operator/price_change.html"

    def get_urls(self) -> list[Any]:
        back = path("<int:object_id>/cancel/", self.admin_site.admin_view(self.take_back), name="pricechange_cancel")
        return [back, *super().get_urls()]

    def take_back(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        if request.method != "POST" or not request.user.has_perm(prices.MAY_PRICE):
            raise PermissionDenied
        change = get_object_or_404(PriceChange, pk=object_id)
        if cancel(change.pk, operator(request)):
            messages.success(request, "Taken back: the route keeps the price it has.")
        else:
            messages.error(request, "Too late: it is in force already, or was taken back before.")
        return redirect(page_of(change))


@admin.register(Model)
class ModelAdmin(Audited):
    list_display = (
        "id",
        "name",
        "owned_by",
        when("created", "came out"),
        column("enabled", "state", lambda on: badge("enabled", "good") if on else badge("off", "bad")),
    )
    list_filter = ("enabled", "owned_by")
    search_fields = ("id", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("id",) if obj else ()  # another id would be another model, and leave this one behind
