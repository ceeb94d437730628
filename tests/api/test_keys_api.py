"""`/v1/keys` by a member's access token: exact shapes, who may, what holds at once, and what outsider cannot do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import ApiKey
from accounts.services import issue_key, revoke_key
from billing.ledger import journal
from billing.ledger.commands import Held, Refused, Reserve
from tests.kit.books import make_hold_id, price_id
from tests.kit.tenants import Cast

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NO_RATE_LIMITS = {"requests_per_minute": None, "tokens_per_minute": None, "concurrency": None}
CONTROL = "tab\there"


@pytest.fixture
def credits_micro() -> int:
    return 0


@pytest.fixture
def owner(cast: Cast) -> APIClient:
    return cast.alice.api


@pytest.fixture
def outsider(cast: Cast) -> APIClient:
    return cast.charlie.api


def make(client: APIClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/keys", fields, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def change(client: APIClient, key_id: str, **fields: Any) -> dict[str, Any]:
    answer = client.patch(f"/v1/keys/{key_id}", fields, format="json")
    assert answer.status_code == 200, answer.content
    return answer.json()


def rotate(client: APIClient, key_id: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/keys/{key_id}/rotate", fields, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def listed(client: APIClient, **query: Any) -> list[str]:
    answer = client.get("/v1/keys", query)
    assert answer.status_code == 200, answer.content
    return [key["name"] for key in answer.json()["data"]]


def error(answer: Any) -> tuple[int, str, str | None, str]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told["param"], told["message"]


def works(api_key: str) -> int:
    return APIClient(headers={"authorization": f"Bearer {api_key}"}).get("/v1/key").status_code


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def everything() -> list[dict[str, Any]]:
    return list(ApiKey.objects.order_by("pk").values())


# --- Making and listing -------------------------------------------------------------------------


def test_a_new_key_is_told_once_and_works(owner: APIClient, cast: Cast):
    told = make(owner)
    api_key = told.pop("api_key")
    assert keys.well_formed(api_key)
    assert timedelta(0) <= datetime.now(UTC) - moment(told.pop("created_at")) < timedelta(minutes=1)
    row = ApiKey.objects.get()
    assert told == {
        "object": "key",
        "id": str(row.pk),
        "name": "",
        "prefix": api_key[:16],
        "last_four": api_key[-4:],
        "organization": str(cast.alice.organization_id),
        "last_used_at": None,
        "expires_at": None,
        "revoked_at": None,
        "limit": None,
        "limit_period": None,
        "limit_remaining": None,
        "limit_resets_at": None,
        "usage": {"day": 0, "week": 0, "month": 0, "total": 0},
        "models": None,
        "rate_limits": NO_RATE_LIMITS,
    }
    assert (row.organization, row.created_by) == (cast.alice.organization, cast.alice.user)
    assert works(api_key) == 200
    again = owner.get(f"/v1/keys/{row.pk}")
    assert "api_key" not in again.json()
    assert api_key[16:-4] not in again.content.decode()


def test_a_new_key_takes_every_setting(owner: APIClient):
    told = make(
        owner,
        name=" nightly ",
        limit=5_000_000,
        limit_period="total",
        models=["a/b", "c/d", "a/b"],
        expires_at="2999-12-31T12:00:00+02:00",
        rate_limits={"requests_per_minute": 60, "tokens_per_minute": 100_000, "concurrency": 4},
    )
    assert (told["name"], told["models"]) == ("nightly", ["a/b", "c/d"])
    assert (told["limit"], told["limit_period"]) == (5_000_000, "total")
    assert (told["limit_remaining"], told["limit_resets_at"]) == (5_000_000, None)
    assert told["expires_at"] == "2999-12-31T10:00:00Z"
    assert told["rate_limits"] == {"requests_per_minute": 60, "tokens_per_minute": 100_000, "concurrency": 4}
    row = ApiKey.objects.get()
    assert (row.limit_micro, row.concurrency, row.expires_at) == (5_000_000, 4, datetime(2999, 12, 31, 10, tzinfo=UTC))


def test_null_is_no_limit(owner: APIClient):
    told = make(owner, limit=None, limit_period=None, models=None, expires_at=None, rate_limits=None)
    assert (told["limit"], told["models"], told["rate_limits"]) == (None, None, NO_RATE_LIMITS)
    assert make(owner, rate_limits={"concurrency": None})["rate_limits"] == NO_RATE_LIMITS


def test_the_list_is_the_organizations_newest_first(owner: APIClient, outsider: APIClient):
    for name in ("one", "two", "three"):
        make(owner, name=name)
    make(outsider, name="other")
    answer = owner.get("/v1/keys").json()
    assert list(answer) == ["object", "data", "has_more"]
    assert (answer["object"], answer["has_more"]) == ("list", False)
    assert [key["name"] for key in answer["data"]] == ["three", "two", "one"]
    assert answer["data"][0] == owner.get(f"/v1/keys/{answer['data'][0]['id']}").json()
    assert listed(outsider) == ["other"]


def test_the_list_comes_in_pages(owner: APIClient, cast: Cast):
    for number in range(5):
        issue_key(cast.alice.organization, f"key {number}")
    moment_of_all = datetime(2026, 1, 1, tzinfo=UTC)
    ApiKey.objects.update(created_at=moment_of_all)  # as made in one transaction: the id decides
    seen: list[str] = []
    after: dict[str, Any] = {}
    for expected, has_more in ((2, True), (2, True), (1, False)):
        page = owner.get("/v1/keys", {"limit": 2, **after}).json()
        assert (len(page["data"]), page["has_more"]) == (expected, has_more)
        seen += [key["name"] for key in page["data"]]
        after = {"after": page["data"][-1]["id"]}
    assert sorted(seen) == [f"key {number}" for number in range(5)]
    assert owner.get("/v1/keys", after).json() == {"object": "list", "data": [], "has_more": False}


def test_a_page_is_of_fifty_unless_told(owner: APIClient, cast: Cast):
    for _ in range(51):
        issue_key(cast.alice.organization)
    assert len(listed(owner)) == 50
    assert len(listed(owner, limit=100)) == 51


def test_revoked_keys_are_listed_only_when_asked_for(owner: APIClient, cast: Cast):
    issue_key(cast.alice.organization, "alive")
    dead, _ = issue_key(cast.alice.organization, "dead")
    revoke_key(dead.pk)
    assert listed(owner) == ["alive"]
    assert listed(owner, include_revoked="false") == ["alive"]
    assert listed(owner, include_revoked="true") == ["dead", "alive"]
    assert listed(owner, after=dead.pk) == ["alive"]


def test_the_list_costs_the_same_queries_for_one_and_for_many(owner: APIClient, cast: Cast, django_assert_num_queries):
    issue_key(cast.alice.organization, limit_micro=5, limit_period="day")
    with django_assert_num_queries(1):
        owner.get("/v1/keys")
    for _ in range(20):
        issue_key(cast.alice.organization, limit_micro=5, limit_period="day")
    with django_assert_num_queries(1):
        assert len(owner.get("/v1/keys").json()["data"]) == 21


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"limit": "0"}, ("out_of_range", "limit", "'limit' must be an integer between 1 and 100.")),
        ({"limit": "101"}, ("out_of_range", "limit", "'limit' must be an integer between 1 and 100.")),
        ({"limit": "x"}, ("invalid_type", "limit", "'limit' must be an integer between 1 and 100, not a string.")),
        ({"after": "x"}, ("out_of_range", "after", "'after' must be the id of a key.")),
        ({"include_revoked": "maybe"}, ("invalid_type", "include_revoked", None)),
        ({"limits": "5"}, ("unknown_field", "limits", "Unknown field: 'limits'. Did you mean 'limit'?")),
        ({"limit": ["5", "6"]}, ("invalid_request", "limit", "'limit' is given 2 times.")),
    ],
)
def test_a_wrong_parameter_of_the_list_is_named(owner: APIClient, query: dict[str, Any], told: tuple[Any, ...]):
    status, code, param, message = error(owner.get("/v1/keys", query))
    assert (status, code, param) == (400, *told[:2])
    assert told[2] in (None, message)


def test_a_page_after_an_unknown_key_is_a_404(owner: APIClient, outsider: APIClient):
    theirs = make(outsider)["id"]
    for unknown in (theirs, str(uuid4())):
        answer = owner.get("/v1/keys", {"after": unknown})
        assert error(answer) == (404, "not_found", "after", "There is no such key.")


# --- Changing -------------------------------------------------------------------------------------


def test_only_what_is_named_changes(owner: APIClient):
    key = make(owner, name="ci", limit=500, limit_period="day", models=["a/b"], rate_limits={"concurrency": 3})
    before = owner.get(f"/v1/keys/{key['id']}").json()
    assert change(owner, key["id"]) == before
    assert change(owner, key["id"], name="cd") == before | {"name": "cd"}
    told = change(owner, key["id"], rate_limits={"requests_per_minute": 9})
    assert told["rate_limits"] == {"requests_per_minute": 9, "tokens_per_minute": None, "concurrency": 3}
    assert change(owner, key["id"], rate_limits=None)["rate_limits"] == NO_RATE_LIMITS
    assert change(owner, key["id"], models=None)["models"] is None
    assert change(owner, key["id"], expires_at="2999-01-01T00:00:00Z")["expires_at"] == "2999-01-01T00:00:00Z"
    assert change(owner, key["id"], expires_at=None)["expires_at"] is None
    assert change(owner, key["id"], name="")["name"] == ""


def test_a_limit_and_its_period_change_apart_or_together(owner: APIClient):
    key_id = make(owner, limit=500, limit_period="day")["id"]

    def told(**changes: Any) -> tuple[Any, ...]:
        key = change(owner, key_id, **changes)
        return key["limit"], key["limit_period"], key["limit_remaining"]

    assert told(limit=400) == (400, "day", 400)
    assert told(limit_period="total") == (400, "total", 400)
    assert told(limit=300, limit_period="week") == (300, "week", 300)
    assert told(limit=None) == (None, None, None)
    assert told(limit=None, limit_period=None) == (None, None, None)


def test_a_limit_without_a_period_is_refused(owner: APIClient):
    with_limit, without = make(owner, limit=500, limit_period="day")["id"], make(owner)["id"]
    before = everything()
    missing_period = (400, "missing_field", "limit_period", "Missing required field: 'limit_period'.")
    missing_limit = (400, "missing_field", "limit", "Missing required field: 'limit'.")
    path = "/v1/keys/{}".format
    assert error(owner.post("/v1/keys", {"limit": 5}, format="json")) == missing_period
    assert error(owner.patch(path(without), {"limit": 5}, format="json")) == missing_period
    assert error(owner.patch(path(with_limit), {"limit_period": None}, format="json")) == missing_period
    assert error(owner.post("/v1/keys", {"limit_period": "day"}, format="json")) == missing_limit
    assert error(owner.patch(path(without), {"limit_period": "day"}, format="json")) == missing_limit
    assert error(owner.patch(path(with_limit), {"limit": None, "limit_period": "day"}, format="json")) == missing_limit
    assert everything() == before


WRONG = [
    ({"name": 5}, "invalid_type", "name", "'name' must be a string of up to 100 characters, not an integer."),
    ({"name": None}, "invalid_type", "name", "'name' must be a string of up to 100 characters, not null."),
    ({"name": "x" * 101}, "out_of_range", "name", "'name' must be a string of up to 100 characters."),
    ({"name": CONTROL}, "out_of_range", "name", "'name' must not contain control characters."),
    ({"name": "\0"}, "out_of_range", "name", "'name' must not contain control characters."),
    ({"name": "  "}, "out_of_range", "name", "'name' must not be empty."),
    ({"limit": 0}, "out_of_range", "limit", None),
    ({"limit": -1}, "out_of_range", "limit", None),
    ({"limit": 2**63}, "out_of_range", "limit", None),
    ({"limit": "5"}, "invalid_type", "limit", None),
    ({"limit": 1.5}, "invalid_type", "limit", None),
    ({"limit": 5, "limit_period": "year"}, "out_of_range", "limit_period", None),
    ({"models": []}, "out_of_range", "models", "'models' must be an array of 1 to 1000 model ids, or null."),
    ({"models": [""]}, "out_of_range", "models[0]", "'models[0]' must be a model id of 1 to 200 characters."),
    ({"models": ["a\nb"]}, "out_of_range", "models", None),
    ({"models": "a/b"}, "invalid_type", "models", None),
    ({"models": [f"m{number}" for number in range(1001)]}, "out_of_range", "models", None),
    ({"expires_at": "soon"}, "out_of_range", "expires_at", None),
    ({"expires_at": "2999-01-01T00:00:00"}, "out_of_range", "expires_at", None),
    ({"expires_at": "2999-01-01"}, "out_of_range", "expires_at", None),
    ({"expires_at": 1}, "invalid_type", "expires_at", None),
    ({"expires_at": "2001-01-01T00:00:00Z"}, "out_of_range", "expires_at", None),
    ({"expires_at": "9999-12-31T23:59:59-12:00"}, "out_of_range", "expires_at", None),
    ({"rate_limits": 5}, "invalid_type", "rate_limits", "'rate_limits' must be an object, or null, not an integer."),
    ({"rate_limits": {"concurrency": 0}}, "out_of_range", "rate_limits.concurrency", None),
    ({"rate_limits": {"concurrency": 2**31}}, "out_of_range", "rate_limits.concurrency", None),
    ({"rate_limits": {"rpm": 5}}, "unknown_field", "rate_limits.rpm", None),
    ({"nam": "x"}, "unknown_field", "nam", "Unknown field: 'nam'. Did you mean 'name'?"),
    ({"model": ["a/b"]}, "unknown_field", "model", "Unknown field: 'model'. Did you mean 'models'?"),
    ({"revoked_at": None}, "unknown_field", "revoked_at", None),
    ({"id": str(UUID(int=1))}, "unknown_field", "id", "Unknown field: 'id'."),
]


@pytest.mark.parametrize(("wrong", "code", "param", "message"), WRONG)
def test_a_wrong_field_is_named_and_nothing_changes(
    owner: APIClient, wrong: dict[str, Any], code: str, param: str, message: str | None
):
    key_id = make(owner)["id"]
    before = everything()
    for send, path in ((owner.post, "/v1/keys"), (owner.patch, f"/v1/keys/{key_id}")):
        status, told_code, told_param, told = error(send(path, wrong, format="json"))
        assert (status, told_code, told_param) == (400, code, param)
        assert message in (None, told)
    assert everything() == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty."),
        (b"{", "The request body is not valid JSON: it is cut off."),
        (b"\xff", "The request body is not valid JSON: invalid character (byte 0)."),
    ],
)
def test_a_body_that_is_no_json_is_refused(owner: APIClient, body: bytes, message: str):
    key_id = make(owner)["id"]
    for send, path in ((owner.post, "/v1/keys"), (owner.patch, f"/v1/keys/{key_id}")):
        answer = send(path, body, content_type="application/json")
        assert error(answer) == (400, "invalid_json", None, message)
    assert ApiKey.objects.count() == 1


def test_a_body_that_is_no_object_is_refused(owner: APIClient):
    assert error(owner.post("/v1/keys", ["x"], format="json")) == (
        400,
        "invalid_type",
        None,
        "The request body must be an object, not an array.",
    )


def test_a_body_beyond_bounds_is_a_413(owner: APIClient):
    huge = b'{"name": "' + b"x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'
    assert error(owner.post("/v1/keys", huge, content_type="application/json"))[:2] == (413, "request_too_large")


# --- Revoking -------------------------------------------------------------------------------------


def test_deleting_revokes_for_good(owner: APIClient):
    key = make(owner)
    first = owner.delete(f"/v1/keys/{key['id']}")
    assert first.status_code == 200
    assert datetime.now(UTC) - moment(first.json()["revoked_at"]) < timedelta(minutes=1)
    assert works(key["api_key"]) == 401
    assert owner.delete(f"/v1/keys/{key['id']}").json() == first.json()
    assert change(owner, key["id"], name="still dead")["revoked_at"] == first.json()["revoked_at"]
    assert works(key["api_key"]) == 401


# --- Rotating -------------------------------------------------------------------------------------


def test_a_rotated_key_hands_on_its_settings_and_works_for_the_overlap(owner: APIClient, cast: Cast):
    settings_given = {
        "name": "ci",
        "limit": 500,
        "limit_period": "month",
        "models": ["a/b"],
        "expires_at": "2999-01-01T00:00:00Z",
        "rate_limits": {"requests_per_minute": 60, "tokens_per_minute": None, "concurrency": 4},
    }
    old = make(owner, **settings_given)
    new = rotate(owner, old["id"], overlap_seconds=600)
    assert {name: new[name] for name in settings_given} == settings_given
    assert new["id"] != old["id"]
    assert new["api_key"] != old["api_key"]
    assert ApiKey.objects.get(pk=new["id"]).created_by == cast.alice.user
    old_now = owner.get(f"/v1/keys/{old['id']}").json()
    ends_in = moment(old_now["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=590) < ends_in <= timedelta(seconds=600)
    assert old_now | {"expires_at": None, "last_used_at": None} == {
        name: value for name, value in old.items() if name != "api_key"
    } | {"expires_at": None}
    assert (works(old["api_key"]), works(new["api_key"])) == (200, 200)
    ApiKey.objects.filter(pk=old["id"]).update(expires_at=datetime.now(UTC))
    assert (works(old["api_key"]), works(new["api_key"])) == (401, 200)


def test_the_overlap_is_an_hour_unless_told(owner: APIClient):
    for send in ({"data": {}, "format": "json"}, {}):
        old = make(owner)
        answer = owner.post(f"/v1/keys/{old['id']}/rotate", **send)
        assert answer.status_code == 201
        ends_in = ApiKey.objects.get(pk=old["id"]).expires_at - datetime.now(UTC)
        assert HOUR - timedelta(seconds=10) < ends_in <= HOUR


def test_without_an_overlap_the_old_key_ends_at_once(owner: APIClient):
    old = make(owner)
    new = rotate(owner, old["id"], overlap_seconds=0)
    assert (works(old["api_key"]), works(new["api_key"])) == (401, 200)


def test_an_overlap_prolongs_no_key(owner: APIClient):
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    old = make(owner, expires_at=soon)
    new = rotate(owner, old["id"], overlap_seconds=600)
    assert moment(owner.get(f"/v1/keys/{old['id']}").json()["expires_at"]) == moment(soon) == moment(new["expires_at"])


def test_a_key_that_ended_cannot_be_rotated(owner: APIClient):
    revoked, expired = make(owner)["id"], make(owner)["id"]
    revoke_key(revoked)
    ApiKey.objects.filter(pk=expired).update(expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    before = everything()
    for key_id in (revoked, expired):
        answer = owner.post(f"/v1/keys/{key_id}/rotate")
        told = "This key has ended and cannot be rotated: issue a new one."
        assert error(answer) == (400, "invalid_request", None, told)
    assert everything() == before


@pytest.mark.parametrize("overlap", [-1, 604_801, "60", 1.5, None])
def test_a_wrong_overlap_is_named(owner: APIClient, overlap: Any):
    key_id = make(owner)["id"]
    before = everything()
    answer = owner.post(f"/v1/keys/{key_id}/rotate", {"overlap_seconds": overlap}, format="json")
    status, _, param, message = error(answer)
    assert (status, param) == (400, "overlap_seconds")
    assert message.startswith("'overlap_seconds' must be an integer between 0 and 604800 (seven days)")
    answer = owner.post(f"/v1/keys/{key_id}/rotate", {"overlap": 5}, format="json")
    assert error(answer)[3] == "Unknown field: 'overlap'. Did you mean 'overlap_seconds'?"
    assert everything() == before


# --- A limit holds for the next request -----------------------------------------------------------


def test_a_lowered_limit_holds_for_the_next_hold(owner: APIClient, cast: Cast):
    key = make(owner, limit=1000, limit_period="day")
    journal.post(cast.alice.organization_id, "grant", 10_000, actor="test", reason="a test", idempotency_key="g")

    def hold(amount: int) -> Any:
        command = Reserve(
            wallet_id=cast.alice.organization_id,
            hold_id=make_hold_id(),
            key_id=UUID(key["id"]),
            user_id=None,
            model="sandbox/echo",
            price_id=price_id(),
            provider="sandbox",
            amount=amount,
            floor=amount,
            life_s=600.0,
        )
        return journal.execute([command])[0]

    assert hold(600) == Held(600)
    assert change(owner, key["id"], limit=700)["limit_remaining"] == 100
    assert hold(101) == Refused("key_limit", required=101, available=100)
    assert hold(100) == Held(100)


# --- Who may --------------------------------------------------------------------------------------


def calls(key_id: str) -> Iterator[tuple[str, str, Any]]:
    yield "get", "/v1/keys", None
    yield "post", "/v1/keys", {"name": "stolen"}
    yield "get", f"/v1/keys/{key_id}", None
    yield "patch", f"/v1/keys/{key_id}", {"name": "stolen"}
    yield "delete", f"/v1/keys/{key_id}", None
    yield "post", f"/v1/keys/{key_id}/rotate", {}


def answers(client: APIClient, key_id: str) -> list[Any]:
    found = []
    for method, path, body in calls(key_id):
        found.append(getattr(client, method)(path, body, **({"format": "json"} if body is not None else {})))
    return found


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_a_lesser_role_may_nothing(owner: APIClient, cast: Cast, role: str):
    key_id = make(owner)["id"]
    before = everything()
    told = f"Keys are managed by owners and admins; your role is '{role}'."
    for answer in answers(cast.alice.member(role).api, key_id):
        assert error(answer) == (403, "role", None, told)
        assert answer.json()["error"]["type"] == "permission_error"
    assert everything() == before


def test_an_api_key_manages_no_keys_not_even_itself(owner: APIClient):
    key = make(owner)
    client = APIClient(headers={"authorization": f"Bearer {key['api_key']}"})
    told = "An API key cannot manage keys: send the access token of an owner or admin."
    for answer in answers(client, key["id"]):
        assert error(answer) == (403, "role", None, told)
    row = ApiKey.objects.get()
    assert (row.name, row.revoked_at, row.expires_at) == ("", None, None)


def test_without_authorization_nothing_is_told(owner: APIClient):
    key_id = make(owner)["id"]
    before = everything()
    for answer in answers(APIClient(), key_id):
        assert error(answer)[:2] == (401, "invalid_api_key")
    assert everything() == before


def test_an_admin_may_everything(cast: Cast):
    admin = cast.alice.member("admin").api
    key_id = make(admin)["id"]
    assert listed(admin) == [""]
    assert change(admin, key_id, name="ours")["name"] == "ours"
    assert rotate(admin, key_id)["name"] == "ours"
    assert admin.delete(f"/v1/keys/{key_id}").status_code == 200


def test_charlie_finds_none_of_alices_keys_and_changes_nothing(owner: APIClient, outsider: APIClient):
    key = make(owner, name="alice's")
    unknown = str(uuid4())
    before = everything()
    for theirs, nobodys in zip(answers(outsider, key["id"])[2:], answers(outsider, unknown)[2:], strict=True):
        assert error(theirs) == error(nobodys) == (404, "not_found", None, "There is no such key.")
    assert listed(outsider) == ["stolen", "stolen"]  # his own, made on the way
    ApiKey.objects.filter(name="stolen").delete()
    assert everything() == before
    assert works(key["api_key"]) == 200


@pytest.mark.parametrize("key_id", ["x", "null", "00000000-0000-0000-0000-00000000000g", "%00", "a b"])
def test_what_is_no_id_is_not_found(owner: APIClient, key_id: str):
    for answer in answers(owner, key_id)[2:]:
        assert error(answer)[:2] == (404, "not_found")


def test_other_methods_are_not_allowed(owner: APIClient):
    key_id = make(owner)["id"]
    for path, method in (("", "put"), ("", "delete"), (f"/{key_id}", "post"), (f"/{key_id}/rotate", "get")):
        answer = getattr(owner, method)(f"/v1/keys{path}")
        assert error(answer)[:2] == (405, "method_not_allowed")
