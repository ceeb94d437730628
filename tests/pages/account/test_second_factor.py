"""A second factor: set up on a page, asked for at every log-in and by `/v1/auth/token`; each code works once."""

from threading import Barrier, Thread

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.db import connection
from django.test import Client

from accounts import second_factor, throttle
from accounts.models import LogInThrottle
from accounts.services import create_organization
from tests.kit.people import PASSWORD, app_code, is_logged_in, log_in, visible

SECRET = generate_totp_secret()
WRONG = "This code is wrong, or it was used already."


def make_alice(email="alice@example.org"):
    organization = create_organization("Acme", email, PASSWORD)
    return organization.owner


def with_factor(user):
    TOTP.activate(user, SECRET)
    return RecoveryCodes.activate(user).get_unused_codes()


def ask_token(client, **more):
    body = {"email": "alice@example.org", "password": PASSWORD, **more}
    return client.post("/v1/auth/token", body, content_type="application/json")


def refusal(answer):
    return answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["code"]


def failures():
    """Of the address and of the client, which are the same here."""
    return sorted(set(LogInThrottle.objects.values_list("attempts", flat=True)))


# --- On pages ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_is_set_up_with_a_picture_and_a_first_code(client, mailoutbox, django_capture_on_commit_callbacks):
    make_alice()
    log_in(client, "alice@example.org")
    asked = client.get("/accounts/2fa/totp/activate/")
    assert (asked.status_code, asked.headers["location"].split("?")[0]) == (302, "/accounts/reauthenticate/")
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/")
    assert 'src="data:image/svg+xml;base64,' in page.content.decode()
    assert "This code is wrong" in visible(client.post("/accounts/2fa/totp/activate/", {"code": "000000"}))
    assert not Authenticator.objects.exists()
    secret = client.session["mfa.totp.secret"]
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/2fa/totp/activate/", {"code": app_code(secret)})
    totp, recovery = Authenticator.objects.order_by("-type")
    assert (totp.type, recovery.type) == ("totp", "recovery_codes")
    assert secret not in str(totp.data)
    assert [letter.subject for letter in mailoutbox] == ["Authenticator app set up"]
    assert "It was done from 127.0.0.1" in mailoutbox[0].body


@pytest.mark.django_db
def test_the_password_alone_lets_nobody_in(client):
    with_factor(make_alice())
    page = log_in(client, "alice@example.org")
    assert (page.status_code, page.headers["location"]) == (302, "/accounts/2fa/authenticate/")
    assert not is_logged_in(client)
    assert client.get("/accounts/2fa/").status_code == 302
    assert WRONG in visible(client.post("/accounts/2fa/authenticate/", {"code": "000000"}))
    assert not is_logged_in(client)
    page = client.post("/accounts/2fa/authenticate/", {"code": app_code(SECRET)})
    assert (page.status_code, page.headers["location"]) == (302, "/")
    assert is_logged_in(client)


@pytest.mark.django_db
def test_an_overseen_code_is_worth_nothing(client):
    with_factor(make_alice())
    code = app_code(SECRET, 1)  # of the next step: good for the whole test
    other = Client()
    for each in (client, other):
        log_in(each, "alice@example.org")
        each.post("/accounts/2fa/authenticate/", {"code": code})
    assert (is_logged_in(client), is_logged_in(other)) == (True, False)
    assert refusal(ask_token(other, code=code)) == (401, "authentication_error", "invalid_code")


@pytest.mark.django_db
def test_a_recovery_code_works_once(client):
    codes = with_factor(make_alice())
    other = Client()
    for each in (client, other):
        log_in(each, "alice@example.org")
        each.post("/accounts/2fa/authenticate/", {"code": codes[0]})
    assert (is_logged_in(client), is_logged_in(other)) == (True, False)
    other.post("/accounts/2fa/authenticate/", {"code": codes[1]})
    assert is_logged_in(other)


