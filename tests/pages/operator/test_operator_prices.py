"""A new price for a route in the admin: figures, the difference, from when on; and the test button of a provider."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from completions.catalog import price_changes
from completions.models import PriceChange, Route
from tests.kit.catalogs import make_provider, make_route
from tests.kit.tenants import make_cast

pytestmark = pytest.mark.django_db
LATER = datetime(2100, 1, 2, 3, 4, tzinfo=UTC)


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


@pytest.fixture
def route() -> Route:
    return make_route()


def url(route: Route) -> str:
    return reverse("admin:route_price", args=[route.pk])


def open_form(client: Client, route: Route) -> dict[str, str]:
    """What the form is filled with when it opens."""
    form = client.get(url(route)).context["form"]
    filled = {name: str(form[name].value()) for name in form.fields if form[name].value() not in (None, "")}
    return filled | {"reason": "dearer upstream"}


def shown(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_the_form_has_the_figures_of_now(dora, route):
    assert open_form(dora, route) == {
        "input": "0.4",
        "output": "1.6",
        "cache_read": "0.1",
        "web_search": "0.01",
        "reason": "dearer upstream",
    }


def test_the_difference_is_shown_before_it_is_saved(dora, route, settings):
    settings.CREDITS_PER_USD, settings.MARGIN = Decimal(100), Decimal("0.2")
    page = dora.post(url(route), open_form(dora, route) | {"output": "2"})
    [line] = page.context["lines"]
    assert (line.name, line.before, line.after, line.percent) == ("output", "$1.6", "$2", "+25.0 %")
    assert (line.sells_before, line.sells_after) == ("200", "250")  # 1.60 USD × 100 / 0.8
    assert not PriceChange.objects.exists()


def test_confirmed_it_is_in_force_at_once(dora, route):
    form = open_form(dora, route) | {"output": "2", "cache_read": "", "confirmed": "1"}
    assert dora.post(url(route), form).status_code == 302
    route.refresh_from_db()
    assert (route.price.version, route.price.usd["output"], route.price.usd.get("cache_read")) == (2, Decimal(2), None)
    change = PriceChange.objects.get()
    assert (change.requested_by.email, change.reason) == ("dora@example.com", "dearer upstream")


def test_a_later_price_waits_and_can_be_taken_back(dora, route):
    form = open_form(dora, route) | {"output": "2", "effective_from_0": "2100-01-02", "effective_from_1": "03:04"}
    assert "2100-01-02 03:04 UTC" in shown(dora.post(url(route), form))
    dora.post(url(route), form | {"confirmed": "1"})
    change = PriceChange.objects.get()
    assert (change.effective_from, change.applied_at) == (LATER, None)
    assert "waits" in shown(dora.get(reverse("admin:completions_route_change", args=[route.pk])))
    for words in ("Taken back", "Too late"):
        answer = dora.post(reverse("admin:pricechange_cancel", args=[change.pk]), follow=True)
        assert words in shown(answer)
    route.refresh_from_db()
    assert route.price.version == 1
    assert price_changes.apply_due() == 0


def test_nothing_to_change_is_said(dora, route):
    page = dora.post(url(route), open_form(dora, route) | {"confirmed": "1"})
    assert "Nothing changes" in shown(page)
    assert not PriceChange.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("output", "-1"), ("output", ""), ("output", "0.0000001"), ("reason", "")]
)
def test_what_is_wrong_stands_beside_its_field(dora, route, field, value):
    page = dora.post(url(route), open_form(dora, route) | {"input": "9", field: value, "confirmed": "1"})
    assert list(page.context["form"].errors) == [field]
    assert not PriceChange.objects.exists()


def test_a_class_that_the_route_sells_needs_its_price(dora, route):
    page = dora.post(url(route), open_form(dora, route) | {"web_search": "", "confirmed": "1"})
    assert list(page.context["form"].errors) == ["web_search"]
    assert not PriceChange.objects.exists()


def test_the_test_button_asks_the_provider_and_is_audited(dora):
    provider = make_provider("local", kind="openai", base_url="http://127.0.0.1:9", allow_plain_http=True)
    test = reverse("admin:provider_test", args=[provider.pk])
    assert dora.get(test).status_code == 403
    assert "No answer: ConnectionError." in shown(dora.post(test, follow=True))
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.details["is_well"]) == ("dora@example.com", "provider.test", False)


def test_staff_without_the_permission_get_403(route):
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    looking = ["view_route", "view_provider", "view_pricechange"]
    user.user_permissions.set(Permission.objects.filter(codename__in=looking))
    faye = logged_in(user)
    page = faye.get(reverse("admin:completions_route_change", args=[route.pk]))
    assert page.status_code == 200
    assert "New price" not in page.content.decode()
    assert faye.get(url(route)).status_code == 403
    assert faye.post(url(route), {"input": "9", "output": "9", "reason": "x", "confirmed": "1"}).status_code == 403
    assert faye.post(reverse("admin:provider_test", args=[route.provider_id])).status_code == 403
    assert not PriceChange.objects.exists()


def test_charlie_changes_no_price(route):
    charlie = logged_in(make_cast().charlie.user)
    form = {"input": "9", "output": "9", "reason": "x", "confirmed": "1"}
    assert charlie.post(url(route), form).status_code in (302, 403)
    assert charlie.post(reverse("admin:provider_test", args=[route.provider_id])).status_code in (302, 403)
    assert not PriceChange.objects.exists()
    assert not AuditEntry.objects.exists()
