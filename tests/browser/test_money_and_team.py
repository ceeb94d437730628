"""A voucher becomes credits; somebody is invited by mail and joins."""

from playwright.sync_api import expect

from accounts.models import Membership
from billing.credits import vouchers
from billing.models import Wallet
from tests.browser.people import Mailbox, People
from tests.kit.people import PASSWORD
from tests.kit.tenants import Tenant


def test_a_voucher_tops_up_the_balance_once(people: People, alice: Tenant):
    _, [code] = vouchers.create_batch("launch", 1, 25_000_000, created_by="test")
    page = people.member(alice.user)
    page.goto("/billing")
    voucher = page.locator("section", has=page.get_by_role("heading", name="Redeem a voucher"))
    voucher.get_by_role("textbox").fill(code.lower())
    voucher.get_by_role("button", name="Redeem").click()
    expect(page.get_by_role("link", name="Balance")).to_contain_text("26 credits")
    expect(page.get_by_role("table").last).to_contain_text("+25")

    people.expect("422")
    voucher.get_by_role("textbox").fill(code)
    voucher.get_by_role("button", name="Redeem").click()
    expect(voucher.get_by_role("alert")).to_be_visible()
    expect(voucher.get_by_role("textbox")).to_be_focused()
    assert Wallet.objects.get(pk=alice.organization_id).posted == 26_000_000


def test_an_invited_stranger_signs_up_and_is_a_member(people: People, mailbox: Mailbox, alice: Tenant):
    owner = people.member(alice.user)
    owner.goto("/team")
    owner.get_by_label("E-mail").fill("fay@invited.example")
    owner.get_by_label("Role", exact=True).select_option("developer")
    owner.get_by_role("button", name="Send the invitation").click()
    waiting = owner.locator("section", has=owner.get_by_role("heading", name="Invited"))
    expect(waiting).to_contain_text("fay@invited.example")

    fay = people.stranger()
    fay.goto(mailbox.link("fay@invited.example"))
    fay.get_by_role("link", name="Sign up").click()
    expect(fay.get_by_label("E-mail")).to_have_value("fay@invited.example")
    fay.get_by_label("Password").fill(PASSWORD)
    fay.get_by_role("button", name="Sign up").click()
    expect(fay.get_by_role("heading", name="Confirm your address")).to_be_visible()
    fay.get_by_label("Code").fill(mailbox.code("fay@invited.example"))
    fay.get_by_role("button", name="Confirm").click()
    expect(fay.get_by_role("heading", name="Overview")).to_be_visible()
    assert [
        (each.organization_id, each.role) for each in Membership.objects.filter(user__email="fay@invited.example")
    ] == [(alice.organization_id, "developer")]

    owner.reload()
    row = owner.get_by_role("row").filter(has_text="fay@invited.example")
    expect(row).to_contain_text("developer")
    row.get_by_role("link", name="Remove").click()
    owner.get_by_role("button", name="Remove from the team").click()
    expect(owner.get_by_role("row").filter(has_text="fay@invited.example")).to_have_count(0)
    fay.reload()
    expect(fay.get_by_role("heading", name="You belong to no organization yet")).to_be_visible()
