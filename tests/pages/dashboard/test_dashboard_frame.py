"""What every page of the dashboard has in common: who may see it, whose it is, the frame, the clocks, the queries."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiKey, Membership, Organization
from accounts.services import add_member, create_user, suspend
from billing.models import Entry, Wallet
from common.ids import generation_id
from quantized.devstack.places import CHECKOUT
from tests.kit.catalogs import make_route
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import call, downloaded, logged_in, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

PAGES = (
    "/",
    "/keys",
    "/keys/new",
    "/activity",
    "/activity.csv",
    "/spend.csv",
    "/first-call",
    "/billing",
    "/billing.csv",
    "/billing/quote",
    "/billing/payments",
    "/billing/statements",
    "/billing/alerts",
    "/billing/webhooks",
    "/models",
    "/playground",
    "/team",
    "/team/leave",
    "/settings",
)


@pytest.fixture
def credits_micro() -> int:
    return 1_000_000_000


@pytest.mark.parametrize("address", [page for page in PAGES if page != "/"])
def test_strangers_are_asked_to_log_in_and_come_back(address: str, client: Client):
    page = client.get(address)
    assert (page.status_code, page.headers["location"]) == (302, f"/accounts/login/?next={address}")


def test_a_part_of_a_page_sends_the_whole_page_to_the_log_in(client: Client):
    page = client.get("/first-call", headers={"HX-Request": "true"})
    assert (page.status_code, page.headers["hx-redirect"]) == (204, "/accounts/login/")


@pytest.mark.parametrize("role", Membership.Role.values)
def test_every_role_sees_every_page(role: str, alice: Tenant):
    member = alice.member(role).client
    seen = {address: member.get(address).status_code for address in PAGES}
    making = seen.pop("/keys/new")
    assert set(seen.values()) == {200}
    assert making == (200 if role in ("owner", "admin") else 403)


def test_charlie_finds_nothing_of_ours_and_changes_nothing(alice: Tenant, charlie: Tenant):
    key_id = alice.key(name="ours-nightly", prefix="sk-quantized-abc", last_four="wxyz")
    hold_id = call(alice, key=key_id, model="ours/secret-model")
    generation = generation_id(hold_id)
    before = (list(ApiKey.objects.values()), Entry.objects.count(), list(Organization.objects.values()))
    for address in (f"/keys/{key_id}", f"/keys/{key_id}/rotate", f"/keys/{key_id}/revoke"):
        assert charlie.client.get(address).status_code == 404
        assert charlie.client.post(address, {"overlap": "0", "name": "mine", "once": "x"}).status_code == 404
    assert charlie.client.get(f"/activity/{generation}").status_code == 404
    assert charlie.client.post(f"/organizations/{alice.organization_id}/switch").status_code == 404
    assert "No call of this organization has the id" in text(charlie.client.get("/activity", {"q": generation}))
    for address in (*PAGES, f"/activity?key={key_id}", "/activity?model=ours/secret-model"):
        response = charlie.client.get(address)
        page = response.content if not response.streaming else b""
        assert response.status_code == 200
        for secret in (b"ours-nightly", b"wxyz", generation.encode()):
            assert secret not in page
    assert (list(ApiKey.objects.values()), Entry.objects.count(), list(Organization.objects.values())) == before


def test_the_same_404_for_what_never_was(alice: Tenant):
    owner = alice.client
    for address in (f"/keys/{uuid4()}", f"/activity/gen-{uuid4().hex}", "/activity/nonsense", "/models/no/such"):
        assert owner.get(address).status_code == 404
    assert owner.post(f"/organizations/{uuid4()}/switch").status_code == 404


def test_the_top_bar_has_the_ledgers_balance(alice: Tenant):
    call(alice, 1_234_567)
    page = alice.client.get("/team")
    assert "Balance 998.7654 credits" in text(page)
    assert 'title="998,765,433 micro-credits"' in page.content.decode()
    Wallet.objects.filter(pk=alice.organization_id).update(unlimited=True)
    assert "Balance Unlimited" in text(alice.client.get("/team"))


def test_a_member_of_two_organizations_switches(alice: Tenant):
    other = Tenant(7_000_000)
    Organization.objects.filter(pk=other.organization_id).update(name="Second & Co")
    dora = create_user("dora@example.org")
    for organization_id, role in ((alice.organization_id, "owner"), (other.organization_id, "viewer")):
        add_member(Organization.objects.get(pk=organization_id), dora, role)
    client = logged_in(dora)
    assert "Balance 1,000 credits" in text(client.get("/"))
    assert client.post(f"/organizations/{other.organization_id}/switch").headers["location"] == "/"
    assert "Balance 7 credits" in text(client.get("/"))
    assert client.get(f"/organizations/{other.organization_id}/switch").status_code == 405
    Membership.objects.filter(organization_id=other.organization_id).delete()
    assert "Balance 1,000 credits" in text(client.get("/"))


def test_a_suspended_organization_is_told_on_every_page(alice: Tenant):
    suspend(alice.organization_id)
    assert "This organization is suspended" in text(alice.client.get("/activity"))


def test_times_are_on_the_clocks_of_the_cookie(alice: Tenant):
    DatabaseClock(datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    call(alice)
    owner = alice.client
    assert 'title="2026-01-31 23:30:00 UTC"' in owner.get("/billing").content.decode()
    owner.cookies["tz"] = "Europe/Berlin"
    page = owner.get("/billing")
    assert 'title="2026-02-01 00:30:00 CET"' in page.content.decode()
    assert "Times in Europe/Berlin" in text(page)
    for nonsense in ("Mars/Olympus", "../../etc/passwd", "x" * 500):
        owner.cookies["tz"] = nonsense
        assert "Times in UTC" in text(owner.get("/billing"))


@pytest.mark.parametrize("address", [page for page in PAGES if not page.endswith((".csv", "call", "quote"))])
def test_no_page_needs_inline_style_or_script(address: str, alice: Tenant):
    make_route()
    call(alice)
    response = alice.client.get(address)
    html = response.content.decode()
    assert "style=" not in html
    assert "<style" not in html
    assert not re.search(r"<script(?![^>]* src=)", html)
    assert not re.search(r"\son\w+=", html)
    assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert response.headers["cache-control"] == "private, no-cache"


def test_every_page_costs_the_same_queries_at_one_row_and_at_fifty(alice: Tenant):
    owner = alice.client
    pages = [page for page in PAGES if not page.endswith(".csv")]
    key_id = alice.key(name="first", limit_micro=10_000_000, limit_period="day")
    pages.append(f"/activity/{generation_id(call(alice, key=key_id))}")
    for address in pages:
        owner.get(address)  # what a session writes once

    def queries() -> dict[str, int]:
        return {address: count(address) for address in pages}

    def count(address: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert owner.get(address).status_code == 200
        return len(captured)

    before = queries()
    for number in range(50):
        key_id = alice.key(name=f"key {number}", limit_micro=10_000_000, limit_period="month")
        call(alice, key=key_id, model=f"a/model-{number}")
        make_route(f"a/model-{number}")
        alice.member("viewer")
    assert queries() == before
    assert max(before.values()) <= 12


def test_every_table_cell_says_on_a_phone_what_it_is(alice: Tenant):
    call(alice, key=alice.key())
    owner = alice.client
    for address in ("/keys", "/activity", "/billing", "/team"):
        html = owner.get(address).content.decode()
        body = html[html.index("<tbody>") : html.index("</tbody>")]
        assert re.findall(r"<td(?![^>]*data-label)(?![^>]*actions)[^>]*>", body) == []


def test_days_are_cut_on_the_clocks_of_the_viewer(alice: Tenant):
    now = datetime.now(UTC)
    DatabaseClock(now - timedelta(days=3))
    call(alice, 5_000)
    owner = alice.client
    days = {}
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart
        owner.cookies["tz"] = zone
        download = downloaded(owner.get("/spend.csv"))
        days[zone] = download[1][0]
    assert days["Pacific/Kiritimati"] > days["Pacific/Pago_Pago"]


def test_vendored_files_have_their_version_and_licence_beside_them():
    vendor = CHECKOUT / "quantized" / "static" / "quantized" / "vendor"
    readme = (vendor / "README.md").read_text()
    scripts = sorted(vendor.glob("*.js"))
    assert [script.name for script in scripts] == ["htmx-2.0.11.min.js"]
    for script in scripts:
        assert f"`{script.name}`" in readme
        assert (vendor / f"{script.name.removesuffix('.min.js')}.LICENSE.txt").exists()
        assert script.name in (CHECKOUT / "templates" / "app.html").read_text()


def test_no_page_says_a_colour_or_a_size_of_its_own():
    """Tokens, not taste: a colour is written in tokens.css alone."""
    app = (CHECKOUT / "quantized" / "static" / "quantized" / "app.css").read_text()
    assert re.findall(r"#[0-9a-f]{3,8}\b(?=[;, )])|rgba?\(", app) == []


def test_every_token_that_is_used_is_there():
    styles = CHECKOUT / "quantized" / "static" / "quantized"
    tokens, app = (styles / "tokens.css").read_text(), (styles / "app.css").read_text()
    used = set(re.findall(r"var\((--[\w-]+)\)", tokens + app))
    assert used - set(re.findall(r"^\s*(--[\w-]+):", tokens, re.MULTILINE)) == set()
