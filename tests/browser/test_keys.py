"""The life of a key: made, copied, limited, rotated, revoked; and all of it by the keyboard alone."""

import re

import httpx
from playwright.sync_api import Page, expect

from accounts.models import ApiKey
from tests.browser.people import People
from tests.kit import MODEL
from tests.kit.tenants import Tenant

REVEALED = "[id=new-key]"


def answer_to(site: str, api_key: str) -> int:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    headers = {"Authorization": f"Bearer {api_key}"}
    return httpx.post(f"{site}/v1/chat/completions", json=body, headers=headers, timeout=30).status_code


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def row(page: Page, name: str, state: str):
    return page.get_by_role("row").filter(has_text=name).filter(has_text=state)


def test_a_key_is_made_copied_limited_rotated_and_revoked(people: People, site: str, alice: Tenant):
    page = people.member(alice.user)
    page.goto("/keys")
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("Limit, credits").fill("0.5")
    page.get_by_label("Period").select_option("month")
    page.get_by_role("button", name="Make").click()
    expect(page.get_by_text("Copy it now.")).to_be_visible()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    first = clipboard(page)
    assert first == page.locator(REVEALED).inner_text()
    assert answer_to(site, first) == 200

    page.get_by_role("button", name="I stored it").click()
    expect(row(page, "nightly", "active")).to_contain_text("of 0.5")
    assert first not in page.content()
    page.get_by_role("link", name="nightly").click()
    page.get_by_label("Limit, credits").fill("0.75")
    page.get_by_role("button", name="Save").click()
    expect(row(page, "nightly", "active")).to_contain_text("of 0.75")

    row(page, "nightly", "active").get_by_role("link", name="Rotate").click()
    page.get_by_role("radio", name="At once").check()
    page.get_by_role("button", name="Rotate").click()
    expect(page.get_by_role("heading", name="The new key")).to_be_visible()
    second = page.locator(REVEALED).inner_text()
    assert (answer_to(site, first), answer_to(site, second)) == (401, 200)

    page.get_by_role("button", name="I stored it").click()
    row(page, "nightly", second[-4:]).get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(row(page, "nightly", second[-4:])).to_contain_text("revoked")
    expect(row(page, "nightly", first[-4:])).to_contain_text("expired")
    assert (answer_to(site, first), answer_to(site, second)) == (401, 401)
    page.get_by_label("Revoked too").uncheck()
    expect(row(page, "nightly", second[-4:])).to_have_count(0)
    made = ApiKey.objects.filter(organization_id=alice.organization_id, name="nightly").order_by("created_at")
    assert [(key.limit_micro, key.revoked_at is not None) for key in made] == [(750_000, False), (750_000, True)]


def tab_to(page: Page, selector: str, most: int = 60) -> None:
    """By Tab alone, as often as a person may press it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by {most} Tabs")


def test_the_keyboard_alone_reaches_what_matters(people: People, site: str, alice: Tenant):
    page = people.member(alice.user)
    page.goto("/keys")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New key")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="New key")).to_be_visible()
    tab_to(page, "input[name=name]")
    page.keyboard.type("by hand")
    tab_to(page, "form[method=post] button.button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Copy it now.")).to_be_visible()
    tab_to(page, "[data-copy=new-key]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert clipboard(page) == page.locator(REVEALED).inner_text()
    tab_to(page, "form[method=get] button")
    page.keyboard.press("Enter")
    expect(row(page, "by hand", "active")).to_be_visible()

    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("by hand")
    expect(page).to_have_url(re.compile(r"q=by(\+|%20)hand"))
    expect(page.get_by_role("row")).to_have_count(2)
    page.goto("/")
    tab_to(page, "summary[aria-label='Your account']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()
    expect(page.get_by_label("Your account")).to_be_focused()


def test_what_is_wrong_is_told_beside_its_field_which_has_the_focus(people: People, alice: Tenant):
    people.expect("422")  # Chromium counts every refused form as an error
    page = people.member(alice.user)
    page.goto("/keys/new")
    page.get_by_label("Name").fill("kept")
    page.get_by_label("Limit, credits").fill("0.5")
    page.get_by_role("button", name="Make").click()
    expect(page.get_by_role("alert")).to_have_text("Choose the period of the limit.")
    expect(page.get_by_label("Period")).to_be_focused()
    expect(page.get_by_label("Limit, credits")).to_have_value("0.5")
    expect(page.get_by_label("Name")).to_have_value("kept")
    assert not ApiKey.objects.filter(name="kept").exists()
