"""`/v1/auth/...` and the published keys, over a socket: log in, renew, end; who may not, and who tries too often."""

import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from uuid import UUID

import jwt
import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts import sessions, signing_keys, throttle
from accounts.callers import TooManyAttempts
from accounts.models import LogInThrottle, Membership, RefreshToken, SigningKey, TokenFamily, User
from accounts.services import reactivate, suspend
from tests.kit.calls import assert_error, call, chat, post
from tests.kit.members import (
    PASSWORD,
    Bearer,
    credits,
    family_of,
    log_in,
    new_user,
    post_json,
    refresh,
    revoke,
)
from tests.kit.people import app_code
from tests.kit.tenants import make_tenant

INVALID = "invalid_request_error"
NOBODY = "No account has this e-mail address and password."
ENDED = "This session has ended: log in again."
USED = "This refresh token was used before, so its session was ended: log in again."
NOT_OURS = "This refresh token was not issued by this server."


@pytest.fixture
def password():
    return PASSWORD


@pytest.fixture(autouse=True)
def _no_failures_yet(live_db):
    """All tests call from one address."""
    LogInThrottle.objects.all().delete()


def assert_ended(gateway, session):
    """Neither token works, on neither lane."""
    wait_refused(gateway, session.access_token)
    for answer in (
        credits(gateway, session.access_token),
        post(gateway, Bearer(session.access_token), chat()),
        refresh(gateway, session.refresh_token),
    ):
        assert_error(answer, 401, "authentication_error", "invalid_token", None, ENDED)


def wait_refused(gateway, token):
    """On the async lane it may take a second."""
    deadline = time.monotonic() + 1
    while post(gateway, Bearer(token), {}).status == 400 and time.monotonic() < deadline:
        time.sleep(0.01)


# --- Log in -----------------------------------------------------------------------------------------


def test_a_log_in_gives_two_tokens(gateway, alice, bob):
    answer = log_in(gateway, bob.email, organization=str(alice.organization_id))
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json
    assert list(body) == ["access_token", "token_type", "expires_in", "refresh_token", "organization", "role"]
    assert (body["token_type"], body["expires_in"], body["role"]) == ("Bearer", 900, "developer")
    assert body["organization"] == str(alice.organization_id)
    assert credits(gateway, body["access_token"]).json["credits_remaining"] == 1_000_000
    assert post(gateway, Bearer(body["access_token"]), chat()).usage["credits_used"] == 2_400


def test_the_access_token_says_who_and_until_when(gateway, alice, bob):
    body = log_in(gateway, bob.email).json
    key = jwt.PyJWKSet.from_dict(published(gateway))[jwt.get_unverified_header(body["access_token"])["kid"]]
    claims = jwt.decode(
        body["access_token"], key, algorithms=["EdDSA"], audience="quantized-api", issuer="http://localhost:8000"
    )
    assert claims == {
        "iss": "http://localhost:8000",
        "aud": "quantized-api",
        "sub": str(bob.user.pk),
        "org": str(alice.organization_id),
        "role": "developer",
        "sid": str(family_of(bob).pk),
        "jti": str(UUID(claims["jti"])),
        "iat": claims["iat"],
        "exp": claims["iat"] + 900,
    }
    assert abs(claims["iat"] - time.time()) < 5


def test_nothing_of_the_tokens_is_stored_but_a_hash(gateway, bob):
    body = log_in(gateway, bob.email).json
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_jsonb(t)::text FROM accounts_refreshtoken t WHERE family_id = %s", [family_of(bob).pk]
        )
        [(row,)] = cursor.fetchall()
    assert body["refresh_token"] not in row
    assert body["refresh_token"].removeprefix("rt-quantized-").encode().hex() not in row


def test_a_log_in_is_noted(gateway, bob):
    log_in(gateway, bob.email)
    bob.user.refresh_from_db()
    assert timezone.now() - bob.user.last_login < timedelta(seconds=5)


def test_an_address_has_no_case(gateway, bob):
    assert log_in(gateway, bob.email.upper()).status == 200


def test_who_has_a_second_factor_sends_its_code(gateway, bob):
    secret = generate_totp_secret()
    TOTP.activate(bob.user, secret)
    for code, refused in ((None, "second_factor_required"), ("000000", "invalid_code")):
        assert_error(log_in(gateway, bob.email, code=code), 401, "authentication_error", refused)
    code = app_code(secret, 1)
    assert log_in(gateway, bob.email, code=code).status == 200
    assert_error(log_in(gateway, bob.email, code=code), 401, "authentication_error", "invalid_code")


