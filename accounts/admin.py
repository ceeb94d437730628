from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from accounts import services
from accounts.keys import PREFIX
from accounts.managers import vouch
from accounts.models import ApiKey, Membership, Organization, User


class EmailUserCreationForm(AdminUserCreationForm):
    class Meta(AdminUserCreationForm.Meta):
        model = User
        fields = ("email",)
        field_classes = {}


@admin.register(User)
class EmailUserAdmin(UserAdmin):
    add_form = EmailUserCreationForm
    list_display = ("email", "is_active", "is_staff", "created_at", "last_login")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email",)
    ordering = ("email",)
    readonly_fields = ("created_at", "last_login")
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Times", {"fields": ("created_at", "last_login")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Whoever types an address here vouches for it."""
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            vouch(obj)


# Their own pages of the admin would show secrets, or search for names that our users do not have.
for unsuitable in (Authenticator, EmailAddress, UserSession):
    admin.site.unregister(unsuitable)


@admin.register(Authenticator)
class SecondFactorAdmin(admin.ModelAdmin):
    """Deleted for somebody who has lost theirs, all of that person's. The secret is shown to nobody."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    search_fields = ("user__email",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("created_at",)


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin):
    """Status changes by the actions, so that there is one way to suspend. Nobody deletes a tenant."""

    list_display = ("name", "id", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("name", "id", "memberships__user__email")
    readonly_fields = ("id", "status", "created_at")
    inlines = (MembershipInline,)
    actions = ("suspend", "reactivate")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # an organization without a wallet and an owner is no tenant: `createtenant`

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Suspend: refuse its keys", permissions=["change"])
    def suspend(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        for organization in chosen:
            services.suspend(organization.pk)
            self.log_change(request, organization, "Suspended.")
        messages.success(request, f"Suspended: {', '.join(organization.name for organization in chosen)}.")

    @admin.action(description="Reactivate: accept its keys again", permissions=["change"])
    def reactivate(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        for organization in chosen:
            services.reactivate(organization.pk)
            self.log_change(request, organization, "Reactivated.")
        messages.success(request, f"Reactivated: {', '.join(organization.name for organization in chosen)}.")


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


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """To look at and to revoke. Keys are made where they can be shown once; the digest is shown to nobody."""

    list_display = ("name", "masked", "organization", "is_active", "expires_at", "last_used_at", "created_at")
    list_display_links = ("name", "masked")
    list_filter = (KeyStateFilter, "limit_period", "created_at")
    ordering = ("-created_at",)
    list_select_related = ("organization",)
    search_fields = ("name", "prefix", "last_four", "id", "organization__name", "organization__id")
    actions = ("revoke",)
    fields = (
        "id",
        "organization",
        "name",
        "masked",
        ("limit_micro", "limit_period"),
        "models",
        ("requests_per_minute", "tokens_per_minute", "concurrency"),
        ("created_at", "created_by"),
        ("last_used_at", "expires_at", "revoked_at"),
    )
    readonly_fields = tuple(name for row in fields for name in ((row,) if isinstance(row, str) else row))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="key")
    def masked(self, key: ApiKey) -> str:
        return f"{key.prefix.removeprefix(PREFIX)}…{key.last_four}"  # the whole would break at its hyphens

    @admin.display(description="active", boolean=True)
    def is_active(self, key: ApiKey) -> bool:
        return key.revoked_at is None

    @admin.action(description="Revoke for good", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        for key in chosen:
            services.revoke_key(key.pk)
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {', '.join(map(str, chosen))}.")
