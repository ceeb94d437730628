"""Who may come into the admin, beyond being staff: with a second factor, and not for long without doing anything.

A mixin for an AdminSite, whatever its looks. Log-in is the one of all people, so it is throttled like every other.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.auth import logout
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

SEEN_KEY = "admin_seen_at"  # in the session, seconds of the epoch
SEEN_RESOLUTION_S = 30.0


View = TypeVar("View", bound=Callable[..., HttpResponseBase])


class GatedAdminSite(AdminSite):
    def admin_view(self, view: View, cacheable: bool = False) -> View:
        inner = super().admin_view(view, cacheable)

        def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return turned_away(request) or inner(request, *args, **kwargs)

        return cast(View, gated)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The admin has no log-in of its own."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        return log_in_first(str(request.GET.get("next", reverse("admin:index"))))


def turned_away(request: HttpRequest) -> HttpResponse | None:
    """None for who may pass, and for who is no staff: Django's own check says so."""
    if not request.user.is_authenticated:
        return log_in_first(request.get_full_path())
    if not request.user.is_staff:
        return None
    if has_idled(request):
        logout(request)
        messages.info(request, "You have been logged out of the admin after a while without use.")
        return log_in_first(request.get_full_path())
    return second_factor_first(request) if settings.ADMIN_REQUIRES_2FA else None


def log_in_first(next_path: str) -> HttpResponse:
    return led_to(reverse("account_login"), next_path)


def second_factor_first(request: HttpRequest) -> HttpResponse | None:
    """Set up, and shown in this session: one that began before the factor was set up shows it once."""
    ways = [way for way in get_adapter().get_reauthentication_methods(request.user) if way["id"].startswith("mfa")]
    if not ways:
        messages.warning(request, "The admin asks for a second factor: set one up first.")
        return redirect("mfa_index")
    records = get_authentication_records(request, request.user)
    return None if any(record["method"] == "mfa" for record in records) else led_to(ways[0]["url"], request.path)


def led_to(path: str, next_path: str) -> HttpResponse:
    return HttpResponseRedirect(f"{path}?{urlencode({'next': next_path})}")


def has_idled(request: HttpRequest) -> bool:
    """Time in the admin counts, from the log-in on; the rest of the site has its own, longer, sessions."""
    now_s = time.time()
    records = get_authentication_records(request, request.user)
    seen_s = max([request.session.get(SEEN_KEY, 0.0), *(record["at"] for record in records)]) or now_s
    if now_s - seen_s > settings.ADMIN_IDLE_S:
        return True
    if now_s - request.session.get(SEEN_KEY, 0.0) > min(SEEN_RESOLUTION_S, settings.ADMIN_IDLE_S / 2):
        request.session[SEEN_KEY] = now_s  # not with every click: each is a write
    return False
