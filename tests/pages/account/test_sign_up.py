"""From a stranger to the owner of an organization: the address is confirmed first, and everything happens once."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts import sign_ups
from accounts.models import Membership, Organization, SignUp, User
from accounts.services import create_user
from accounts.tasks import forget_old_tokens
from billing.credits import lots
from billing.credits.accounts import welcome
from billing.models import Entry, Wallet
from tests.kit.people import PASSWORD, confirm, is_logged_in, log_in, sign_up, visible

pytestmark = pytest.mark.django_db

WHAT_EXISTS = (User, Organization, Membership, Entry)


def counts():
    return [model.objects.count() for model in WHAT_EXISTS]


def test_who_confirms_their_address_owns_an_organization(client, mailoutbox):
    page = sign_up(client, "Dora@Example.org", organization_name="Dora Ltd")
    assert (page.status_code, page.headers["location"]) == (302, "/accounts/confirm-email/")
    assert not is_logged_in(client)
    assert Organization.objects.count() == 0
    [letter] = mailoutbox
    assert (letter.to, letter.subject) == (["dora@example.org"], "Confirm your e-mail address")
    page = confirm(client, letter)
    assert (page.status_code, page.headers["location"]) == (302, "/")
    assert is_logged_in(client)
    membership = Membership.objects.get()
    assert (membership.user.email, membership.organization.name, membership.role) == (
        "dora@example.org",
        "Dora Ltd",
        "owner",
    )
    assert Wallet.objects.get().posted == 0
    assert "Dora Ltd" in visible(client.get("/"))


def test_the_letter_says_the_same_as_text_and_as_html(client, mailoutbox):
    sign_up(client, "dora@example.org")
    [letter] = mailoutbox
    [(html, kind)] = letter.alternatives
    assert kind == "text/html"
    code = letter.body.split("\n\n")[2]
    assert len(code) == 9
    for words in ("It is good for 15 minutes.", "without the code nothing happens", code):
        assert words in letter.body
        assert words in html


def test_without_a_name_the_organization_is_called_after_the_address(client, mailoutbox):
    sign_up(client, "dora@example.org", organization_name="  ")
    confirm(client, mailoutbox[0])
    assert Organization.objects.get().name == "dora"


def test_a_wrong_code_confirms_nothing_and_the_third_ends_the_sign_up(client, mailoutbox):
    sign_up(client, "dora@example.org")
    for _ in range(2):
        page = client.post("/accounts/confirm-email/", {"code": "AAAA-AAAA"})
        assert "This code is wrong." in visible(page)
    assert client.post("/accounts/confirm-email/", {"code": "AAAA-AAAA"}).status_code == 302
    confirm(client, mailoutbox[0])
    assert not is_logged_in(client)
    assert Organization.objects.count() == 0


def test_a_code_is_worth_nothing_in_another_browser(client, mailoutbox):
    sign_up(client, "dora@example.org")
    confirm(Client(), mailoutbox[0])
    assert not User.objects.get().has_confirmed()


def test_until_then_a_log_in_leads_to_the_code(client, mailoutbox):
    sign_up(client, "dora@example.org")
    other = Client()
    page = log_in(other, "dora@example.org")
    assert not is_logged_in(other)
    assert page.status_code in (200, 302)
    answer = other.post(
        "/v1/auth/token", {"email": "dora@example.org", "password": PASSWORD}, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_credentials")


def test_a_known_address_is_answered_like_an_unknown_one(client, mailoutbox):
    create_user("alice@example.org", PASSWORD)
    before = counts()
    known = sign_up(client, "alice@example.org", "another-password-9")
    unknown = sign_up(Client(), "dora@example.org", "another-password-9")
    assert (known.status_code, known.headers["location"]) == (unknown.status_code, unknown.headers["location"])
    assert "a code to alice@example.org" in visible(client.get("/accounts/confirm-email/"))
    assert [letter.subject for letter in mailoutbox] == ["You have an account already", "Confirm your e-mail address"]
    assert "http://localhost:8000/accounts/password/reset/" in mailoutbox[0].body
    assert counts()[1:] == before[1:]
    assert User.objects.get(email="alice@example.org").check_password(PASSWORD)


def test_who_is_second_with_an_address_at_the_same_moment_is_answered_the_same(client, mailoutbox, monkeypatch):
    """The form found the address free; then somebody else was faster."""
    save = sign_ups.sign_up

    def somebody_was_faster(user, *rest):
        create_user(user.email)
        return save(user, *rest)

    monkeypatch.setattr("accounts.adapters.sign_up", somebody_was_faster)
    page = sign_up(client, "dora@example.org")
    assert (page.status_code, page.headers["location"]) == (302, "/accounts/confirm-email/")
    assert User.objects.count() == 0  # both are rolled back here; in life the other one's is there
    assert [letter.subject for letter in mailoutbox] == ["You have an account already"]


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"email": "nonsense"}, "Enter a valid email address."),
        ({"password1": "short"}, "This password is too short."),
        ({"password1": "dora@example.org"}, "The password is too similar to the email."),
        ({"organization_name": "a\tb"}, "must not contain control characters"),
    ],
)
def test_a_form_that_is_wrong_makes_nobody(client, mailoutbox, form, problem):
    page = client.post("/accounts/signup/", {"email": "dora@example.org", "password1": PASSWORD, **form})
    assert problem in visible(page)
    assert counts() == [0, 0, 0, 0]
    assert mailoutbox == []


# --- Closed -----------------------------------------------------------------------------------------


def test_while_it_is_closed_nobody_signs_up(client, mailoutbox, settings):
    settings.SIGNUP_OPEN = False
    assert "Sign-up is closed" in visible(client.get("/accounts/signup/"))
    sign_up(client, "dora@example.org")
    assert counts() == [0, 0, 0, 0]
    assert mailoutbox == []


# --- The operator's credit --------------------------------------------------------------------------


def test_the_credit_of_the_operator_is_granted_once(client, mailoutbox, settings):
    settings.SIGNUP_CREDIT_MICRO = 5_000_000
    sign_up(client, "dora@example.org")
    assert Entry.objects.count() == 0
    confirm(client, mailoutbox[0])
    dora = User.objects.get()
    assert welcome(dora) is None
    log_in(Client(), "dora@example.org")
    entry = Entry.objects.get()
    assert (entry.kind, entry.amount, entry.balance_after) == ("grant", 5_000_000, 5_000_000)
    assert (entry.idempotency_key, entry.actor, entry.reason) == ("signup", "sign-up", "sign-up credit")
    assert Wallet.objects.get().posted == 5_000_000


def test_another_address_brings_no_second_credit(client, mailoutbox, settings):
    settings.SIGNUP_CREDIT_MICRO = 5_000_000
    sign_up(client, "dora@example.org")
    confirm(client, mailoutbox[0])
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client.post("/accounts/email/", {"email": "dora@example.net", "action_add": ""})
    assert mailoutbox[-1].to == ["dora@example.net"]
    confirm(client, mailoutbox[-1])
    dora = User.objects.get()
    assert (dora.email, dora.has_confirmed("dora@example.net")) == ("dora@example.net", True)
    other = Client()
    log_in(other, "dora@example.net")
    assert is_logged_in(other)
    assert (Entry.objects.count(), Organization.objects.count()) == (1, 1)


def test_who_was_made_by_an_operator_gets_nothing_by_logging_in(client, settings):
    settings.SIGNUP_CREDIT_MICRO = 5_000_000
    create_user("dora@example.org", PASSWORD)
    log_in(client, "dora@example.org")
    assert is_logged_in(client)
    assert (Organization.objects.count(), Entry.objects.count()) == (0, 0)


def test_an_owner_made_by_createtenant_logs_in_at_once(client, capsys):
    call_command("createtenant", "Acme", "--owner", "Alice@Example.org", "--password", PASSWORD)
    page = log_in(client, "alice@example.org")
    assert (page.status_code, page.headers["location"]) == (302, "/")
    assert "Acme" in visible(client.get("/"))


# --- Never confirmed --------------------------------------------------------------------------------


def test_who_never_confirms_is_forgotten_after_a_week_and_nobody_else(client, mailoutbox):
    for number, email in enumerate(("late@example.org", "new@example.org", "in@example.org")):
        each = Client()
        sign_up(each, email)
        if email.startswith("in"):
            confirm(each, mailoutbox[number])
    create_user("operator-made@example.org")
    SignUp.objects.exclude(user__email="new@example.org").update(created_at=timezone.now() - timedelta(days=8))
    forget_old_tokens()
    left = User.objects.order_by("email").values_list("email", flat=True)
    assert list(left) == ["in@example.org", "new@example.org", "operator-made@example.org"]


def test_the_sign_up_credit_may_expire(client, mailoutbox, settings):
    settings.SIGNUP_CREDIT_MICRO, settings.SIGNUP_CREDIT_DAYS = 5_000_000, 30
    sign_up(client, "dora@example.org")
    confirm(client, mailoutbox[0])
    [lot] = lots.open_lots(Organization.objects.get().pk)
    assert (lot.left, lot.amount, (lot.expires_at - timezone.now()).days) == (5_000_000, 5_000_000, 29)
