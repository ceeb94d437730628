"""The playground: an answer streams in with its cost, can be stopped, and the same is shown as code."""

import re

from playwright.sync_api import Page, expect

from billing.models import Entry, Usage
from tests.browser.people import People
from tests.kit import MODEL
from tests.kit.tenants import Tenant, wait_closed


def playground(people: People, tenant: Tenant) -> Page:
    page = people.member(tenant.user)
    page.goto("/playground")
    page.get_by_label("Model", exact=True).select_option(MODEL)
    return page


def ask(page: Page, words: str) -> None:
    page.get_by_label("Your message").fill(words)
    page.get_by_role("button", name="Send").click()


def test_an_answer_streams_in_with_its_cost_and_receipt(people: People, alice: Tenant):
    page = playground(people, alice)
    page.get_by_label("System prompt").fill("Answer in one sentence.")
    ask(page, "What is the capital of France?")
    talk = page.get_by_role("log")
    expect(talk).to_contain_text("Paris")
    receipt = talk.get_by_role("link", name="Receipt")
    expect(receipt).to_be_visible()
    wait_closed(alice)
    [usage] = Usage.objects.filter(wallet_id=alice.organization_id)
    assert (usage.streamed, usage.key_id) == (True, None)
    expect(talk).to_contain_text(f"{usage.prompt_tokens} → {usage.completion_tokens} tokens")
    shown = f"{usage.charged // 100 / 10_000:.4f}".rstrip("0")
    expect(talk).to_contain_text(f"{shown} credits")
    left = Entry.objects.filter(wallet_id=alice.organization_id).latest("seq").balance_after
    expect(page.get_by_role("link", name="Balance")).to_have_attribute("title", f"{left:,} micro-credits")

    code = page.get_by_role("tabpanel")
    expect(code).to_contain_text("curl")
    page.get_by_role("tab", name="Python, OpenAI SDK").click()
    expect(code).to_contain_text("client.chat.completions.create")
    expect(code).to_contain_text("Answer in one sentence.")
    receipt.click()
    expect(page).to_have_title(re.compile("^Receipt"))
    expect(page.get_by_role("definition").filter(has_text="a stream")).to_be_visible()


def test_a_conversation_goes_on_and_begins_anew(people: People, alice: Tenant):
    page = playground(people, alice)
    ask(page, "What is the capital of France?")
    talk = page.get_by_role("log")
    expect(talk.get_by_role("link", name="Receipt")).to_have_count(1)
    ask(page, "And of Italy?")
    expect(talk.get_by_role("link", name="Receipt")).to_have_count(2)
    first, second = Usage.objects.filter(wallet_id=alice.organization_id).order_by("recorded_at")
    assert second.prompt_tokens > first.prompt_tokens
    page.get_by_role("button", name="New conversation").click()
    expect(talk).to_contain_text("Ask something")


def test_a_refusal_is_told_with_what_to_do_and_what_was_typed_stays(people: People, alice: Tenant):
    people.expect("402")
    page = playground(people, alice)
    page.get_by_label("Longest answer, tokens").fill("30000")
    ask(page, "Everything, please")
    refused = page.get_by_role("log").get_by_role("alert")
    expect(refused).to_contain_text("insufficient_credits")
    expect(refused.get_by_role("link", name="See Billing")).to_be_visible()
    expect(page.get_by_label("Your message")).to_have_value("Everything, please")
    assert not Usage.objects.filter(wallet_id=alice.organization_id, charged__gt=0).exists()
