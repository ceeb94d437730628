"""Users, operators' roles, API keys and the audit log."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from unfold.contrib.filters.admin import RangeDateTimeFilter, TextFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import services
from accounts.keys import PREFIX
from accounts.models import ApiKey, AuditEntry, User, vouch
from quantized.operator.pages import Audited, ReadOnly, badge, column, count, credit, linked, typed_id, when


class EmailUserCreationForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("email",)
        field_classes: dict[str, Any] = {}


@admin.register(User)
class EmailUserAdmin(Audited, UserAdmin):
    """Nobody is deleted who has done something: deactivate them."""

    form = UserChangeForm
    add_form = EmailUserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = (
        "email",
        column("is_active", "active", lambda yes: badge("active", "good") if yes else badge("deactivated", "bad")),
        column("is_staff", "operator", lambda yes: badge("operator", "warn") if yes else "–"),
        when("created_at"),
        when("last_login"),
    )
    list_filter = ("is_active", "is_staff")
    search_fields = ("email",)
    ordering = ("email",)
    readonly_fields = ("created_at", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Times", {"fields": ("created_at", "last_login")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    filter_horizontal = ()
    actions = ("deactivate",)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Whoever types an address here vouches for it."""
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            vouch(obj)

    @admin.action(description="Deactivate: no log-in, no call in their name", permissions=["change"])
    def deactivate(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in chosen.filter(is_active=True):
            user.is_active = False
            user.save(update_fields=["is_active"])
            self.log_change(request, user, "Deactivated.")
        messages.success(request, "Deactivated.")


# Pages of their own would show secrets, or search for names that our users do not have.
for unsuitable in (Authenticator, EmailAddress, UserSession, Group):
    admin.site.unregister(unsuitable)


@admin.register(Authenticator)
class SecondFactorAdmin(Audited):
    """Deleted for somebody who has lost theirs, all of that person's. The secret is shown to nobody."""

    list_display = ("user", "type", when("created_at"), when("last_used_at"))
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    ordering = ("user__email",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Group)
class RoleAdmin(Audited, GroupAdmin):
    """What operators may do who are no superusers."""

    ordering = ("name",)
    filter_horizontal = ()

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None:
            field.widget.attrs["size"] = 18
        return field


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        expired = Q(expires_at__lte=Now())
        state = self.value()
        if state == "revoked":
            return queryset.exclude(revoked_at=None)
        if state == "expired":
            return queryset.filter(expired, revoked_at=None)
        return queryset.filter(Q(expires_at=None) | ~expired, revoked_at=None) if state == "active" else queryset


@admin.display(description="key")
def masked(key: ApiKey) -> str:
    return f"{key.prefix.removeprefix(PREFIX)}…{key.last_four}"  # the whole would break at its hyphens


@admin.display(description="organization")
def of(key: ApiKey) -> str:
    return linked(key.organization)


@admin.register(ApiKey)
class ApiKeyAdmin(Audited):
    """To look at and to revoke. Keys are made where they can be shown once; the digest is shown to nobody."""

    list_display = (
        "name",
        masked,
        of,
        column("revoked_at", "state", lambda at: badge("revoked", "bad") if at else badge("active", "good")),
        when("expires_at"),
        when("last_used_at"),
        when("created_at"),
    )
    list_display_links = ("name", masked)
    list_filter = (KeyStateFilter, "limit_period", "created_at")
    ordering = ("-created_at",)
    list_select_related = ("organization",)
    search_fields = ("name", "prefix", "last_four", "id", "organization__name", "organization__id")
    actions = ("revoke",)
    fields = (
        ("id", of),
        ("name", masked),
        (credit("limit_micro", "limit, credits"), "limit_period"),
        "models",
        (count("requests_per_minute"), count("tokens_per_minute"), count("concurrency")),
        (when("created_at"), "created_by"),
        (when("last_used_at"), when("expires_at"), when("revoked_at")),
    )
    readonly_fields = tuple(name for row in fields for name in (row if isinstance(row, tuple) else (row,)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "organization__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.action(description="Revoke for good", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        for key in chosen:
            services.revoke_key(key.pk)
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {', '.join(map(str, chosen))}.")


class ActorFilter(TextFilter):
    title = "operator"
    parameter_name = "actor"

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(actor__iexact=self.value().strip()) if self.value() else queryset


class ActionFilter(TextFilter):
    title = "action, or how it begins"
    parameter_name = "begins"

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action__startswith=self.value().strip()) if self.value() else queryset


@admin.display(description="details")
def details(entry: AuditEntry) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.details.items()) or "–"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = (when("at", "time, UTC"), "actor", "action", "target", "reason", details)
    list_filter = (ActorFilter, ActionFilter, ("at", RangeDateTimeFilter))
    list_filter_submit = True
    ordering = ("-at", "-id")
    search_fields = ("target", "reason")
    search_help_text = "A word of the target or the reason, or the id of an organization."
    fields = (
        (when("at", "time, UTC"), "actor"),
        ("action", "target"),
        ("organization_id", "reason"),
        details,
    )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "organization_id__exact" or super().lookup_allowed(lookup, value, request)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        found = typed_id(search_term.strip())
        if found:
            return queryset.filter(organization_id=found), False
        return super().get_search_results(request, queryset, search_term)