def test_who_has_none_may_send_what_looks_like_one(gateway, bob):
    assert log_in(gateway, bob.email, code="123456").status == 200
    assert log_in(gateway, bob.email, code=None, organization=None).status == 200


def test_a_member_of_several_names_one(gateway, alice, bob):
    other = make_tenant(0)
    other.member("viewer", user=bob.user)
    error = assert_error_with_metadata(log_in(gateway, bob.email))
    assert error["message"] == (
        "Missing required field: 'organization'. You are a member of several: name one by its id."
    )
    named = {choice["id"] for choice in error["metadata"]["organizations"]}
    assert named == {str(alice.organization_id), str(other.organization_id)}
    answer = log_in(gateway, bob.email, organization=str(other.organization_id))
    assert (answer.json["organization"], answer.json["role"]) == (str(other.organization_id), "viewer")


def assert_error_with_metadata(answer):
    error = answer.error
    assert (answer.status, error["type"], error["code"], error["param"]) == (
        400,
        INVALID,
        "missing_field",
        "organization",
    )
    return error


def test_an_organization_one_is_no_member_of_does_not_exist(gateway, alice, charlie):
    message = "You are not a member of such an organization."
    before = TokenFamily.objects.count()
    for organization in (str(alice.organization_id), "00000000-0000-0000-0000-000000000000", "alice", "", "\x00"):
        answer = log_in(gateway, charlie.email, organization=organization)
        assert_error(answer, 404, "not_found_error", "not_found", "organization", message)
    assert TokenFamily.objects.count() == before


def test_a_member_of_nothing_gets_nothing(gateway, live_db):
    answer = log_in(gateway, new_user().email)
    assert_error(answer, 404, "not_found_error", "not_found", "organization")


def test_a_suspended_organization_lets_nobody_in(gateway, alice, bob):
    suspend(alice.organization_id)
    answer = log_in(gateway, bob.email)
    message = "This organization is suspended."
    assert_error(answer, 403, "permission_error", "organization_suspended", None, message)
    assert not TokenFamily.objects.filter(user=bob.user).exists()


def test_who_is_unknown_wrong_or_not_allowed_hears_the_same(gateway, bob):
    inactive, without = new_user(), User.objects.create_user(f"{os.urandom(6).hex()}@example.org")
    User.objects.filter(pk=inactive.pk).update(is_active=False)
    unknown = [
        ("nobody@example.org", PASSWORD),
        ("no-address", PASSWORD),
        (without.email, PASSWORD),
        (without.email, "!"),
    ]
    for email, password in [(bob.email, "wrong"), (inactive.email, PASSWORD), *unknown]:
        answer = log_in(gateway, email, password)
        assert_error(answer, 401, "authentication_error", "invalid_credentials", None, NOBODY)
        assert answer.headers["www-authenticate"] == "Bearer"


FIELDS = [
    ({"email": None}, "invalid_type", "email"),
    ({"email": ""}, "out_of_range", "email"),
    ({"email": "two words"}, "out_of_range", "email"),
    ({"email": "bob@example.org\x00"}, "out_of_range", "email"),
    ({"email": "x" * 255}, "out_of_range", "email"),
    ({"password": 7}, "invalid_type", "password"),
    ({"password": ""}, "out_of_range", "password"),
    ({"password": "x" * 1025}, "out_of_range", "password"),
    ({"organization": 7}, "invalid_type", "organization"),
    ({"code": 123456}, "invalid_type", "code"),
    ({"code": "x" * 65}, "out_of_range", "code"),
    ({"pasword": "x"}, "unknown_field", "pasword"),
]


@pytest.mark.parametrize(("change", "code", "param"), FIELDS, ids=lambda value: str(value)[:40])
def test_a_field_that_cannot_be_is_named(gateway, live_db, change, code, param):
    body = {"email": "bob@example.org", "password": PASSWORD} | change
    assert_error(post_json(gateway, "/v1/auth/token", body), 400, INVALID, code, param)


def test_every_endpoint_says_what_is_missing_or_no_json(gateway, live_db):
    for path, field in (("token", "email"), ("refresh", "refresh_token"), ("revoke", "refresh_token")):
        assert_error(post_json(gateway, f"/v1/auth/{path}", {}), 400, INVALID, "missing_field", field)
        assert_error(call(gateway, "POST", f"/v1/auth/{path}", {}, b"{"), 400, INVALID, "invalid_json")
        assert_error(call(gateway, "POST", f"/v1/auth/{path}", {}, b""), 400, INVALID, "invalid_json")
        assert_error(call(gateway, "GET", f"/v1/auth/{path}"), 405, INVALID, "method_not_allowed")