@pytest.mark.django_db
def test_of_the_steps_before_and_after_a_code_is_good(client):
    alice = make_alice()
    with_factor(alice)
    assert second_factor.use_code(alice, app_code(SECRET, -2)) is None
    assert second_factor.use_code(alice, app_code(SECRET, 2)) is None
    assert second_factor.use_code(alice, app_code(SECRET, 1)).type == "totp"
    assert second_factor.use_code(alice, app_code(SECRET, 0)) is None  # older than one that was used


@pytest.mark.django_db
def test_every_page_of_it_is_served_without_inline_script_or_style(client):
    alice = make_alice()
    with_factor(alice)
    log_in(client, "alice@example.org")
    entrance = client.get("/accounts/2fa/authenticate/")
    client.post("/accounts/2fa/authenticate/", {"code": app_code(SECRET)})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    paths = ("", "webauthn/", "webauthn/add/", "totp/deactivate/", "recovery-codes/", "recovery-codes/generate/")
    for page in (entrance, *(client.get(f"/accounts/2fa/{path}") for path in paths)):
        html = page.content.decode()
        assert page.status_code == 200
        assert " style=" not in html
        assert "<style" not in html
        assert "{{" not in html
        assert 'href="/static/quantized/app.css"' in html
        for tag in html.split("<script")[1:]:
            assert "src=" in tag.split(">")[0] or 'type="application/json"' in tag.split(">")[0]


# --- By the API -------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_token_asks_for_the_code_of_who_has_one(client):
    with_factor(make_alice())
    answer = ask_token(client)
    assert refusal(answer) == (401, "authentication_error", "second_factor_required")
    assert "send its code too" in answer.json()["error"]["message"]
    assert refusal(ask_token(client, code="000000")) == (401, "authentication_error", "invalid_code")
    assert refusal(ask_token(client, password="wrong", code=app_code(SECRET)))[2] == "invalid_credentials"
    assert ask_token(client, code=app_code(SECRET)).status_code == 200
    assert refusal(ask_token(client, code=app_code(SECRET, -1)))[2] == "invalid_code"


@pytest.mark.django_db
def test_a_recovery_code_gives_a_token_once(client):
    codes = with_factor(make_alice())
    assert ask_token(client, code=f" {codes[3][:4]} {codes[3][4:]} ").status_code == 200
    assert refusal(ask_token(client, code=codes[3]))[2] == "invalid_code"


@pytest.mark.django_db
def test_who_has_none_may_send_a_code(client):
    make_alice()
    assert ask_token(client, code="123456").status_code == 200


@pytest.mark.django_db
def test_wrong_codes_count_like_wrong_passwords_and_a_missing_one_does_not(client):
    with_factor(make_alice())
    ask_token(client)
    assert failures() == [0]
    ask_token(client, code="000000")
    assert failures() == [1]
    log_in(client, "alice@example.org")
    assert failures() == [1]
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert failures() == [2]
    for _ in range(throttle.FAILURES_PER_EMAIL_MAX - 2):
        ask_token(client, password="wrong")
    answer = ask_token(client, code=app_code(SECRET))
    assert refusal(answer) == (429, "rate_limit_error", "rate_limit_exceeded")
    page = visible(client.post("/accounts/2fa/authenticate/", {"code": app_code(SECRET)}))
    assert "Too many failed attempts. Try again in 15 minutes." in page
    assert not is_logged_in(client)


def test_one_code_at_the_same_moment_is_used_once(live_db):
    alice = make_alice("alice-at-once@example.org")
    codes = with_factor(alice)
    for code in (app_code(SECRET, 1), codes[0]):
        assert sorted(at_once(4, lambda code=code: second_factor.use_code(alice, code) is not None)) == [
            False,
            False,
            False,
            True,
        ]


def at_once(count, act):
    barrier, results = Barrier(count), []

    def run():
        barrier.wait()
        try:
            results.append(act())
        finally:
            connection.close()

    threads = [Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
