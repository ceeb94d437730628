"""API keys: the list, a new one, its limits, rotation and the end of it.

Rules about what a key may be told are those of accounts/services.py, which `/v1/keys` obeys too. A key's text is in
one answer, never in the session, a URL or a log.
"""

import secrets
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import services
from accounts.models import ApiKey
from billing.ledger import balances
from common import checks
from common.numbers import MICRO, typed_credits
from completions.catalog.loader import load_catalog
from quantized.dashboard.frame import Visitor, member_page, require_key_manager, sentence, show, user_of

PAGE_KEYS = 50
SEARCH_MAX = 100
ONCE = "key_form"  # in the session: the one form that may still make a key
PERIODS = [("", "No limit"), ("day", "a day"), ("week", "a week"), ("month", "a month"), ("total", "in total")]
OVERLAPS = [("0", "At once"), ("3600", "In an hour"), ("86400", "In a day"), ("604800", "In seven days")]
FIRST_NAME = "First key"


class Line(msgspec.Struct, frozen=True):
    """A key and what is used of its limit."""

    key: ApiKey
    windows: balances.Windows
    used: int | None
    percent: int | None


class KeyForm(forms.Form):
    """What people type; the rules behind it are accounts/services.py's."""

    name = forms.CharField(required=False, max_length=100, help_text="Where it is used, such as “nightly import”.")
    limit = forms.DecimalField(
        required=False,
        min_value=Decimal("0.000001"),
        max_digits=19,
        decimal_places=6,
        help_text="Credits. Calls are refused when they are used.",
    )
    limit_period = forms.ChoiceField(required=False, choices=PERIODS, label="Period")
    models = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        max_length=20_000,
        help_text="One id a line. Empty: every model.",
    )
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        label="Last day",
        help_text="It works until this day ends. Empty: until it is revoked.",
    )
    requests_per_minute = forms.IntegerField(required=False, min_value=1, label="Requests a minute")
    tokens_per_minute = forms.IntegerField(required=False, min_value=1, label="Tokens a minute")
    concurrency = forms.IntegerField(required=False, min_value=1, label="Calls at a time")

    def __init__(self, visitor: Visitor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.visitor = visitor

    def arguments(self) -> dict[str, Any]:
        """By the names of accounts/services.py."""
        given = self.cleaned_data
        last_day, zone = given["expires_on"], self.visitor.zone
        return {
            "name": given["name"],
            "limit_micro": int(given["limit"] * MICRO) if given["limit"] is not None else None,
            "limit_period": given["limit_period"] or None,
            "models": given["models"].split() or None,
            "expires_at": datetime.combine(last_day + timedelta(days=1), time(), zone) if last_day else None,
            **{name: given[name] for name in services.RATE_LIMITS},
        }

    def refuse(self, invalid: checks.Invalid) -> None:
        """Beside the field it is about."""
        field = {"limit_micro": "limit", "expires_at": "expires_on"}.get(invalid.field, invalid.field)
        says = sentence(invalid.message)
        if isinstance(invalid, services.Missing):
            says = {"limit": "Say how many credits.", "limit_period": "Choose the period of the limit."}[field]
        self.add_error(field if field in self.fields else None, says)


# --- The list ---------------------------------------------------------------------------------------


@require_GET
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    search = request.GET.get("q", "").strip()[:SEARCH_MAX]
    with_ended = request.GET.get("ended") == "1"
    keys = found_by(search, visitor.organization.keys.select_related("meter", "created_by"))
    if not with_ended:
        keys = keys.filter(revoked_at=None)
    newest_first = keys.order_by(F("revoked_at").desc(nulls_first=True), "-created_at", "pk")
    shown = Paginator(newest_first, PAGE_KEYS).get_page(request.GET.get("page"))
    context = {
        "keys": shown,
        "lines": [line_of(key) for key in shown],
        "search": search,
        "with_ended": with_ended,
        "query": request.GET.copy(),
    }
    return show(request, visitor, "keys.html", context)


def found_by(search: str, keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    """By what people see of a key: its name, its beginning, its last four characters, or both with the … between."""
    if not search:
        return keys
    start, _, end = search.partition("…")
    if end:
        return keys.filter(prefix=start, last_four=end)
    return keys.filter(Q(name__icontains=search) | Q(prefix__startswith=search) | Q(last_four=search))


def line_of(key: ApiKey) -> Line:
    windows = balances.windows(key)
    if key.limit_micro is None or windows.limit_remaining is None:
        return Line(key, windows, None, None)
    used = key.limit_micro - windows.limit_remaining
    return Line(key, windows, used, max(0, min(100, round(100 * used / key.limit_micro))))


# --- A new one --------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@member_page
def new(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    require_key_manager(visitor)
    form = KeyForm(visitor, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not may_submit(request):
            return made_already(request)
        try:
            key, api_key = services.issue_key(visitor.organization, **form.arguments(), created_by=user_of(request))
        except checks.Invalid as invalid:
            form.refuse(invalid)
        else:
            return reveal(request, visitor, key, api_key, "made")
    return show_form(request, visitor, form, {"heading": "New key", "action": "Make the key"})


@require_POST
@member_page
def first(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """The first of a new tenant's three steps: one click."""
    require_key_manager(visitor)
    if not may_submit(request):
        return made_already(request)
    key, api_key = services.issue_key(visitor.organization, FIRST_NAME, created_by=user_of(request))
    return reveal(request, visitor, key, api_key, "first")


def reveal(request: HttpRequest, visitor: Visitor, key: ApiKey, api_key: str, how: str) -> HttpResponseBase:
    """In the answer itself: it would have to be kept to be shown after a redirect."""
    response = show(request, visitor, "key_reveal.html", {"key": key, "api_key": api_key, "how": how})
    response["Cache-Control"] = "no-store"
    return response


def may_submit(request: HttpRequest) -> bool:
    """Once for every form: a page that is reloaded makes no second key."""
    given, kept = request.POST.get("once", ""), request.session.pop(ONCE, "")
    return bool(kept) and secrets.compare_digest(given.encode(), kept.encode())


def once(request: HttpRequest) -> str:
    request.session[ONCE] = token = secrets.token_urlsafe(16)
    return token


def made_already(request: HttpRequest) -> HttpResponseBase:
    messages.warning(request, "This form was sent before. A key that it made is in the list; it is not shown again.")
    return redirect("dashboard:keys")


def show_form(request: HttpRequest, visitor: Visitor, form: KeyForm, more: dict[str, Any]) -> HttpResponseBase:
    context = {"form": form, "once": once(request), "model_ids": sorted(load_catalog().models), **more}
    return show(request, visitor, "key_form.html", context, status=422 if form.errors else 200)


# --- One of them ------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@member_page
def edit(request: HttpRequest, visitor: Visitor, key_id: UUID) -> HttpResponseBase:
    require_key_manager(visitor)
    key = own_key(visitor, key_id)
    form = KeyForm(visitor, request.POST or None, initial=as_typed(key, visitor))
    if request.method == "POST" and form.is_valid():
        try:
            services.change_key(key.pk, changes(form, key))
        except checks.Invalid as invalid:
            form.refuse(invalid)
        else:
            messages.success(request, "Saved. It holds for the next call.")
            return redirect("dashboard:keys")
    return show_form(request, visitor, form, {"heading": "Change key", "action": "Save", "key": key})


def changes(form: KeyForm, key: ApiKey) -> dict[str, Any]:
    """What is left as it was is not said again: an end that is over could not be."""
    arguments = form.arguments()
    if "expires_on" not in form.changed_data:
        del arguments["expires_at"]
    return arguments


def as_typed(key: ApiKey, visitor: Visitor) -> dict[str, Any]:
    last_moment = key.expires_at and (key.expires_at - timedelta(microseconds=1)).astimezone(visitor.zone)
    return {
        "name": key.name,
        "limit": None if key.limit_micro is None else typed_credits(key.limit_micro),
        "limit_period": key.limit_period or "",
        "models": "\n".join(key.models or ()),
        "expires_on": last_moment and last_moment.date(),
        **{name: getattr(key, name) for name in services.RATE_LIMITS},
    }


@require_http_methods(["GET", "POST"])
@member_page
def rotate(request: HttpRequest, visitor: Visitor, key_id: UUID) -> HttpResponseBase:
    require_key_manager(visitor)
    key = own_key(visitor, key_id)
    if request.method == "POST":
        if not may_submit(request):
            return made_already(request)
        overlap = request.POST.get("overlap", "")
        if overlap not in dict(OVERLAPS):
            raise Http404
        try:
            new_key, api_key = services.rotate_key(key.pk, timedelta(seconds=int(overlap)), user_of(request))
        except checks.Invalid as invalid:
            messages.error(request, f"This key {invalid.message}.")
            return redirect("dashboard:keys")
        return reveal(request, visitor, new_key, api_key, "rotated")
    return show(request, visitor, "key_rotate.html", {"key": key, "overlaps": OVERLAPS, "once": once(request)})


@require_http_methods(["GET", "POST"])
@member_page
def revoke(request: HttpRequest, visitor: Visitor, key_id: UUID) -> HttpResponseBase:
    require_key_manager(visitor)
    key = own_key(visitor, key_id)
    if request.method == "POST":
        services.revoke_key(key.pk)
        messages.success(request, f"{key.name or 'The key'} {key.prefix}…{key.last_four} is revoked.")
        return redirect(f"{reverse('dashboard:keys')}?ended=1")
    return show(request, visitor, "key_revoke.html", {"key": key})


def own_key(visitor: Visitor, key_id: UUID) -> ApiKey:
    """Another tenant's key is as unknown as one that never was."""
    key = visitor.organization.keys.filter(pk=key_id).first()
    if key is None:
        raise Http404
    return key
