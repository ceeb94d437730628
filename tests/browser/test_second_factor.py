"""A second factor is set up and asked for: an authenticator app's code, and a security key that Chromium plays."""

import pytest
from allauth.mfa.models import Authenticator
from playwright.sync_api import Page, expect

from accounts.models import User
from accounts.services import create_organization
from tests.browser.people import Mailbox, People
from tests.kit.people import PASSWORD, app_code

SECURITY_KEY = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def account(site: str, request: pytest.FixtureRequest) -> User:
    email = f"{request.node.name[:20].replace('_', '-')}@factor.example"
    return create_organization("Factors", email, PASSWORD).owner


def log_in(page: Page, user: User) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def log_out(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Your account").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in").first).to_be_visible()


def confirm_password(page: Page) -> None:
    """Asked again before a factor is changed, unless the log-in has just been."""
    field = page.get_by_label("Password")
    if field.count():
        field.fill(PASSWORD)
        page.get_by_role("main").get_by_role("button").first.click()


def test_an_authenticator_app_is_set_up_and_asked_for(people: People, mailbox: Mailbox, account: User):
    page = people.stranger()
    log_in(page, account)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Set up").click()
    page.wait_for_load_state()
    confirm_password(page)
    secret = page.get_by_label("Authenticator secret").input_value()
    page.get_by_label("Code").fill(app_code(secret))
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("heading", name="Recovery codes").first).to_be_visible()
    assert "Authenticator app set up" in [str(letter["Subject"]) for letter in mailbox.letters(account.email)]

    log_out(page)
    log_in(page, account)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    page.get_by_label("Code").fill(app_code(secret, 1))  # the one of now has been used
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_security_key_is_added_and_logs_in(people: People, account: User):
    page = people.stranger()
    machine = page.context.new_cdp_session(page)
    machine.send("WebAuthn.enable")
    machine.send("WebAuthn.addVirtualAuthenticator", {"options": SECURITY_KEY})
    log_in(page, account)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Add a key").click()
    page.wait_for_load_state()
    confirm_password(page)
    page.get_by_label("Name").fill("My key")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery codes").first).to_be_visible()
    assert Authenticator.objects.filter(user=account, type="webauthn").count() == 1

    log_out(page)
    log_in(page, account)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.get_by_role("button", name="Use a security key").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