def test_no_password_and_no_token_is_logged(gateway, bob):
    session = log_in(gateway, bob.email, organization=None).json
    refresh(gateway, session["refresh_token"])
    refresh(gateway, session["refresh_token"])
    log_in(gateway, bob.email, "wrong-horse-9")
    logged = gateway.log.read_text()
    for secret in (PASSWORD, "wrong-horse-9", session["access_token"], session["refresh_token"]):
        assert secret not in logged


# --- Guessing ---------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch):
    """How many passwords were hashed."""
    counted = Counter()
    for name in ("encode", "verify"):
        monkeypatch.setattr(Argon2PasswordHasher, name, counting(counted, getattr(Argon2PasswordHasher, name)))
    return counted


def counting(counted, original):
    def counts(self, *arguments, **options):
        counted["hashes"] += 1
        return original(self, *arguments, **options)

    return counts


def test_everybody_is_the_same_work(bob, hashed, client):
    inactive, without = new_user(), User.objects.create_user(f"{os.urandom(6).hex()}@example.org")
    User.objects.filter(pk=inactive.pk).update(is_active=False)
    for email in (bob.email, "nobody@example.org", inactive.email, without.email):
        hashed.clear()
        answer = client.post("/v1/auth/token", {"email": email, "password": "wrong"}, "application/json")
        assert (answer.status_code, hashed["hashes"]) == (401, 1), email


def test_after_ten_failures_an_address_waits_whatever_the_password(gateway, bob, charlie):
    for _ in range(10):
        assert log_in(gateway, bob.email, "wrong").status == 401
    for password in ("wrong", PASSWORD):
        answer = log_in(gateway, bob.email, password)
        wait_s = int(answer.headers["retry-after"])
        assert 890 <= wait_s <= 900
        message = f"Too many failed log-ins: try again in {wait_s} s."
        assert_error(answer, 429, "rate_limit_error", "rate_limit_exceeded", None, message)
    assert log_in(gateway, bob.email.upper()).status == 429
    assert log_in(gateway, charlie.email).status == 200


def test_an_address_nobody_has_waits_as_well(gateway, live_db):
    statuses = [log_in(gateway, "nobody-at-all@example.org").status for _ in range(11)]
    assert statuses == [401] * 10 + [429]


def test_the_wait_ends_with_its_window(gateway, bob):
    LogInThrottle.objects.bulk_create(full(bob.email))
    assert log_in(gateway, bob.email).status == 429
    LogInThrottle.objects.update(window_started_at=F("window_started_at") - timedelta(seconds=throttle.WINDOW_S))
    assert log_in(gateway, bob.email).status == 200


def full(email, attempts=10):
    subject, _ = throttle.limits_of(email, "127.0.0.1")
    return [LogInThrottle(subject=subject, attempts=attempts, window_started_at=timezone.now())]


def test_a_success_takes_back_its_own_count_and_no_more(gateway, bob):
    LogInThrottle.objects.bulk_create(full(bob.email, 9))
    for _ in range(3):
        assert log_in(gateway, bob.email).status == 200
    assert log_in(gateway, bob.email, "wrong").status == 401
    assert log_in(gateway, bob.email).status == 429


def test_a_client_address_waits_after_a_hundred_failures(gateway, bob):
    for number in range(100):
        throttle.count_attempt(f"guess-{number}@example.org", "127.0.0.1")
    assert log_in(gateway, bob.email).status == 429
    throttle.count_attempt(bob.email, "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        throttle.count_attempt("one-more@example.org", "127.0.0.1")


def test_guesses_at_the_same_moment_are_counted_one_by_one(gateway, bob):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: log_in(gateway, bob.email, "wrong").status, range(16)))
    assert Counter(answers) == {401: 10, 429: 6}


def test_log_ins_at_the_same_moment_do_not_block_each_other(gateway, bob):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: log_in(gateway, bob.email).status, range(24)))
    assert Counter(answers) == {200: 24}
    assert set(LogInThrottle.objects.values_list("attempts", flat=True)) == {0}


def test_what_a_client_claims_about_its_address_is_not_believed(gateway, bob):
    for number in range(100):
        throttle.count_attempt(f"guess-{number}@example.org", "127.0.0.1")
    body = json.dumps({"email": bob.email, "password": PASSWORD}).encode()
    assert call(gateway, "POST", "/v1/auth/token", {"x-forwarded-for": "192.0.2.7"}, body).status == 429


