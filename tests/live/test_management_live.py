"""Keys and usage on the real server, by a member who logged in: what is managed here, calls obey at once."""

import csv
import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import httpx
import pytest
from django.db.models import Sum

from accounts.models import ApiKey
from billing.models import Entry
from tests.kit import MODEL
from tests.kit.conversations import CONVERSATIONS
from tests.kit.live import Server
from tests.kit.tenants import Tenant, wait_closed

TEXT = CONVERSATIONS["text"].request


@pytest.fixture
def owner(gateway: Server, alice: Tenant) -> Iterator[httpx.Client]:
    """alice herself, logged in."""
    with client_of(gateway, alice) as api:
        yield api


@pytest.fixture
def outsider(gateway: Server, charlie: Tenant) -> Iterator[httpx.Client]:
    """charlie, logged in."""
    with client_of(gateway, charlie) as api:
        yield api


def client_of(gateway: Server, member: Tenant) -> httpx.Client:
    headers = {"Authorization": f"Bearer {member.begin_session().access_token}"}
    return httpx.Client(base_url=gateway.base_url, headers=headers)


def make_key(owner: httpx.Client, **settings: Any) -> dict[str, Any]:
    answer = owner.post("/keys", json=settings)
    assert answer.status_code == 201, answer.text
    return answer.json()


def ask(gateway: Server, token: str, **fields: Any) -> httpx.Response:
    headers = {"Authorization": token if token.startswith("Bearer") else f"Bearer {token}"}
    return httpx.post(
        f"{gateway.base_url}/chat/completions", headers=headers, json={**TEXT, "max_tokens": 32, **fields}
    )


def code(answer: httpx.Response) -> str:
    return "" if answer.status_code == 200 else answer.json()["error"]["code"]


def within_a_second(told: Callable[[], str], expected: str) -> bool:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if told() == expected:
            return True
    return False


def test_a_new_key_calls_at_once(gateway: Server, owner: httpx.Client):
    key = make_key(owner, name="ci", models=[MODEL])
    assert ask(gateway, key["api_key"]).status_code == 200
    (listed,) = [each for each in owner.get("/keys").json()["data"] if each["id"] == key["id"]]
    own = httpx.get(f"{gateway.base_url}/key", headers={"Authorization": f"Bearer {key['api_key']}"}).json()
    assert listed["usage"]["total"] == own["usage"]["total"] == 1979
    assert set(listed) == set(own) == set(key) - {"api_key"}


def test_what_is_changed_holds_for_the_next_calls(gateway: Server, owner: httpx.Client):
    key = make_key(owner, limit=100_000, limit_period="day")
    path, secret = f"/keys/{key['id']}", key["api_key"]
    assert code(ask(gateway, secret)) == ""
    owner.patch(path, json={"limit": 2000})
    assert code(ask(gateway, secret)) == "insufficient_credits"
    owner.patch(path, json={"limit": None})
    assert code(ask(gateway, secret)) == ""
    owner.patch(path, json={"models": ["a/b"]})
    assert within_a_second(lambda: code(ask(gateway, secret)), "model_not_allowed")
    owner.patch(path, json={"models": None})
    assert within_a_second(lambda: code(ask(gateway, secret)), "")
    owner.patch(path, json={"rate_limits": {"requests_per_minute": 1}})
    assert within_a_second(lambda: code(ask(gateway, secret)), "rate_limit_exceeded")
    owner.delete(path)
    assert within_a_second(lambda: code(ask(gateway, secret)), "revoked_api_key")


def test_a_rotated_key_works_until_its_overlap_is_over(gateway: Server, owner: httpx.Client):
    old = make_key(owner, name="ci")
    new = owner.post(f"/keys/{old['id']}/rotate", json={"overlap_seconds": 60}).json()
    assert [code(ask(gateway, key["api_key"])) for key in (old, new)] == ["", ""]
    last = owner.post(f"/keys/{new['id']}/rotate", json={"overlap_seconds": 0}).json()
    assert within_a_second(lambda: code(ask(gateway, new["api_key"])), "expired_api_key")
    assert code(ask(gateway, last["api_key"])) == ""


