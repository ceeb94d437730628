"""What every page of a member stands in: who looks, at which organization, on which clocks; the balance in the top bar.

A page is a function `(request, visitor, ...)` under `@member_page`. Costs a page four queries: session, user,
memberships, wallet.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from accounts.callers import SPENDING_ROLES
from accounts.current import current_membership, memberships_of_request
from accounts.models import Membership, Organization, User
from accounts.principals import KEY_MANAGERS
from accounts.team import MANAGING_ROLES
from billing.credits.accounts import may_pay
from billing.models import Wallet
from completions.api.usage import zone_names

ZONE_COOKIE = "tz"  # written by app.js: the browser knows, and nobody else
ZONE_NAME_MAX = 64

P = ParamSpec("P")


class Visitor(msgspec.Struct, frozen=True):
    """A member who looks at one of their organizations."""

    membership: Membership
    memberships: Sequence[Membership]
    wallet: Wallet
    zone: ZoneInfo
    now: datetime

    @property
    def organization(self) -> Organization:
        return self.membership.organization

    @property
    def may_manage_keys(self) -> bool:
        return self.membership.role in KEY_MANAGERS

    @property
    def may_spend(self) -> bool:
        return self.membership.role in SPENDING_ROLES

    @property
    def may_pay(self) -> bool:
        return may_pay(self.membership.role)

    @property
    def may_manage_team(self) -> bool:
        return self.membership.role in MANAGING_ROLES

    @property
    def is_owner(self) -> bool:
        return self.membership.role == Membership.Role.OWNER


class Section(msgspec.Struct, frozen=True):
    """A line of the navigation."""

    name: str  # the icon's; as `section` a page says where it belongs
    label: str
    url: str


SECTIONS = (
    Section("overview", "Overview", "home"),
    Section("keys", "Keys", "dashboard:keys"),
    Section("activity", "Activity", "dashboard:activity"),
    Section("billing", "Billing", "dashboard:billing"),
    Section("models", "Models", "dashboard:models"),
    Section("playground", "Playground", "dashboard:playground"),
    Section("team", "Team", "dashboard:team"),
    Section("settings", "Settings", "dashboard:settings"),
)


def member_page(view: Callable[Concatenate[HttpRequest, Visitor, P], HttpResponseBase]) -> Callable[..., Any]:
    """For members alone; on the viewer's clocks."""

    @wraps(view)
    def shown(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if isinstance(request.user, AnonymousUser):
            return to_log_in(request)
        visitor = visitor_of(request)
        if visitor is None:
            return render(request, "no_organization.html")
        with timezone.override(visitor.zone):
            return view(request, visitor, *args, **kwargs)

    return shown


def visitor_of(request: HttpRequest) -> Visitor | None:
    membership = current_membership(request)
    if membership is None:
        return None
    return Visitor(
        membership=membership,
        memberships=memberships_of_request(request),
        wallet=Wallet.objects.get(pk=membership.organization_id),
        zone=zone_of(request),
        now=timezone.now(),
    )


def to_log_in(request: HttpRequest) -> HttpResponse:
    """A part of a page cannot log in: there the whole page is asked for anew."""
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204, headers={"HX-Redirect": reverse(settings.LOGIN_URL)})
    return redirect_to_login(request.get_full_path())


def zone_of(request: HttpRequest) -> ZoneInfo:
    """The browser's, which app.js tells in a cookie; UTC until it has."""
    name = request.COOKIES.get(ZONE_COOKIE, "")
    return ZoneInfo(name) if len(name) <= ZONE_NAME_MAX and name in zone_names() else utc()


@cache
def utc() -> ZoneInfo:
    return ZoneInfo("UTC")


def require_key_manager(visitor: Visitor) -> None:
    if not visitor.may_manage_keys:
        raise PermissionDenied


def require_payer(visitor: Visitor) -> None:
    if not visitor.may_pay:
        raise PermissionDenied


def require_team_manager(visitor: Visitor) -> None:
    if not visitor.may_manage_team:
        raise PermissionDenied


def user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # a member page has nobody else
    return request.user


def sentence(message: str) -> str:
    """A service's `must not be empty` as people write it."""
    return f"{message[:1].upper()}{message[1:]}{'' if message.endswith('.') else '.'}"


def show(
    request: HttpRequest, visitor: Visitor, template: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """A page in its frame. Nobody between us and the browser keeps it."""
    shown = frame_of(visitor, section_of(request.path)) | context
    response = render(request, f"dashboard/{template}", shown, status=status)
    response["Cache-Control"] = "private, no-cache"
    return response


def frame_of(visitor: Visitor, section: str) -> dict[str, Any]:
    """What templates/app.html asks for."""
    return {
        "visitor": visitor,
        "membership": visitor.membership,
        "organization": visitor.organization,
        "wallet": visitor.wallet,
        "zone": visitor.zone.key,
        "now": visitor.now,
        "sections": SECTIONS,
        "section": section,
        "public_url": settings.PUBLIC_URL,
    }


def account_pages(request: HttpRequest) -> dict[str, Any]:
    """A context processor: allauth's pages stand in a member's frame, or in the plain one of strangers."""
    if not request.path.startswith("/accounts/"):
        return {}
    plain = {
        "frame": "base.html",
        "now": timezone.now(),
        "zone": zone_of(request).key,
        "sign_up_open": settings.SIGNUP_OPEN,
    }
    if isinstance(request.user, AnonymousUser):
        return plain
    visitor = visitor_of(request)
    return {"frame": "app.html"} | frame_of(visitor, "settings") if visitor else plain


def section_of(path: str) -> str:
    """The first word of the address is a section's name; the front page is the overview."""
    word = path.split("/")[1]
    return word if any(word == section.name for section in SECTIONS) else "overview"
