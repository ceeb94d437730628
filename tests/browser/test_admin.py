"""An operator grants more than one may alone; another one approves it."""

import pytest
from playwright.sync_api import Page, expect

from accounts.models import AuditEntry, Organization, User
from billing.models import Operation, Wallet
from tests.browser.people import People
from tests.kit.people import PASSWORD
from tests.kit.tenants import Tenant

GRANT_MICRO = 20_000_000_000


@pytest.fixture
def operators(site: str, request: pytest.FixtureRequest) -> list[User]:
    name = request.node.name[-12:].strip("_").replace("_", "-")
    return [User.objects.create_superuser(f"{who}-{name}@operators.example", PASSWORD) for who in ("dora", "emil")]


def ask_for_grant(page: Page, tenant: Tenant) -> None:
    page.goto(f"/admin/accounts/organization/{tenant.organization_id}/change/")
    page.get_by_role("link", name="Grant").click()
    page.get_by_label("Credits").fill("20000")
    page.get_by_label("Reason").fill("Their yearly contract")
    page.get_by_role("button", name="Next: see what it does").click()
    expect(page.get_by_role("heading", name="This will happen")).to_be_visible()
    expect(page.get_by_text("This needs a second operator")).to_be_visible()
    expect(page.get_by_text("1 → 20,001 credits")).to_be_visible()
    page.get_by_role("button", name="Grant").click()
    expect(page.get_by_text("Their yearly contract").first).to_be_visible()


def balance(tenant: Tenant) -> int:
    return Wallet.objects.get(pk=tenant.organization_id).posted


def test_a_large_grant_waits_for_a_second_operator(people: People, alice: Tenant, operators: list[User]):
    dora, emil = map(people.member, operators)
    ask_for_grant(dora, alice)
    operation = Operation.objects.get(organization_id=alice.organization_id)
    assert (operation.state, balance(alice)) == ("waiting", 1_000_000)
    dora.goto(f"/admin/billing/operation/{operation.pk}/change/")
    expect(dora.get_by_text("somebody else has to approve it")).to_be_visible()
    expect(dora.get_by_role("button", name="Approve")).to_have_count(0)

    emil.goto("/admin/")
    emil.get_by_role("link", name="Requests").first.click()
    emil.get_by_role("row").filter(has_text="Their yearly contract").get_by_role("link").first.click()
    emil.get_by_role("button", name="Approve").click()
    expect(emil.get_by_role("button", name="Approve")).to_have_count(0)
    operation.refresh_from_db()
    assert (operation.state, operation.decided_by_id) == ("done", operators[1].pk)
    assert balance(alice) == 1_000_000 + GRANT_MICRO
    audited = AuditEntry.objects.filter(organization_id=alice.organization_id)
    assert {entry.actor for entry in audited if "grant" in entry.action} >= {operators[1].email}

    owner = people.member(alice.user)
    owner.goto("/billing")
    expect(owner.get_by_role("link", name="Balance")).to_contain_text("20,001 credits")
    expect(owner.get_by_role("main")).to_contain_text("Their yearly contract")


def test_a_tenant_is_no_operator(people: People, alice: Tenant):
    people.expect("403")
    owner = people.member(alice.user)
    address = f"/admin/accounts/organization/{alice.organization_id}/grant/"
    before = Organization.objects.filter(pk=alice.organization_id).values().get()
    for path in ("/admin/", address):
        assert owner.goto(path).status == 403
        expect(owner.get_by_role("heading", name="You may not do this")).to_be_visible()
    assert Organization.objects.filter(pk=alice.organization_id).values().get() == before
    assert not Operation.objects.filter(organization_id=alice.organization_id).exists()