def test_usage_is_the_ledgers_to_the_micro_credit(gateway: Server, alice: Tenant, owner: httpx.Client):
    key = make_key(owner, name="ci")
    assert [code(ask(gateway, token)) for token in (key["api_key"], owner.headers["Authorization"])] == ["", ""]
    ask(gateway, key["api_key"], user="sandbox:fault=http:500")
    ask(gateway, key["api_key"], user="sandbox:usage=missing")
    wait_closed(alice)
    entries = Entry.objects.filter(wallet_id=alice.organization_id, kind__in=("usage", "late_usage", "correction"))
    taken = -entries.aggregate(total=Sum("amount"))["total"]
    for group_by in ("day", "hour", "model", "key", "member"):
        told = owner.get("/usage", params={"group_by": group_by, "time_zone": "Asia/Kolkata"}).json()
        rows = owner.get("/usage", params={"group_by": group_by, "time_zone": "Asia/Kolkata", "format": "csv"}).text
        assert told["total"]["credits_used"] == taken == 1979 + 1979 + 2358
        assert (told["total"]["requests"], told["total"]["errors"]) == (4, 1)
        assert sum(int(row["credits_used"]) for row in csv.DictReader(StringIO(rows))) == taken
    assert owner.get("/credits").json()["credits_used"] == taken
    keys = {row["name"]: row["credits_used"] for row in owner.get("/usage?group_by=key").json()["data"]}
    assert keys == {"ci": 1979 + 2358, None: 1979}
    members = {row["name"]: row["credits_used"] for row in owner.get("/usage?group_by=member").json()["data"]}
    assert sorted(members.values()) == [1979, 1979 + 2358]
    assert members[None] == 1979 + 2358
    own = httpx.get(f"{gateway.base_url}/usage", headers={"Authorization": f"Bearer {key['api_key']}"}).json()
    assert own["total"]["credits_used"] == 1979 + 2358


@pytest.mark.parametrize("role", ["admin", "developer", "billing", "viewer"])
def test_what_a_role_may(gateway: Server, alice: Tenant, role: str):
    with client_of(gateway, alice.member(role)) as colleague:
        answers = [colleague.get(path) for path in ("/usage", "/credits", "/keys")]
    assert [code(answer) for answer in answers] == ["", "", "" if role == "admin" else "role"]


def test_charlie_reaches_nothing_of_alices(gateway: Server, alice: Tenant, owner: httpx.Client, outsider: httpx.Client):
    key = make_key(owner, name="alice's")
    assert ask(gateway, key["api_key"]).status_code == 200
    wait_closed(alice)
    before = ApiKey.objects.filter(organization_id=alice.organization_id).order_by("pk").values()[::1]
    path = f"/keys/{key['id']}"
    attempts = [
        outsider.get(path),
        outsider.patch(path, json={"name": "stolen"}),
        outsider.delete(path),
        outsider.post(f"{path}/rotate"),
        outsider.get("/keys", params={"after": key["id"]}),
    ]
    assert [(answer.status_code, code(answer)) for answer in attempts] == [(404, "not_found")] * 5
    assert key["id"] not in outsider.get("/keys", params={"include_revoked": "true"}).text
    for group_by in ("day", "model", "key", "member"):
        told = outsider.get("/usage", params={"group_by": group_by})
        assert told.json()["total"]["requests"] == 0
        assert key["id"] not in told.text
    after = ApiKey.objects.filter(organization_id=alice.organization_id).order_by("pk").values()[::1]
    assert [row | {"last_used_at": None} for row in after] == [row | {"last_used_at": None} for row in before]
    assert ask(gateway, key["api_key"]).status_code == 200


def test_the_documents_are_for_everybody(gateway: Server):
    assert httpx.get(f"{gateway.origin}/openapi.json").json()["openapi"] == "3.1.0"
    page = httpx.get(f"{gateway.origin}/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        address = f"{gateway.origin}/static/drf_spectacular_sidecar/swagger-ui-dist/{name}"
        assert address.removeprefix(gateway.origin) in page.text
        assert httpx.get(address).status_code == 200
    assert httpx.get(f"{gateway.origin}/static/quantized/docs.js").status_code == 200
