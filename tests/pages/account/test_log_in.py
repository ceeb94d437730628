"""Log-in, log-out, a forgotten password, sessions on other machines; and who tries too often."""

import re

import pytest
from allauth.usersessions.models import UserSession
from django.test import Client

from accounts import throttle
from accounts.models import LogInThrottle, TokenFamily, User
from accounts.services import create_user
from tests.kit.people import PASSWORD, code_in, is_logged_in, log_in, visible

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another-horse-battery-2"
NO_MATCH = "E-mail and password do not match an account."


@pytest.fixture
def password():
    return PASSWORD


def ask_token(client, password=PASSWORD):
    return client.post(
        "/v1/auth/token", {"email": "alice@example.org", "password": password}, content_type="application/json"
    )


# --- Too often --------------------------------------------------------------------------------------


def test_failures_on_pages_and_by_the_api_are_counted_together(client, alice):
    for number in range(throttle.FAILURES_PER_EMAIL_MAX):
        if number % 2:
            assert NO_MATCH in visible(log_in(client, "Alice@example.org", "wrong"))
        else:
            assert ask_token(client, "wrong").status_code == 401
    assert "Too many failed attempts. Try again in 15 minutes." in visible(log_in(client, "alice@example.org"))
    assert ask_token(client).status_code == 429
    assert not is_logged_in(client)


def test_a_success_takes_only_its_own_count_back(client, alice):
    log_in(client, "alice@example.org", "wrong")
    log_in(client, "alice@example.org")
    assert set(LogInThrottle.objects.values_list("attempts", flat=True)) == {1}


def test_an_unknown_address_is_answered_and_counted_like_a_known_one(client, alice):
    answers = []
    for email in ("alice@example.org", "nobody@example.org"):
        for _ in range(throttle.FAILURES_PER_EMAIL_MAX + 1):
            page = log_in(client, email, "wrong")
        answers.append((page.status_code, visible(page)))
    assert answers[0] == answers[1]


def test_clients_are_told_apart_behind_the_proxies_one_has(client, alice, settings):
    """What a client claims in front of them is nobody's word."""
    settings.PROXY_COUNT = 1
    for number in range(throttle.FAILURES_PER_ADDRESS_MAX):
        throttle.count_attempt(f"{number}@example.org", "203.0.113.7")
    blocked = {"x-forwarded-for": "198.51.100.1, 203.0.113.7"}
    other = {"x-forwarded-for": "203.0.113.7, 198.51.100.1"}
    data = {"login": "alice@example.org", "password": PASSWORD}
    assert "Too many failed attempts" in visible(client.post("/accounts/login/", data, headers=blocked))
    client.post("/accounts/login/", data, headers=other)
    assert is_logged_in(client)


@pytest.mark.parametrize(
    ("said", "kept"),
    [("203.0.113.7", "203.0.113.7"), ("unknown", "0.0.0.0"), ("fe80::1%eth0", "fe80::1"), ("", "127.0.0.1")],
)
def test_whatever_a_proxy_says_one_can_log_in(client, alice, settings, said, kept):
    settings.PROXY_COUNT = 1
    data = {"login": "alice@example.org", "password": PASSWORD}
    client.post("/accounts/login/", data, headers={"x-forwarded-for": said})
    assert is_logged_in(client)
    assert UserSession.objects.get().ip == kept