def test_behind_a_proxy_its_word_counts(client, settings, bob):
    settings.PROXY_COUNT = 1
    for number in range(100):
        throttle.count_attempt(f"guess-{number}@example.org", "192.0.2.7")
    body = {"email": bob.email, "password": PASSWORD}
    for claimed, status in (("192.0.2.7", 429), ("192.0.2.8, 192.0.2.7", 429), ("192.0.2.7, 192.0.2.8", 200)):
        answer = client.post("/v1/auth/token", body, "application/json", headers={"x-forwarded-for": claimed})
        assert answer.status_code == status


# --- Renew ------------------------------------------------------------------------------------------


def test_a_renewal_gives_two_new_tokens(gateway, alice, bob):
    first = log_in(gateway, bob.email).json
    answer = refresh(gateway, first["refresh_token"])
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    second = answer.json
    assert list(second) == list(first)
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    for token in (first["access_token"], second["access_token"]):
        assert credits(gateway, token).status == 200
    assert TokenFamily.objects.filter(user=bob.user).count() == 1


def test_a_used_refresh_token_ends_the_whole_family(gateway, bob):
    first = bob.begin_session()
    other = bob.begin_session()
    second = sessions.renew(first.refresh_token)
    assert post(gateway, Bearer(second.access_token), {}).status == 400  # the async lane knows it
    answer = refresh(gateway, first.refresh_token)
    assert_error(answer, 401, "authentication_error", "invalid_token", None, USED)
    assert_ended(gateway, second)
    wait_refused(gateway, first.access_token)
    assert credits(gateway, first.access_token).status == 401
    assert refresh(gateway, other.refresh_token).status == 200  # another log-in is another family


def test_of_renewals_at_the_same_moment_one_wins_and_the_family_ends(gateway, bob):
    session = bob.begin_session()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: refresh(gateway, session.refresh_token), range(8)))
    assert Counter(answer.status for answer in answers) == {200: 1, 401: 7}
    [won] = [answer.json for answer in answers if answer.status == 200]
    assert_error(refresh(gateway, won["refresh_token"]), 401, "authentication_error", "invalid_token", None, ENDED)


def test_the_role_is_the_one_of_today(gateway, bob):
    session = bob.begin_session()
    Membership.objects.filter(pk=bob.membership.pk).update(role="viewer")
    body = refresh(gateway, session.refresh_token).json
    assert body["role"] == "viewer"
    assert jwt.decode(body["access_token"], options={"verify_signature": False})["role"] == "viewer"


def test_an_expired_refresh_token_is_told_apart(gateway, bob):
    session = bob.begin_session()
    RefreshToken.objects.filter(family__user=bob.user).update(expires_at=timezone.now())
    message = "This refresh token has expired: log in again."
    answer = refresh(gateway, session.refresh_token)
    assert_error(answer, 401, "authentication_error", "expired_token", None, message)


def test_a_refresh_token_lives_thirty_days(bob):
    bob.begin_session()
    life = RefreshToken.objects.get(family__user=bob.user).expires_at - timezone.now()
    assert timedelta(days=29, hours=23, minutes=59) < life <= timedelta(days=30)


def test_a_suspended_organization_renews_nothing_and_uses_nothing_up(gateway, alice, bob):
    session = bob.begin_session()
    suspend(alice.organization_id)
    assert_error(refresh(gateway, session.refresh_token), 403, "permission_error", "organization_suspended")
    reactivate(alice.organization_id)
    assert refresh(gateway, session.refresh_token).status == 200


def test_who_left_or_may_not_log_in_renews_nothing(gateway, alice, bob):
    session = bob.begin_session()
    User.objects.filter(pk=bob.user.pk).update(is_active=False)
    assert_error(refresh(gateway, session.refresh_token), 401, "authentication_error", "invalid_token", None, ENDED)
    User.objects.filter(pk=bob.user.pk).update(is_active=True)
    bob.membership.delete()
    assert_error(refresh(gateway, session.refresh_token), 401, "authentication_error", "invalid_token", None, ENDED)


def test_what_is_no_refresh_token_of_ours_renews_nothing(gateway, alice, bob):
    session = bob.begin_session()
    wrong = session.refresh_token[:-1] + ("A" if session.refresh_token[-1] != "A" else "B")
    for token in (wrong, session.access_token[:256], alice.api_key, "rt-quantized-", "\x00", "é" * 43, "x"):
        answer = refresh(gateway, token)
        assert_error(answer, 401, "authentication_error", "invalid_token", None, NOT_OURS)
    assert refresh(gateway, session.refresh_token).status == 200


