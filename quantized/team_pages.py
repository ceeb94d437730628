"""Joining an organization by an invitation, and switching between those one belongs to."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from accounts import current, team
from accounts.adapters import INVITATION_KEY


@never_cache
@sensitive_variables("token")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """A stranger is led through sign-up or log-in and back; a member-to-be accepts by a button."""
    found = team.invitation_of(token)
    if found is None:
        return render(request, "team/invitation_ended.html", status=410)
    if isinstance(request.user, AnonymousUser):
        request.session[INVITATION_KEY] = token
        return render(request, "team/invitation.html", {"invitation": found})
    if request.method != "POST":
        return render(request, "team/invitation.html", {"invitation": found})
    try:
        membership = team.accept(token, request.user)
    except team.Refused as error:
        return render(request, "team/invitation.html", {"invitation": found, "problem": error}, status=409)
    request.session[current.SESSION_KEY] = str(membership.organization_id)
    messages.success(request, f"You are now a member of {found.organization.name}.")
    return redirect("home")


@require_POST
def switch_organization(request: HttpRequest, organization_id: UUID) -> HttpResponse:
    current.switch(request, organization_id)
    return redirect("home")
