"""Providers, models and routes for operators. A provider's secret can be entered and replaced, never read."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from completions.models import CAPABILITIES, Model, Provider, Route


class ProviderForm(forms.ModelForm):
    secret = forms.CharField(
        required=False,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted, for this base URL's host alone, never shown again. Empty: the stored one stays.",
    )
    forget_secret = forms.BooleanField(required=False, help_text="Delete the stored secret.")

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
class ProviderAdmin(admin.ModelAdmin):
    form = ProviderForm
    list_display = ("name", "kind", "base_url", "when_client_leaves", "enabled", "has_secret")
    list_filter = ("kind", "enabled")
    search_fields = ("name", "base_url")
    ordering = ("name",)

    @admin.display(boolean=True, description="own secret")
    def has_secret(self, provider: Provider) -> bool:
        return bool(provider.secret_encrypted)


class RouteForm(forms.ModelForm):
    capabilities = forms.MultipleChoiceField(
        required=False, choices=[(word, word) for word in CAPABILITIES], widget=forms.CheckboxSelectMultiple
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
class RouteAdmin(admin.ModelAdmin):
    form = RouteForm
    list_display = ("model", "provider", "upstream_model", "priority", "price", "enabled")
    list_filter = ("enabled", "provider")
    search_fields = ("model__id", "model__name", "upstream_model")
    list_select_related = ("model", "provider", "price")
    autocomplete_fields = ("model", "provider")
    raw_id_fields = ("price",)


@admin.register(Model)
class ModelAdmin(admin.ModelAdmin):
    list_display = ("id", "name", "owned_by", "created", "enabled")
    list_filter = ("enabled", "owned_by")
    search_fields = ("id", "name")
    date_hierarchy = "created"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("id",) if obj else ()  # another id would be another model, and leave this one behind
