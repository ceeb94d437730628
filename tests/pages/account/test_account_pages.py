"""The pages of accounts: a member's stand in the dashboard's frame, a stranger's in a calm card; all in our words."""

import re

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import Membership
from tests.kit.dashboard import text
from tests.kit.people import PASSWORD, log_in
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

SECURITY = {
    "/accounts/password/change/": "Password",
    "/accounts/email/": "E-mail",
    "/accounts/2fa/": "Second factor",
    "/accounts/sessions/": "Sessions",
}
STRANGERS = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
THEIRS = re.compile(
    r"[Ss]ign (out|in|Out|In)\b|Log Out|Two-Factor|Email Address\b|Change Password|Started At|Deactivate"
)


def logged_in_by_password(tenant: Tenant, role: str, email: str) -> Client:
    tenant.member(role, email, password=PASSWORD)
    client = Client()
    log_in(client, email)
    return client


@pytest.fixture
def member() -> Client:
    return logged_in_by_password(Tenant(7_000_000), "developer", "bob@example.org")


@pytest.mark.parametrize("address", SECURITY)
def test_security_stands_in_the_members_frame(address: str, member: Client):
    page = member.get(address)
    assert page.status_code == 200
    html = page.content.decode()
    assert '<nav class="side"' in html
    assert re.search(r'href="/settings" aria-current="page"', html)
    assert f'href="{address}" aria-current="page">{SECURITY[address]}</a>' in html
    assert "Balance 7 credits" in text(page)
    assert not THEIRS.search(text(page))


@pytest.mark.parametrize("address", STRANGERS)
def test_strangers_get_a_card_and_no_frame(address: str, client: Client):
    page = client.get(address)
    html = page.content.decode()
    assert '<nav class="side"' not in html
    assert "card-narrow" in html
    assert not THEIRS.search(text(page))
    assert html.count("Forgot your password?") <= 2  # the heading and its title


def test_who_belongs_nowhere_changes_a_password_all_the_same(member: Client):
    Membership.objects.all().delete()
    page = member.get("/accounts/password/change/")
    assert page.status_code == 200
    assert '<nav class="side"' not in page.content.decode()


def test_sessions_are_on_the_clocks_of_the_viewer(member: Client):
    member.get("/")
    member.cookies["tz"] = "Asia/Tokyo"
    assert re.search(r'title="[-0-9]+ [:0-9]+ JST"', member.get("/accounts/sessions/").content.decode())


def test_settings_lead_to_each_of_them(member: Client):
    page = member.get("/settings")
    for address in SECURITY:
        assert f'href="{address}"' in page.content.decode()
    assert "Second factor off" in text(page)


def test_a_message_is_told_once():
    owner = logged_in_by_password(Tenant(5), "owner", "alice@example.org")
    owner.post("/settings", {"name": "Renamed"})
    assert text(owner.get("/accounts/password/change/")).count("Saved.") == 1


@pytest.mark.parametrize("is_open", [True, False])
def test_the_way_to_sign_up_is_shown_while_it_is_open(is_open: bool, client: Client, settings: Settings):
    settings.SIGNUP_OPEN = is_open
    for address in ("/", "/accounts/login/"):
        assert ('href="/accounts/signup/' in client.get(address).content.decode()) == is_open
