"""From the front page to the first answer, as a stranger goes; and how a stranger comes back."""

import json
import re
import shlex

import httpx
from playwright.sync_api import Page, expect

from accounts.models import Membership
from billing.models import Usage
from billing.oversight import verifier
from tests.browser.people import Mailbox, People
from tests.kit.people import PASSWORD


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def run_curl(command: str) -> httpx.Response:
    """As a shell takes it apart."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    headers = dict(words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    json.loads(body)
    return httpx.post(words[3], headers=headers, content=body, timeout=30)


def test_a_stranger_signs_up_and_sees_the_first_call_arrive(people: People, mailbox: Mailbox):
    dora = people.stranger()
    dora.goto("/")
    dora.get_by_role("navigation").get_by_role("link", name="Log in").click()
    dora.get_by_role("link", name="Sign up").click()
    dora.get_by_label("E-mail").fill("dora@new.example")
    dora.get_by_label("Password").fill(PASSWORD)
    dora.get_by_label("Organization").fill("Dora & Daughters")
    dora.get_by_role("button", name="Sign up").click()
    expect(dora.get_by_role("heading", name="Confirm your address")).to_be_visible()
    dora.get_by_label("Code").fill(mailbox.code("dora@new.example"))
    dora.get_by_role("button", name="Confirm").click()

    expect(dora.get_by_role("heading", name="Three steps to your first answer")).to_be_visible()
    expect(dora.get_by_role("link", name="Balance")).to_contain_text("5 credits")
    dora.get_by_role("button", name="Make a key").click()
    expect(dora.get_by_text("Copy it now.")).to_be_visible()
    api_key = dora.locator("#new-key").inner_text()
    dora.locator("li", has=dora.get_by_role("heading", name="Copy this curl")).get_by_role("button").click()
    expect(dora.get_by_role("button", name="Copied")).to_be_visible()
    command = clipboard(dora)
    assert f"Authorization: Bearer {api_key}" in command
    expect(dora.get_by_text("Waiting for it.")).to_be_visible()

    answer = run_curl(command).json()
    cost = answer["usage"]["credits_used"]
    expect(dora.get_by_text(re.compile(r"answered for [\d.]+ credits"))).to_be_visible()
    dora.get_by_role("link", name="See its receipt").click()
    expect(dora).to_have_title(re.compile("^Receipt · Dora & Daughters"))
    expect(dora.get_by_text(answer["id"]).first).to_be_visible()
    dora.get_by_role("link", name="Overview", exact=True).click()
    expect(dora.get_by_role("heading", name="Three steps to your first answer")).to_have_count(0)

    [membership] = Membership.objects.filter(user__email="dora@new.example")
    assert (membership.role, membership.organization.name) == ("owner", "Dora & Daughters")
    assert [usage.charged for usage in Usage.objects.filter(wallet_id=membership.organization_id)] == [cost]
    assert verifier.violations() == []


def test_a_wrong_code_is_told_and_what_was_forgotten_is_set_anew(people: People, mailbox: Mailbox):
    erin = people.stranger()
    erin.goto("/accounts/signup/")
    erin.get_by_label("E-mail").fill("erin@new.example")
    erin.get_by_label("Password").fill(PASSWORD)
    erin.get_by_role("button", name="Sign up").click()
    expect(erin.get_by_role("heading", name="Confirm your address")).to_be_visible()
    erin.get_by_label("Code").fill("AAAA-AAAA")
    erin.get_by_role("button", name="Confirm").click()
    expect(erin.get_by_role("alert")).to_be_visible()
    erin.get_by_label("Code").fill(mailbox.code("erin@new.example"))
    erin.get_by_role("button", name="Confirm").click()
    expect(erin.get_by_role("heading", name="Overview")).to_be_visible()
    erin.get_by_label("Your account").click()
    erin.get_by_role("button", name="Log out").click()

    erin.goto("/accounts/login/")
    erin.get_by_role("link", name="Forgot your password?").click()
    erin.get_by_label("E-mail").fill("erin@new.example")
    erin.get_by_role("button", name="Send a code").click()
    expect(erin.get_by_role("heading", name="A new password")).to_be_visible()
    erin.get_by_label("Code").fill(mailbox.code("erin@new.example"))
    erin.get_by_role("button", name="Confirm").click()
    erin.get_by_label("New Password", exact=True).fill(f"{PASSWORD}-2")
    again = erin.get_by_label("New Password (again)")
    if again.count():
        again.fill(f"{PASSWORD}-2")
    erin.get_by_role("main").get_by_role("button").first.click()
    erin.goto("/accounts/login/")
    erin.get_by_label("E-mail").fill("erin@new.example")
    erin.get_by_label("Password").fill(f"{PASSWORD}-2")
    erin.get_by_role("button", name="Log in").click()
    expect(erin.get_by_role("heading", name="Overview")).to_be_visible()
