"""Keys in the dashboard: the list, one that is made and shown once, its limits, rotation, revocation, and who may."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiKey
from accounts.services import revoke_key
from quantized.dashboard.keys import PAGE_KEYS
from tests.kit.dashboard import call, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

FUTURE = datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def credits_micro() -> int:
    return 1_000_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


def once(client: Client, address: str) -> str:
    return re.findall(r'name="once" value="([^"]+)"', client.get(address).content.decode())[0]


def make(client: Client, **fields: Any) -> Any:
    return client.post("/keys/new", {"once": once(client, "/keys/new"), **fields})


def shown_key(page: Any) -> str:
    [api_key] = set(re.findall(r"sk-quantized-\w{30,}", page.content.decode()))
    return api_key


# --- The list ---------------------------------------------------------------------------------------


def test_keys_are_listed_masked_with_state_limit_and_what_is_used(alice: Tenant, owner: Client):
    key_id = alice.key(
        name="nightly",
        prefix="sk-quantized-abc",
        last_four="wxyz",
        limit_micro=50_000_000,
        limit_period="month",
        models=["a/x", "b/y"],
    )
    call(alice, 12_500_000, key=key_id)
    alice.key(name="brief", expires_at=datetime.now(UTC) + timedelta(days=1, minutes=1))
    revoke_key(alice.key(name="lost"))
    page = owner.get("/keys")
    assert "nightly 2 models sk-quantized-abc…wxyz active 12.5 of 50 a month 12.5 never just now Rotate Revoke" in text(
        page
    )
    assert '<progress class="meter" max="100" value="25"' in page.content.decode()
    assert "ends in 1 day no limit 0 never" in text(page)
    assert "lost" not in text(page)
    assert re.search(r"lost … revoked no limit", text(owner.get("/keys", {"ended": "1"})))


def test_an_expired_key_is_said_to_be_expired(alice: Tenant, owner: Client):
    ApiKey.objects.filter(pk=alice.key(name="old")).update(expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert re.search(r"old … expired", text(owner.get("/keys")))


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("night", "nightly"),
        ("NIGHT", "nightly"),
        ("wxyz", "nightly"),
        ("sk-quantized-abc", "nightly"),
        ("sk-quantized-abc…wxyz", "nightly"),
        ("sk-quantized-abc…wxyy", ""),
        ("wxy", ""),
        ("%", ""),
    ],
)
def test_a_key_is_found_by_what_people_see_of_it(search: str, found: str, alice: Tenant, owner: Client):
    alice.key(name="nightly", prefix="sk-quantized-abc", last_four="wxyz")
    alice.key(name="bot", prefix="sk-quantized-def", last_four="1234")
    page = text(owner.get("/keys", {"q": search}))
    assert ("nightly" in page) == (found == "nightly")
    assert "bot" not in page
    assert ("No key matches" in page) == (not found)


def test_many_keys_are_paged_and_the_search_stays(alice: Tenant, owner: Client):
    for number in range(PAGE_KEYS + 5):
        alice.key(name=f"key {number}")
    page = owner.get("/keys", {"q": "key"})
    assert "1–50 of 55" in text(page)
    assert "?q=key&amp;page=2" in page.content.decode()
    assert "51–55 of 55" in text(owner.get("/keys", {"q": "key", "page": "2"}))


def test_without_a_key_the_page_says_how_to_get_one(alice: Tenant, owner: Client):
    assert "No key yet Make one, and call the API with it. New key" in text(owner.get("/keys"))
    assert "ask one of yours" in text(alice.member("developer").client.get("/keys"))


# --- A new one --------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_with_what_was_asked(alice: Tenant, owner: Client):
    page = make(
        owner,
        name="ci",
        limit="12.5",
        limit_period="week",
        models="a/x\nb/y\n",
        expires_on=f"{FUTURE:%Y-%m-%d}",
        requests_per_minute="60",
        concurrency="4",
    )
    api_key = shown_key(page)
    key = ApiKey.objects.get(organization_id=alice.organization_id)
    assert (key.name, key.limit_micro, key.limit_period, key.models) == ("ci", 12_500_000, "week", ["a/x", "b/y"])
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrency) == (60, None, 4)
    assert key.expires_at == datetime(FUTURE.year, FUTURE.month, FUTURE.day, tzinfo=UTC) + timedelta(days=1)
    assert key.created_by is not None
    assert key.created_by.email == "alice@example.org"
    assert (key.prefix, key.last_four) == (api_key[: len(key.prefix)], api_key[-4:])
    assert page.headers["cache-control"] == "no-store"
    assert "I stored it" in text(page)
    assert api_key not in owner.get("/keys").content.decode()
    assert not any(api_key in str(value) for value in owner.session.items())


def test_the_last_day_ends_on_the_viewers_clocks(alice: Tenant, owner: Client):
    owner.cookies["tz"] = "Pacific/Auckland"
    make(owner, expires_on="2999-06-30")
    key = ApiKey.objects.get(organization_id=alice.organization_id)
    assert key.expires_at == datetime(2999, 6, 30, 12, tzinfo=UTC)
    assert 'value="2999-06-30"' in owner.get(f"/keys/{key.pk}").content.decode()


def test_a_form_makes_one_key_however_often_it_is_sent(alice: Tenant, owner: Client):
    token = once(owner, "/keys/new")
    owner.post("/keys/new", {"once": token, "name": "ci"})
    for again in (token, "", "ä"):
        page = owner.post("/keys/new", {"once": again, "name": "ci"}, follow=True)
        assert "This form was sent before" in text(page)
    assert ApiKey.objects.filter(organization_id=alice.organization_id).count() == 1


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"limit": "5"}, "limit_period", "Choose the period of the limit."),
        ({"limit_period": "day"}, "limit", "Say how many credits."),
        ({"limit": "0", "limit_period": "day"}, "limit", "Ensure this value is greater than or equal to 0.000001."),
        ({"limit": "1e30", "limit_period": "day"}, "limit", "Ensure that there are no more than"),
        ({"limit": "9999999999999", "limit_period": "day"}, "limit", "Must be between 1 and 9223372036854775807"),
        ({"expires_on": "2001-01-01"}, "expires_on", "Must be in the future"),
        ({"expires_on": "soon"}, "expires_on", "Enter a valid date."),
        ({"name": "a\x07b"}, "name", "Must not contain control characters."),
        ({"concurrency": "-1"}, "concurrency", "greater than or equal to 1"),
        ({"requests_per_minute": "3000000000"}, "requests_per_minute", "Must be between 1 and 2147483647"),
        ({"models": "x" * 201}, "models", "Must have at most 200 characters"),
    ],
)
def test_a_refusal_stands_beside_its_field_and_keeps_what_was_typed(
    fields: dict[str, str], field: str, says: str, alice: Tenant, owner: Client
):
    page = make(owner, **{"tokens_per_minute": "777", **fields})
    assert page.status_code == 422
    html = page.content.decode()
    [problem] = re.findall(rf'id="id_{field}_error" role="alert">([^<]*)', html)
    assert says in problem.replace("&#x27;", "'")
    assert re.search(rf'id="id_{field}"[^>]* aria-invalid="true"|aria-invalid="true"[^>]* id="id_{field}"', html)
    assert 'value="777"' in html
    assert not ApiKey.objects.exists()


# --- One of them ------------------------------------------------------------------------------------


def test_what_is_changed_is_saved_and_what_is_cleared_is_gone(alice: Tenant, owner: Client):
    key_id = alice.key(name="ci", limit_micro=5_000_001, limit_period="day", models=["a/x"], concurrency=3)
    ApiKey.objects.filter(pk=key_id).update(expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    html = owner.get(f"/keys/{key_id}").content.decode()
    assert 'value="5.000001"' in html
    unchanged = {"limit": "5.000001", "limit_period": "day", "expires_on": "2000-12-31", "concurrency": "3"}
    page = owner.post(f"/keys/{key_id}", {"name": "ci 2", "models": "a/x", **unchanged}, follow=True)
    assert "Saved. It holds for the next call." in text(page)
    key = ApiKey.objects.get(pk=key_id)
    assert (key.name, key.limit_micro, key.limit_period, key.models, key.concurrency) == (
        "ci 2",
        5_000_001,
        "day",
        ["a/x"],
        3,
    )
    assert key.expires_at == datetime(2001, 1, 1, tzinfo=UTC)
    owner.post(f"/keys/{key_id}", {"name": ""})
    key = ApiKey.objects.get(pk=key_id)
    assert (key.name, key.limit_micro, key.limit_period, key.models, key.concurrency, key.expires_at) == (
        "",
        None,
        None,
        None,
        None,
        None,
    )


def test_a_limit_of_noughts_is_shown_as_people_write_it(alice: Tenant, owner: Client):
    key_id = alice.key(limit_micro=100_000_000, limit_period="day")
    assert 'value="100"' in owner.get(f"/keys/{key_id}").content.decode()


def test_rotation_gives_a_new_key_while_the_old_one_works_on(alice: Tenant, owner: Client):
    key_id = alice.key(name="ci", limit_micro=5, limit_period="day")
    address = f"/keys/{key_id}/rotate"
    assert "The old key stops working" in text(owner.get(address))
    token = once(owner, address)
    page = owner.post(address, {"overlap": "3600", "once": token})
    new = ApiKey.objects.exclude(pk=key_id).get()
    assert shown_key(page)[-4:] == new.last_four
    assert (new.name, new.limit_micro) == ("ci", 5)
    old = ApiKey.objects.get(pk=key_id)
    assert old.expires_at is not None
    assert timedelta(minutes=59) < old.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert "This form was sent before" in text(owner.post(address, {"overlap": "3600", "once": token}, follow=True))
    assert owner.post(address, {"overlap": "5", "once": once(owner, address)}).status_code == 404
    assert ApiKey.objects.count() == 2


def test_a_key_that_has_ended_is_not_rotated(alice: Tenant, owner: Client):
    key_id = alice.key()
    revoke_key(key_id)
    address = f"/keys/{key_id}/rotate"
    page = owner.post(address, {"overlap": "0", "once": once(owner, address)}, follow=True)
    assert "This key has ended and cannot be rotated" in text(page)
    assert ApiKey.objects.count() == 1


def test_revoking_says_what_it_does_and_asks_once(alice: Tenant, owner: Client):
    key_id = alice.key(name="ci", prefix="sk-quantized-abc", last_four="wxyz")
    asked = text(owner.get(f"/keys/{key_id}/revoke"))
    assert "Revoke ci? sk-quantized-abc…wxyz" in asked
    assert "Every program that uses it is refused within a second. This cannot be taken back." in asked
    assert ApiKey.objects.get(pk=key_id).revoked_at is None
    page = owner.post(f"/keys/{key_id}/revoke", follow=True)
    assert "ci sk-quantized-abc…wxyz is revoked." in text(page)
    assert ApiKey.objects.get(pk=key_id).revoked_at is not None


# --- Who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_only_owners_and_admins_manage_keys(role: str, alice: Tenant):
    key_id = alice.key(name="ci")
    before = list(ApiKey.objects.values())
    member = alice.member(role).client
    for address in ("/keys/new", f"/keys/{key_id}", f"/keys/{key_id}/rotate", f"/keys/{key_id}/revoke"):
        for page in (member.get(address), member.post(address, {"overlap": "0", "once": "x", "name": "mine"})):
            assert page.status_code == 403
            assert "An owner or admin of your organization can change that." in text(page)
    listed = text(member.get("/keys"))
    assert "ci" in listed
    assert "Rotate" not in listed
    assert "New key" not in listed
    assert list(ApiKey.objects.values()) == before


def test_an_admin_may_as_an_owner(alice: Tenant):
    assert shown_key(make(alice.member("admin").client, name="ci"))
