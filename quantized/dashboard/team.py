"""Who belongs to the organization, and as what; who is invited. What may be done to whom is accounts/team.py's to say:
it looks again under the organization's lock. Here it is only not offered."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import team
from accounts.models import Membership
from common import checks
from quantized.dashboard.frame import Visitor, member_page, require_team_manager, sentence, show

PAGE_MEMBERS = 50
ROLES = (
    ("owner", "Everything, and naming other owners."),
    ("admin", "Keys, team and credits."),
    ("developer", "Makes calls; sees everything."),
    ("billing", "Credits and statements; makes no calls."),
    ("viewer", "Sees everything; changes nothing and makes no calls."),
)


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    role = forms.ChoiceField(label="Role", initial="developer")

    def __init__(self, visitor: Visitor, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, auto_id="invite_%s")
        role = self.fields["role"]
        assert isinstance(role, forms.ChoiceField)
        role.choices = [(name, name) for name, _ in roles_of(visitor)]


def roles_of(visitor: Visitor) -> list[tuple[str, str]]:
    """Those the visitor may give."""
    return [(role, says) for role, says in ROLES if visitor.is_owner or role != Membership.Role.OWNER]


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    return show_team(request, visitor, InviteForm(visitor))


def show_team(request: HttpRequest, visitor: Visitor, form: InviteForm, status: int = 200) -> HttpResponseBase:
    members = visitor.organization.memberships.select_related("user").order_by("created_at", "pk")
    context = {
        "members": Paginator(members, PAGE_MEMBERS).get_page(request.GET.get("page")),
        "invitations": team.open_invitations(visitor.organization),
        "form": form,
        "roles": ROLES,
        "query": request.GET.copy(),
    }
    return show(request, visitor, "team.html", context, status=status)


# --- Invitations ------------------------------------------------------------------------------------


@require_POST
@member_page
def invite(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    require_team_manager(visitor)
    form = InviteForm(visitor, request.POST)
    if form.is_valid():
        try:
            invitation = team.invite(visitor.membership, form.cleaned_data["email"], form.cleaned_data["role"])
        except checks.Invalid as invalid:
            form.add_error(invalid.field if invalid.field in form.fields else None, sentence(invalid.message))
        except team.NotAllowed:
            raise PermissionDenied from None
        else:
            messages.success(request, f"An invitation is on its way to {invitation.email}.")
            return redirect("dashboard:team")
    return show_team(request, visitor, form, status=422)


@require_POST
@member_page
def resend(request: HttpRequest, visitor: Visitor, invitation_id: UUID) -> HttpResponseBase:
    require_team_manager(visitor)
    try:
        invitation = team.resend(visitor.membership, invitation_id)
    except team.Refused as refused:
        return show_refusal(request, refused)
    messages.success(request, f"A new link is on its way to {invitation.email}. The old one has ended.")
    return redirect("dashboard:team")


@require_POST
@member_page
def revoke(request: HttpRequest, visitor: Visitor, invitation_id: UUID) -> HttpResponseBase:
    require_team_manager(visitor)
    try:
        invitation = team.revoke(visitor.membership, invitation_id)
    except team.Refused as refused:
        return show_refusal(request, refused)
    messages.success(request, f"The invitation of {invitation.email} is revoked; its link has ended.")
    return redirect("dashboard:team")


# --- Members ----------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@member_page
def member(request: HttpRequest, visitor: Visitor, membership_id: int) -> HttpResponseBase:
    """Another role for one of them."""
    found = own_member(visitor, membership_id)
    problem = ""
    if request.method == "POST":
        try:
            changed = team.change_role(visitor.membership, found.pk, request.POST.get("role", ""))
        except checks.Invalid:
            problem = "Choose one of these."
        except team.LastOwner as refused:
            problem = str(refused)
        except team.Refused as refused:
            return show_refusal(request, refused)
        else:
            messages.success(request, f"{found.user.email} is {changed.role} now.")
            return redirect("dashboard:team")
    context = {"member": found, "roles": roles_of(visitor), "problem": problem}
    return show(request, visitor, "member.html", context, status=422 if problem else 200)


@require_http_methods(["GET", "POST"])
@member_page
def remove(request: HttpRequest, visitor: Visitor, membership_id: int) -> HttpResponseBase:
    found = own_member(visitor, membership_id)
    problem = ""
    if request.method == "POST":
        try:
            team.remove(visitor.membership, found.pk)
        except team.LastOwner as refused:
            problem = str(refused)
        except team.Refused as refused:
            return show_refusal(request, refused)
        else:
            messages.success(request, f"{found.user.email} is no longer a member.")
            return redirect("home" if found.pk == visitor.membership.pk else "dashboard:team")
    context = {"member": found, "problem": problem}
    return show(request, visitor, "member_remove.html", context, status=422 if problem else 200)


@require_http_methods(["GET", "POST"])
@member_page
def leave(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    problem = ""
    if request.method == "POST":
        try:
            team.leave(visitor.membership)
        except team.LastOwner as refused:
            problem = str(refused)
        else:
            messages.success(request, f"You have left {visitor.organization.name}.")
            return redirect("home")
    return show(request, visitor, "team_leave.html", {"problem": problem}, status=422 if problem else 200)


def own_member(visitor: Visitor, membership_id: int) -> Membership:
    """Another tenant's member is as unknown as one that never was; an owner is an owner's business."""
    require_team_manager(visitor)
    found = visitor.organization.memberships.select_related("user").filter(pk=membership_id).first()
    if found is None:
        raise Http404
    if found.role == Membership.Role.OWNER and not visitor.is_owner:
        raise PermissionDenied
    return found


def show_refusal(request: HttpRequest, refused: team.Refused) -> HttpResponseBase:
    """What has changed since the page was shown is said above it; what one may not, or does not own, by the status."""
    if isinstance(refused, team.NotAllowed):
        raise PermissionDenied from None
    if isinstance(refused, team.Missing):
        raise Http404 from None
    messages.error(request, str(refused))
    return redirect("dashboard:team")
