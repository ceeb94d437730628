"""Charlie types the addresses of alice's things into a browser of their own."""

import httpx
import pytest
from playwright.sync_api import expect

from accounts.models import ApiKey, Organization
from billing.models import Entry
from tests.browser.people import People
from tests.kit import MODEL
from tests.kit.tenants import Tenant, make_tenant, wait_closed


@pytest.fixture
def answered(site: str, alice: Tenant) -> str:
    """The id of a call that alice's key made."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "A secret of ours"}], "max_tokens": 8}
    generation = httpx.post(f"{site}/v1/chat/completions", json=body, headers=alice.headers, timeout=30).json()["id"]
    wait_closed(alice)
    return str(generation)


def state(tenant: Tenant):
    organization = Organization.objects.filter(pk=tenant.organization_id).values().get()
    keys = list(ApiKey.objects.filter(organization_id=tenant.organization_id).order_by("pk").values())
    for key in keys:
        del key["last_used_at"]  # written some time after the call, by the server
    return organization, keys, Entry.objects.filter(wallet_id=tenant.organization_id).count()


def test_charlie_finds_nothing_behind_our_addresses(people: People, alice: Tenant, answered: str):
    people.expect("404")  # that is what this is about
    owner = people.member(alice.user)
    charlie = people.member(make_tenant().user)
    addresses = [f"/keys/{alice.key_id}{act}" for act in ("", "/rotate", "/revoke")] + [f"/activity/{answered}"]
    before = state(alice)
    for address in addresses:
        assert owner.goto(address).status == 200
        assert charlie.goto(address).status == 404
        expect(charlie.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    charlie.goto("/activity")
    charlie.get_by_role("searchbox").fill(answered)
    charlie.get_by_role("searchbox").press("Enter")
    expect(charlie.get_by_role("status")).to_contain_text("No call of this organization has the id")
    assert state(alice) == before


def test_charlie_cannot_send_our_forms_with_their_own_session(people: People, alice: Tenant, answered: str):
    people.expect("404")
    charlie = people.member(make_tenant().user)
    before = state(alice)
    for target in (f"/keys/{alice.key_id}/revoke", f"/organizations/{alice.organization_id}/switch"):
        charlie.goto("/keys/new")
        with charlie.expect_navigation() as sent:
            charlie.evaluate(
                """target => {
                    const form = document.querySelector("main form[method=post]");
                    form.action = target;
                    form.submit();
                }""",
                target,
            )
        assert sent.value.status == 404
    assert state(alice) == before


def test_strangers_are_led_to_the_log_in_and_nowhere_else(people: People, alice: Tenant, answered: str):
    stranger = people.stranger()
    for address in (f"/activity/{answered}", "/billing", "/admin/"):
        stranger.goto(address)
        expect(stranger.get_by_role("heading", name="Log in")).to_be_visible()
