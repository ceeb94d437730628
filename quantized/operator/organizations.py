"""Organizations and what is asked to be done to their accounts."""

from functools import partial
from typing import Any
from uuid import uuid4

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path
from unfold.admin import TabularInline

from accounts.models import Membership, Organization
from billing.credits import operations
from billing.credits.operations import Asked
from billing.models import Entry, Hold, Operation, Wallet
from quantized.operator import acts
from quantized.operator.pages import (
    Audited,
    ReadOnly,
    amount,
    column,
    credit,
    linked,
    list_of,
    operator,
    state,
    typed_id,
    when,
)

Kind = Operation.Kind
SHOWN_ROWS = 8
STATUS_TONES = {"active": "good", "suspended": "bad"}
STATE_TONES = {"waiting": "warn", "done": "good"}


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("created_at",)
    verbose_name_plural = "members"
    hide_title = True

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **more: Any) -> Any:
        field = super().formfield_for_choice_field(db_field, request, **more)
        field.widget.attrs["aria-label"] = "Role"  # the table's head is not its label
        return field

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user")


@admin.display(description="balance", ordering="wallet__posted")
def posted(organization: Organization) -> str:
    wallet = organization.wallet
    return "unlimited" if wallet.unlimited and not wallet.posted else amount(wallet.posted)


@admin.display(description="held", ordering="wallet__held")
def held(organization: Organization) -> str:
    return amount(organization.wallet.held)


@admin.register(Organization)
class OrganizationAdmin(Audited):
    """What changes its account is a command form, audited and done once. Nobody deletes a tenant."""

    list_display = ("name", state("status", STATUS_TONES), posted, held, "id", when("created_at"))
    list_display_links = ("name",)
    list_filter = ("status", "wallet__unlimited")
    list_select_related = ("wallet",)
    search_fields = ("name", "id", "memberships__user__email")
    ordering = ("name", "id")
    fields = (("name", "id"), ("status", "created_at"))
    readonly_fields = ("id", "status", "created_at")
    inlines = (MembershipInline,)
    actions = ("suspend", "reactivate")
    change_form_outer_before_template = "operator/organization.html"
    change_form_outer_after_template = "operator/organization_rows.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # an organization without a wallet and an owner is no tenant: `createtenant`

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        return [
            path(
                f"<uuid:object_id>/{kind}/",
                self.admin_site.admin_view(partial(self.act, kind=kind)),
                name=f"organization_{kind}",
            )
            for kind in Kind.values
        ] + super().get_urls()

    def act(self, request: HttpRequest, object_id: str, kind: str) -> HttpResponseBase:
        return acts.act(request, self.admin_site.each_context(request), object_id, kind)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        found_id = typed_id(object_id)
        found = Organization.objects.select_related("wallet").filter(pk=found_id).first() if found_id else None
        return super().change_view(request, object_id, form_url, (extra_context or {}) | self.account(request, found))

    def account(self, request: HttpRequest, organization: Organization | None) -> dict[str, Any]:
        """What the page shows beside the form."""
        if organization is None:
            return {}
        of_it = f"wallet__organization__id__exact={organization.pk}"
        holds = Hold.objects.filter(wallet_id=organization.pk, state=Hold.State.OPEN).order_by("-created_at")
        return {
            "account": organization,
            "wallet": organization.wallet,
            "acts": [(kind.label, kind.value) for kind in offered(organization)]
            if request.user.has_perm(acts.MAY_ASK)
            else [],
            "entries": Entry.objects.filter(wallet_id=organization.pk).order_by("-seq")[:SHOWN_ROWS],
            "entries_list": list_of(Entry, of_it),
            "holds": holds[:SHOWN_ROWS],
            "holds_list": list_of(Hold, f"{of_it}&state__exact=open"),
            "keys": organization.keys.order_by("-created_at")[:SHOWN_ROWS],
            "requests": organization.operations.select_related("requested_by").order_by("-requested_at")[:SHOWN_ROWS],
        }

    @admin.action(description="Suspend: refuse its keys", permissions=["change"])
    def suspend(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        self.do_to_all(request, chosen, Kind.SUSPEND)

    @admin.action(description="Reactivate: accept its keys again", permissions=["change"])
    def reactivate(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        self.do_to_all(request, chosen, Kind.REACTIVATE)

    def do_to_all(self, request: HttpRequest, chosen: QuerySet[Organization], kind: Kind) -> None:
        for organization in chosen:
            reason = "chosen in the list of organizations"
            operations.request(
                Asked(id=uuid4(), kind=kind, organization_id=organization.pk, reason=reason), operator(request)
            )
        messages.success(request, f"{kind.label}: {', '.join(organization.name for organization in chosen)}.")


def offered(organization: Organization) -> list[Kind]:
    """Of two opposites the one that changes something."""
    senseless = {
        Kind.LIMITED if not organization.wallet.unlimited else Kind.UNLIMITED,
        Kind.REACTIVATE if organization.status == Organization.Status.ACTIVE else Kind.SUSPEND,
    }
    return [kind for kind in Kind if kind not in senseless]


@admin.display(description="what")
def what(operation: Operation) -> str:
    return operation.get_kind_display()


@admin.display(description="organization")
def of(operation: Operation) -> str:
    return linked(operation.organization)


@admin.register(Operation)
class OperationAdmin(ReadOnly):
    """Requests: what operators asked for. Those that wait are approved or declined by another one, on their page."""

    list_display = (
        when("requested_at", "asked"),
        what,
        of,
        credit("amount"),
        "reason",
        "requested_by",
        state("state", STATE_TONES),
        "decided_by",
    )
    list_display_links = (list_display[0], what)
    list_filter = ("state", "kind")
    list_select_related = ("organization", "requested_by", "decided_by")
    ordering = ("-requested_at",)
    search_fields = ("organization__name", "organization__id", "reason")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return acts.decide(request, self.admin_site.each_context(request), object_id)


@admin.display(description="organization", ordering="organization__name")
def owner(wallet: Wallet) -> str:
    return linked(wallet.organization)


@admin.register(Wallet)
class WalletAdmin(ReadOnly):
    list_display = (
        owner,
        credit("posted", "balance"),
        credit("held"),
        column("unlimited", "unlimited", lambda yes: "yes" if yes else "–"),
        credit("overdraft"),
        "status",
        "seq",
    )
    list_display_links = ("seq",)
    list_filter = ("status", "unlimited")
    list_select_related = ("organization",)
    ordering = ("posted",)
    search_fields = ("organization__name", "organization__id")