def test_the_same_holds_where_a_password_is_asked_for_again(client, alice):
    log_in(client, "alice@example.org")
    for _ in range(throttle.FAILURES_PER_EMAIL_MAX // 2):
        assert "Incorrect password." in visible(client.post("/accounts/reauthenticate/", {"password": "wrong"}))
        ask_token(client, "wrong")
    page = client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert "Too many failed attempts" in visible(page)


def test_sign_ups_from_one_address_have_a_limit_that_all_processes_share(client, mailoutbox):
    """In the database: another process has another memory."""
    for number in range(20):
        Client().post("/accounts/signup/", {"email": f"p{number}@example.org", "password1": PASSWORD})
    page = Client().post("/accounts/signup/", {"email": "one-more@example.org", "password1": PASSWORD})
    assert page.status_code == 429
    assert "Please wait a few minutes" in visible(page)
    assert (User.objects.count(), len(mailoutbox)) == (20, 20)


# --- Out --------------------------------------------------------------------------------------------


def test_log_out_is_a_post(client, alice):
    log_in(client, "alice@example.org")
    assert client.get("/accounts/logout/").status_code == 200
    assert is_logged_in(client)
    assert client.post("/accounts/logout/").headers["location"] == "/"
    assert not is_logged_in(client)


def test_forms_without_their_token_change_nothing(alice):
    client = Client(enforce_csrf_checks=True)
    for path, data in (
        ("/accounts/login/", {"login": "alice@example.org", "password": PASSWORD}),
        ("/accounts/signup/", {"email": "dora@example.org", "password1": PASSWORD}),
        ("/accounts/password/reset/", {"email": "alice@example.org"}),
    ):
        assert client.post(path, data).status_code == 403
    assert User.objects.count() == 1


# --- A forgotten password ---------------------------------------------------------------------------


def test_a_forgotten_password_is_replaced_by_a_code(client, alice, mailoutbox):
    ask_token(client)
    elsewhere = Client()
    log_in(elsewhere, "alice@example.org")
    for _ in range(throttle.FAILURES_PER_EMAIL_MAX):
        log_in(client, "alice@example.org", "guess")
    client.post("/accounts/password/reset/", {"email": "ALICE@example.org"})
    [letter] = mailoutbox
    assert (letter.to, letter.subject) == (["alice@example.org"], "Your code for a new password")
    client.post("/accounts/password/reset/confirm/", {"code": code_in(letter)})
    client.post("/accounts/password/reset/complete/", {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert NO_MATCH in visible(log_in(client, "alice@example.org"))
    assert elsewhere.get("/accounts/email/").status_code == 302  # the old password's sessions have ended
    assert TokenFamily.objects.get().revoked_at is not None
    log_in(client, "alice@example.org", NEW_PASSWORD)
    assert is_logged_in(client)  # the guesses of before do not keep her out


def test_nobody_learns_whether_an_address_is_known(client, alice, mailoutbox):
    other = Client()
    known = client.post("/accounts/password/reset/", {"email": "alice@example.org"})
    unknown = other.post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert (known.status_code, known.headers["location"]) == (unknown.status_code, unknown.headers["location"])
    pages = [visible(each.get(known.headers["location"])) for each in (client, other)]
    assert pages[0].replace("alice@", "nobody@") == pages[1]
    assert [letter.subject for letter in mailoutbox] == [
        "Your code for a new password",
        "No account with this address",
    ]


# --- Security pages ---------------------------------------------------------------------------------


def test_a_changed_password_ends_the_other_sessions(client, alice, mailoutbox):
    elsewhere = Client()
    for each in (client, elsewhere):
        log_in(each, "alice@example.org")
    form = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert "Please type your current password" in visible(
        client.post("/accounts/password/change/", form | {"oldpassword": "wrong"})
    )
    assert client.post("/accounts/password/change/", form).status_code == 302
    assert client.get("/accounts/sessions/").status_code == 200
    assert elsewhere.get("/accounts/sessions/").status_code == 302
    [letter] = mailoutbox
    assert (letter.to, letter.subject) == (["alice@example.org"], "Your password was changed")
    assert "If not, reset your password now" in letter.body


def test_other_sessions_are_seen_and_ended_from_here(client, alice):
    elsewhere = Client(headers={"user-agent": "Lost Laptop/1.0"})
    for each in (client, elsewhere):
        log_in(each, "alice@example.org")
    assert "Lost Laptop/1.0" in visible(client.get("/accounts/sessions/"))
    client.post("/accounts/sessions/")
    assert "Lost Laptop/1.0" not in visible(client.get("/accounts/sessions/"))
    assert elsewhere.get("/accounts/sessions/").status_code == 302
    assert is_logged_in(client)


def test_charlie_sees_and_ends_only_sessions_of_their_own(client, alice):
    create_user("charlie@example.org", PASSWORD)
    alices = Client(headers={"user-agent": "Alice/1.0"})
    log_in(alices, "alice@example.org")
    log_in(client, "charlie@example.org")
    assert "Alice/1.0" not in visible(client.get("/accounts/sessions/"))
    client.post("/accounts/sessions/")
    assert alices.get("/accounts/sessions/").status_code == 200


def test_an_address_is_changed_when_the_new_one_is_confirmed(client, alice, mailoutbox):
    log_in(client, "alice@example.org")
    page = client.post("/accounts/email/", {"email": "alice@example.net", "action_add": ""})
    assert page.headers["location"].startswith("/accounts/reauthenticate/")
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client.post("/accounts/email/", {"email": "alice@example.net", "action_add": ""})
    alice.user.refresh_from_db()
    assert (alice.user.email, mailoutbox[0].to) == ("alice@example.org", ["alice@example.net"])
    client.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[0])})
    alice.user.refresh_from_db()
    assert (alice.user.email, alice.user.has_confirmed("alice@example.org")) == ("alice@example.net", False)
    assert (mailoutbox[1].to, mailoutbox[1].subject) == (["alice@example.org"], "Your e-mail address was changed")


def test_pages_of_accounts_need_no_inline_script_or_style(client, alice):
    entrance = [client.get(f"/accounts/{path}/") for path in ("login", "signup", "password/reset")]
    log_in(client, "alice@example.org")
    inside = [
        client.get(f"/accounts/{path}/")
        for path in ("email", "password/change", "sessions", "2fa", "logout", "reauthenticate")
    ]
    for page in (*entrance, *inside):
        html = page.content.decode()
        assert page.status_code == 200
        assert "style=" not in html
        assert "<style" not in html
        assert "{{" not in html
        assert re.findall(r"<script(?![^>]* src=)", html) == []
        assert html.count("<h1>") == 1