def test_a_refresh_token_opens_nothing_else(gateway, bob):
    session = bob.begin_session()
    for answer in (credits(gateway, session.refresh_token), post(gateway, Bearer(session.refresh_token), chat())):
        assert_error(answer, 401, "authentication_error", "invalid_api_key")


# --- End --------------------------------------------------------------------------------------------


def test_a_revoked_session_has_ended(gateway, bob):
    session = bob.begin_session()
    assert post(gateway, Bearer(session.access_token), {}).status == 400  # the async lane knows it
    answer = revoke(gateway, session.refresh_token)
    assert (answer.status, answer.json) == (200, {"object": "session", "revoked": True})
    assert_ended(gateway, session)
    assert revoke(gateway, session.refresh_token).status == 200


def test_any_refresh_token_of_a_session_ends_it(gateway, bob):
    first = bob.begin_session()
    second = sessions.renew(first.refresh_token)
    assert revoke(gateway, first.refresh_token).status == 200
    assert_ended(gateway, second)


def test_a_token_that_is_none_ends_nothing(gateway, bob, charlie):
    session = bob.begin_session()
    for token in ("x", session.access_token[:256], charlie.begin_session().refresh_token):
        assert revoke(gateway, token).json == {"object": "session", "revoked": True}
    assert credits(gateway, session.access_token).status == 200
    assert refresh(gateway, session.refresh_token).status == 200


def test_a_new_password_ends_the_sessions_of_the_old_one(gateway, bob, charlie):
    session, his = bob.begin_session(), charlie.begin_session()
    assert post(gateway, Bearer(session.access_token), {}).status == 400  # the async lane knows it
    bob.user.set_password("another-horse-2")
    bob.user.save()
    assert_ended(gateway, session)
    assert credits(gateway, his.access_token).status == 200


# --- The keys ---------------------------------------------------------------------------------------


def published(gateway):
    answer = call(gateway, "GET", "/.well-known/jwks.json")
    assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=300")
    return answer.json


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def test_the_public_keys_are_public(gateway, live_db):
    kid, _ = signing_keys.active()
    first, *_ = published(gateway)["keys"]
    assert first == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": SigningKey.objects.get(pk=kid).public_key,
        "kid": kid,
        "alg": "EdDSA",
        "use": "sig",
    }
    assert len(first["x"]) == 43


def test_only_reading_is_allowed(gateway, live_db):
    assert_error(call(gateway, "POST", "/.well-known/jwks.json"), 405, INVALID, "method_not_allowed")


def test_an_old_key_verifies_until_its_last_token_is_over(gateway, bob):
    old = bob.begin_session()
    assert post(gateway, Bearer(old.access_token), {}).status == 400
    told = rotated()
    new = bob.begin_session()
    assert (kid_of(new.access_token), told["still_accepted"][0]) == (told["kid"], kid_of(old.access_token))
    assert [key["kid"] for key in published(gateway)["keys"]][:2] == [told["kid"], kid_of(old.access_token)]
    for session in (old, new):
        assert credits(gateway, session.access_token).status == 200
        assert post(gateway, Bearer(session.access_token), {}).status == 400
    SigningKey.objects.filter(pk=kid_of(old.access_token)).update(retired_at=timezone.now() - timedelta(seconds=930))
    assert kid_of(old.access_token) not in [key["kid"] for key in published(gateway)["keys"]]
    wait_refused(gateway, old.access_token)
    for session, credits_status, chat_status in ((old, 401, 401), (new, 200, 400)):
        assert credits(gateway, session.access_token).status == credits_status
        assert post(gateway, Bearer(session.access_token), {}).status == chat_status
    assert refresh(gateway, old.refresh_token).status == 200  # a session is not bound to a key


def rotated(*options):
    out = StringIO()
    call_command("rotatesigningkey", "--json", *options, stdout=out)
    return json.loads(out.getvalue())


def test_after_a_leak_old_keys_are_refused_at_once(gateway, bob):
    session = bob.begin_session()
    assert post(gateway, Bearer(session.access_token), {}).status == 400
    told = rotated("--refuse-old")
    assert told["still_accepted"] == []
    assert [key["kid"] for key in published(gateway)["keys"]] == [told["kid"]]
    wait_refused(gateway, session.access_token)
    message = "This access token was not issued by this server."
    for answer in (credits(gateway, session.access_token), post(gateway, Bearer(session.access_token), chat())):
        assert_error(answer, 401, "authentication_error", "invalid_token", None, message)
    assert credits(gateway, refresh(gateway, session.refresh_token).json["access_token"]).status == 200
