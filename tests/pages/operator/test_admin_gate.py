"""The admin's door: the log-in of all people, a second factor, and a short idle time."""

import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import Client

from accounts.models import User
from accounts.services import create_user
from tests.kit.people import PASSWORD, app_code, is_logged_in, log_in, visible

pytestmark = pytest.mark.django_db

SECRET = generate_totp_secret()


@pytest.fixture
def operator():
    return User.objects.create_superuser("operator@example.org", PASSWORD)


@pytest.fixture
def strict(settings):
    settings.ADMIN_REQUIRES_2FA = True
    return settings


def test_strangers_are_led_through_the_log_in_of_all_people(client, operator):
    page = client.get("/admin/accounts/user/")
    assert (page.status_code, page.headers["location"]) == (302, "/accounts/login/?next=%2Fadmin%2Faccounts%2Fuser%2F")
    assert client.get("/admin/login/").headers["location"] == "/accounts/login/?next=%2Fadmin%2F"
    data = {"username": "operator@example.org", "password": PASSWORD}
    assert client.post("/admin/login/", data).status_code == 302
    assert not is_logged_in(client)
    page = log_in(client, "operator@example.org", next="/admin/")
    assert page.headers["location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_charlie_is_no_staff_and_sees_nothing(client, operator):
    create_user("charlie@example.org", PASSWORD)
    log_in(client, "charlie@example.org")
    page = client.get("/admin/accounts/user/", follow=True)
    assert page.status_code == 403
    assert "operator@example.org" not in visible(page)


def test_a_second_factor_is_set_up_first(client, operator, strict):
    log_in(client, "operator@example.org")
    page = client.get("/admin/")
    assert (page.status_code, page.headers["location"]) == (302, "/accounts/2fa/")
    assert "The admin asks for a second factor: set one up first." in visible(client.get("/accounts/2fa/"))


def test_who_logs_in_with_one_comes_in(client, operator, strict):
    TOTP.activate(operator, SECRET)
    log_in(client, "operator@example.org", next="/admin/")
    assert client.get("/admin/").status_code == 302
    page = client.post("/accounts/2fa/authenticate/", {"code": app_code(SECRET)})
    assert page.headers["location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_a_session_that_began_without_one_shows_it_once(client, operator, strict):
    log_in(client, "operator@example.org")
    TOTP.activate(operator, SECRET)
    page = client.get("/admin/accounts/user/")
    assert page.headers["location"] == "/accounts/2fa/reauthenticate/?next=%2Fadmin%2Faccounts%2Fuser%2F"
    page = client.post(page.headers["location"], {"code": app_code(SECRET)})
    assert page.headers["location"] == "/admin/accounts/user/"
    assert client.get("/admin/accounts/user/").status_code == 200


def test_without_the_setting_a_password_is_enough(client, operator):
    log_in(client, "operator@example.org")
    assert client.get("/admin/").status_code == 200


def test_after_a_while_without_use_one_logs_in_again(client, operator, settings):
    log_in(client, "operator@example.org")
    assert client.get("/admin/").status_code == 200
    for ago_s, status in ((settings.ADMIN_IDLE_S - 60, 200), (settings.ADMIN_IDLE_S + 60, 302)):
        rewind(client, ago_s)
        assert client.get("/admin/").status_code == status
    assert not is_logged_in(client)
    assert "logged out of the admin" in visible(client.get("/accounts/login/"))


def test_use_keeps_one_in(client, operator, settings):
    log_in(client, "operator@example.org")
    for _ in range(3):
        rewind(client, settings.ADMIN_IDLE_S - 60)
        assert client.get("/admin/").status_code == 200


def test_time_spent_elsewhere_before_is_no_use_of_the_admin(client, operator, settings):
    log_in(client, "operator@example.org")
    rewind(client, settings.ADMIN_IDLE_S + 60)
    assert client.get("/accounts/email/").status_code == 200
    assert client.get("/admin/").status_code == 302


def rewind(client, by_s):
    """As if everything in this session had happened earlier."""
    session = client.session
    session["admin_seen_at"] = session.get("admin_seen_at", time.time()) - by_s
    for record in session["account_authentication_methods"]:
        record["at"] -= by_s
    session.save()


def test_a_lost_factor_is_deleted_by_an_operator_who_sees_no_secret(client, operator):
    dora = create_user("dora@example.org", PASSWORD)
    factor = TOTP.activate(dora, SECRET).instance
    client.force_login(operator)
    page = client.get(f"/admin/mfa/authenticator/{factor.pk}/change/")
    assert page.status_code == 200
    assert factor.data["secret"] not in page.content.decode()
    client.post(f"/admin/mfa/authenticator/{factor.pk}/delete/", {"post": "yes"})
    assert not Authenticator.objects.exists()
    other = Client()
    log_in(other, "dora@example.org")
    assert is_logged_in(other)


def test_who_is_made_in_the_admin_logs_in_at_once_also_with_a_new_address(client, operator):
    client.force_login(operator)
    form = {"email": "Erin@example.org", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/admin/accounts/user/add/", form).status_code == 302
    erin = User.objects.get(email="erin@example.org")
    assert erin.has_confirmed("erin@example.org")
    client.post(f"/admin/accounts/user/{erin.pk}/change/", {"email": "erin@example.net", "is_active": "on"})
    other = Client()
    log_in(other, "erin@example.net")
    assert is_logged_in(other)
    assert list(erin.emailaddress_set.values_list("email", "verified", "primary")) == [("erin@example.net", True, True)]
