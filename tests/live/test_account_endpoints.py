"""What a key may read over a socket: models, credits, the key itself, and the receipt of every call.

charlie is another tenant: alice's calls do not exist for him, and nothing he does changes hers.
"""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from accounts.models import Organization
from accounts.services import issue_key
from billing.credits.accounts import grant
from billing.models import Hold, Usage
from completions.reconciliation import calls, lookups
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.conversations import CONVERSATIONS
from tests.kit.live import Server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

TEXT = CONVERSATIONS["text"].request
PRICE = {"version": 1, "input": "0.4", "output": "1.6", "cache_read": "0.1", "web_search": "0.01"}
MINI_CAN = ["tools", "structured_outputs", "json_mode", "logprobs", "web_search", "prompt_caching"]
MINI_CAN += ["image_input", "file_input"]
WITH_KEY = ["/credits", "/key", "/generation?id=gen-00000000000000000000000000000000"]
NOTHING_USED = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "credits_used": 0,
    "credits_remaining": 1_000_000,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


@pytest.fixture
def api(gateway: Server, alice: Tenant) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.base_url, headers=alice.headers) as client:
        yield client


@pytest.fixture
def charlies(gateway: Server, live_db: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.base_url, headers=make_tenant().headers) as client:
        yield client


def ask(api: httpx.Client, directive: str = "", **fields: Any) -> dict[str, Any]:
    response = api.post("/chat/completions", json={**TEXT, "user": f"sandbox:{directive}", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def receipt(api: httpx.Client, generation_id: str) -> dict[str, Any]:
    response = api.get("/generation", params={"id": generation_id})
    assert response.status_code == 200, response.text
    return response.json()


def is_recent(text: str) -> bool:
    return timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(text) < timedelta(minutes=5)


# --- Credits and the key ----------------------------------------------------------------------


def test_credits_before_and_after_a_call(api: httpx.Client):
    before = {
        "object": "credits",
        "credits_remaining": 1_000_000,
        "credits_held": 0,
        "credits_granted": 1_000_000,
        "credits_used": 0,
        "overdraft": 0,
        "unlimited": False,
        "expiring": [],
    }
    assert api.get("/credits").json() == before
    ask(api)
    assert api.get("/credits").json() == before | {"credits_remaining": 998_021, "credits_used": 1979}


def test_credits_of_an_unlimited_wallet(gateway: Server, live_db: None):
    tenant = make_tenant(unlimited=True, overdraft_micro=500)
    assert httpx.get(f"{gateway.base_url}/credits", headers=tenant.headers).json() == {
        "object": "credits",
        "credits_remaining": None,
        "credits_held": 0,
        "credits_granted": 1_000_000,
        "credits_used": 0,
        "overdraft": 500,
        "unlimited": True,
        "expiring": [],
    }


def test_credits_that_expire_are_told_apart_and_only_to_their_owner(
    api: httpx.Client, charlies: httpx.Client, alice: Tenant
):
    soon = datetime(2030, 1, 1, tzinfo=UTC)
    for amount, end in ((5_000, soon + timedelta(days=1)), (1_000, soon)):
        grant(alice.organization_id, amount, actor="test", reason="welcome", expires_at=end)
    ask(api)  # costs 1979: all of the sooner one, and a part of the other
    credits = api.get("/credits").json()
    assert credits["expiring"] == [{"credits": 4_021, "expires_at": "2030-01-02T00:00:00Z"}]
    assert (credits["credits_remaining"], credits["credits_granted"]) == (1_004_021, 1_006_000)
    assert charlies.get("/credits").json()["expiring"] == []


def test_the_key_tells_itself_and_what_it_used(api: httpx.Client, alice: Tenant):
    ask(api)
    key = api.get("/key").json()
    assert is_recent(key.pop("created_at"))
    assert is_recent(key.pop("last_used_at"))
    assert key == {
        "object": "key",
        "id": str(alice.key_id),
        "name": "default",
        "prefix": alice.api_key[:16],
        "last_four": alice.api_key[-4:],
        "organization": str(alice.organization_id),
        "expires_at": None,
        "revoked_at": None,
        "limit": None,
        "limit_period": None,
        "limit_remaining": None,
        "limit_resets_at": None,
        "usage": {"day": 1979, "week": 1979, "month": 1979, "total": 1979},
        "models": None,
        "rate_limits": {"requests_per_minute": None, "tokens_per_minute": None, "concurrency": None},
    }


def test_a_limited_key_tells_what_is_left_of_its_limit(gateway: Server, alice: Tenant):
    organization = Organization.objects.get(pk=alice.organization_id)
    _, limited = issue_key(
        organization, "limited", limit_micro=10_000, limit_period="month", models=[MODEL], requests_per_minute=60
    )
    with httpx.Client(base_url=gateway.base_url, headers={"Authorization": f"Bearer {limited}"}) as api:
        ask(api, max_tokens=32)
        key = api.get("/key").json()
    today = datetime.now(UTC)
    month = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    assert (key["limit"], key["limit_period"], key["limit_remaining"]) == (10_000, "month", 8021)
    assert datetime.fromisoformat(key["limit_resets_at"]) == month
    assert key["models"] == [MODEL]
    assert key["rate_limits"] == {"requests_per_minute": 60, "tokens_per_minute": None, "concurrency": None}


# --- Receipts ---------------------------------------------------------------------------------


def test_the_receipt_says_what_the_completion_said(api: httpx.Client, alice: Tenant):
    completion = ask(api)
    told = receipt(api, completion["id"])
    assert is_recent(told.pop("created_at"))
    first_token_ms, latency_ms = told.pop("first_token_ms"), told.pop("latency_ms")
    [attempt] = told.pop("attempts")
    assert (attempt["provider"], attempt["outcome"]) == ("openrouter", "ok")
    # The attempt began after the call did.
    assert 0 <= first_token_ms <= latency_ms
    assert 0 <= attempt["milliseconds"] <= latency_ms
    assert told == {
        "object": "generation",
        "id": completion["id"],
        "endpoint": "/v1/chat/completions",
        "model": MODEL,
        "provider": "openrouter",
        "status": "settled",
        "streamed": False,
        "cancelled": False,
        "finish_reason": "stop",
        "error": None,
        "usage": completion["usage"],
        "credits_used": 1979,
        "credits_held": 0,
        "credits_remaining": 998_021,
        "price": PRICE,
        "cost_usd": "0.0000188",
        "corrections": [],
        "key": str(alice.key_id),
    }


def test_the_receipt_of_a_stream_is_the_same_but_for_its_way(api: httpx.Client, alice: Tenant):
    whole = receipt(api, ask(api)["id"])
    streamed = api.post("/chat/completions", json={**TEXT, "stream": True})
    wait_closed(alice)
    told = receipt(api, streamed.headers["x-generation-id"])
    assert told["streamed"] is True
    assert (told["credits_remaining"], told["usage"]["credits_remaining"]) == (996_042, 996_042)
    same = ("model", "provider", "status", "finish_reason", "credits_used", "price", "cost_usd", "corrections", "key")
    assert [told[name] for name in same] == [whole[name] for name in same]


def test_a_call_in_flight_is_open_and_holds_its_bound(api: httpx.Client, alice: Tenant):
    slow = {**TEXT, "max_tokens": 32, "stream": True, "user": "sandbox:delay_ms=200"}
    with api.stream("POST", "/chat/completions", json=slow) as stream:
        generation_id = stream.headers["x-generation-id"]
        running, credits_view = receipt(api, generation_id), api.get("/credits").json()
        stream.read()
    wait_closed(alice)
    assert (running["status"], running["finish_reason"]) == ("open", None)
    assert (running["credits_held"], running["credits_used"]) == (7032, 0)
    assert running["usage"] == NOTHING_USED
    assert (credits_view["credits_held"], credits_view["credits_remaining"]) == (7032, 1_000_000)
    ended = receipt(api, generation_id)
    assert (ended["status"], ended["credits_held"], ended["credits_used"]) == ("settled", 0, 1979)


def test_a_call_that_failed_without_output_is_voided(api: httpx.Client, alice: Tenant):
    response = api.post("/chat/completions", json={**TEXT, "user": "sandbox:fault=http:500"})
    assert response.status_code == 503
    (hold,) = Hold.objects.filter(wallet_id=alice.organization_id)
    told = receipt(api, f"gen-{hold.pk.hex}")
    assert (told["status"], told["error"], told["finish_reason"]) == ("voided", "unavailable", None)
    assert (told["credits_used"], told["credits_held"], told["credits_remaining"]) == (0, 0, 1_000_000)
    assert (told["usage"], told["cost_usd"]) == (NOTHING_USED, "0")
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["unavailable"]


def test_usage_the_provider_did_not_report_is_an_estimate(api: httpx.Client):
    completion = ask(api, "usage=missing")
    told = receipt(api, completion["id"])
    assert (told["status"], told["cancelled"]) == ("estimated", False)
    assert told["usage"] == completion["usage"]
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (20, 9)
    assert (told["credits_used"], told["cost_usd"]) == (2358, "0.0000224")


def test_a_stream_that_its_client_left_is_an_estimate_of_what_was_delivered(api: httpx.Client, alice: Tenant):
    long = {**TEXT, "stream": True, "user": "sandbox:tokens=500 delay_ms=20"}
    with api.stream("POST", "/chat/completions", json=long) as stream:
        next(stream.iter_bytes())
    wait_closed(alice, timeout_s=5)
    told = receipt(api, stream.headers["x-generation-id"])
    assert (told["status"], told["cancelled"], told["streamed"]) == ("estimated", True, True)
    assert told["usage"]["prompt_tokens"] == 20
    assert 0 < told["usage"]["completion_tokens"] < 100
    assert told["credits_remaining"] == 1_000_000 - told["credits_used"]
    assert api.get("/credits").json()["credits_used"] == told["credits_used"]


def test_a_correction_is_on_the_receipt(
    api: httpx.Client, sandbox: SandboxServer, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    completion = ask(api, "billed=0.0000094 generation_ms=0")  # half of what was charged
    settings.OPENROUTER_BASE_URL = sandbox.base_url
    kept_for_the_sweeper = settings.RECONCILE_PER_MINUTE // 10
    monkeypatch.setattr(lookups, "CALLS_PER_PASS", kept_for_the_sweeper + 1)
    hold_id = completion["id"].removeprefix("gen-")
    Usage.objects.filter(pk=hold_id).update(reconcile_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert calls.reconcile().corrected >= 1  # other tests' calls may be due too: ours is the first, and read below
    told = receipt(api, completion["id"])
    (correction,) = told["corrections"]
    assert is_recent(correction.pop("created_at"))
    assert correction == {"credits": -989, "reason": "openrouter billed less than was charged"}
    assert (told["status"], told["credits_used"], told["credits_remaining"]) == ("corrected", 990, 999_010)
    assert api.get("/credits").json()["credits_remaining"] == 999_010


def test_a_receipt_needs_an_id(api: httpx.Client):
    response = api.get("/generation")
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "Missing required field: 'id'.",
        "type": "invalid_request_error",
        "param": "id",
        "code": "missing_field",
    }


def test_an_unknown_generation_is_a_404(api: httpx.Client):
    for generation_id in ("x", "gen-", "gen-" + "0" * 32, "gen-" + "z" * 32, "gen-\0", "0" * 32):
        response = api.get("/generation", params={"id": generation_id})
        assert response.status_code == 404
        assert response.json()["error"] == {
            "message": "There is no such generation.",
            "type": "not_found_error",
            "param": "id",
            "code": "not_found",
        }


# --- Who may ask ------------------------------------------------------------------------------


def test_charlie_sees_nothing_of_alices(api: httpx.Client, charlies: httpx.Client, alice: Tenant):
    completion = ask(api)
    before = [api.get(path).json() for path in ("/credits", "/key")]
    refused = charlies.get("/generation", params={"id": completion["id"]})
    unknown = charlies.get("/generation", params={"id": "gen-" + "0" * 32})
    assert (refused.status_code, refused.json()) == (404, unknown.json())
    assert charlies.get("/credits").json()["credits_remaining"] == 1_000_000
    key = charlies.get("/key")
    assert key.json()["usage"]["total"] == 0
    assert str(alice.organization_id) not in key.text
    assert str(alice.key_id) not in key.text
    assert [api.get(path).json() for path in ("/credits", "/key")] == before
    assert receipt(api, completion["id"])["status"] == "settled"


def test_charlie_cannot_see_a_call_that_is_running(api: httpx.Client, charlies: httpx.Client, alice: Tenant):
    slow = {**TEXT, "max_tokens": 32, "stream": True, "user": "sandbox:delay_ms=20"}
    with api.stream("POST", "/chat/completions", json=slow) as stream:
        refused = charlies.get("/generation", params={"id": stream.headers["x-generation-id"]})
        held = charlies.get("/credits").json()["credits_held"]
        text = stream.read().decode()
    assert (refused.status_code, held) == (404, 0)
    assert text.endswith("data: [DONE]\n\n")


def test_without_a_good_key_nothing_is_told(gateway: Server):
    wrong = [{}, {"Authorization": "Bearer sk-quantized-YOUR-KEY"}, {"Authorization": "Basic eDp5"}]
    for path, headers in itertools.product(WITH_KEY, wrong):
        response = httpx.get(f"{gateway.base_url}{path}", headers=headers)
        error = response.json()["error"]
        assert (response.status_code, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"


def test_these_are_only_read(api: httpx.Client):
    for path in (*WITH_KEY, "/models", f"/models/{MODEL}"):
        response = api.post(path, json={})
        assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")


def test_every_answer_carries_a_request_id(api: httpx.Client):
    for path in (*WITH_KEY, "/models", f"/models/{MODEL}", "/nothing", "/chat/completions"):
        own = api.get(path)
        given = api.get(path, headers={"x-request-id": "my-request.1"})
        assert re.fullmatch(r"req-[0-9a-f]{32}", own.headers["x-request-id"])
        assert given.headers["x-request-id"] == "my-request.1"
        assert own.headers["content-type"] == "application/json"


# --- Models -----------------------------------------------------------------------------------


def test_models_are_told_without_a_key(gateway: Server):
    listed = httpx.get(f"{gateway.base_url}/models").json()
    one = httpx.get(f"{gateway.base_url}/models/{MODEL}").json()
    assert list(listed) == ["object", "data"]
    assert [model for model in listed["data"] if model["id"] == MODEL] == [one]
    assert one == {
        "id": MODEL,
        "object": "model",
        "created": 1_744_588_800,
        "owned_by": "openai",
        "name": "GPT-4.1 Mini",
        "context_length": 1_047_576,
        "max_output_tokens": 32_768,
        "capabilities": MINI_CAN,
        "providers": [
            {
                "name": "openrouter",
                "priority": 0,
                "context_length": 1_047_576,
                "max_output_tokens": 32_768,
                "capabilities": MINI_CAN,
                "price_version": 1,
                "pricing": {"input": "0.4", "output": "1.6", "cache_read": "0.1", "web_search": "0.01"},
                "credits": {
                    "input": "42105263.157895",
                    "output": "168421052.631579",
                    "cache_read": "10526315.789474",
                    "web_search": "1052631.578948",
                },
                "tiers": [],
            }
        ],
    }


def test_every_model_has_the_same_keys(gateway: Server):
    models = httpx.get(f"{gateway.base_url}/models").json()["data"]
    ids = [model["id"] for model in models]
    assert len(ids) == len(set(ids)) > 40
    model_keys = {"id", "object", "created", "owned_by", "name", "context_length", "max_output_tokens"}
    provider_keys = {"name", "priority", "context_length", "max_output_tokens", "price_version", "pricing", "credits"}
    for model in models:
        assert set(model) == model_keys | {"capabilities", "providers"}
        for provider in model["providers"]:
            assert set(provider) == provider_keys | {"capabilities", "tiers"}
            assert set(provider["pricing"]) == set(provider["credits"]) >= {"input", "output"}
