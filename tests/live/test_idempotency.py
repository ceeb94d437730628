"""Idempotency-Key: the same request is one provider call, one charge, and the same answer again."""

import asyncio
import json
import os
import time
import uuid
from collections import Counter
from typing import Any

import httpx
import msgspec
import pytest
from django.db import connection
from pyreqwest.client import ClientBuilder

from billing.ledger import journal
from billing.ledger.commands import Reserve
from billing.models import Entry
from billing.reconciliation import abandoned_holds
from common import sealing
from completions.calls.idempotency import PURPOSE, StoredAnswer
from completions.models import IdempotentCall
from completions.tasks import forget_answers
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.live import Server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

QUESTION = "What is the capital of France?"
COST = 1_979


def body(directive: str = "", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": MODEL, "messages": messages, "max_tokens": 64, "metadata": {"sandbox": directive}, **fields}


SLOW = json.dumps(body("first_ms=700")).encode()


def ask(server: Server, tenant: Tenant, key: str, request: dict[str, Any], **headers: str) -> httpx.Response:
    url = f"{server.base_url}/chat/completions"
    return httpx.post(url, headers={**tenant.headers, "Idempotency-Key": key, **headers}, json=request, timeout=20)


def charges(tenant: Tenant) -> list[int]:
    return list(Entry.objects.filter(wallet_id=tenant.organization_id, kind="usage").values_list("amount", flat=True))


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_gets_the_same_answer_again(
    gateway: Server, sandbox: SandboxServer, alice: Tenant, stream: bool
):
    sandbox.reset()
    options = {"include_usage": True} if stream else None
    request = body(stream=stream, stream_options=options)
    first, again = (ask(gateway, alice, "once", request) for _ in range(2))
    assert [first.status_code, again.status_code] == [200, 200]
    assert first.text.replace("\n", "") == again.text.replace("\n", "")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("x-generation-id", "x-quantized-provider", "content-type"):
        assert first.headers[name] == again.headers[name]
    assert len(sandbox.calls) == 1
    assert charges(alice) == [-COST]


def test_twenty_at_once_are_one_call(gateway: Server, sandbox: SandboxServer, alice: Tenant):
    sandbox.reset()

    async def story() -> Counter[int]:
        async with ClientBuilder().build() as client:

            async def one() -> int:
                request = client.post(f"{gateway.base_url}/chat/completions").headers(alice.headers)
                request = request.header("Idempotency-Key", "twenty").body_bytes(SLOW)
                return (await request.build().send()).status

            return Counter(await asyncio.gather(*(one() for _ in range(20))))

    assert asyncio.run(story()) == {200: 1, 409: 19}
    assert len(sandbox.calls) == 1
    headers = {**alice.headers, "Idempotency-Key": "twenty"}
    again = httpx.post(f"{gateway.base_url}/chat/completions", headers=headers, content=SLOW)
    assert again.headers["idempotent-replayed"] == "true"
    assert charges(alice) == [-COST]


def test_a_running_request_is_told_so(gateway: Server, sandbox: SandboxServer, alice: Tenant):
    sandbox.reset()
    with httpx.stream(
        "POST",
        f"{gateway.base_url}/chat/completions",
        headers={**alice.headers, "Idempotency-Key": "slow"},
        json=body("tokens=10 delay_ms=150", stream=True),
    ) as running:
        refused = ask(gateway, alice, "slow", body("tokens=10 delay_ms=150", stream=True))
        running.read()
    assert refused.status_code == 409
    assert (refused.json()["error"]["type"], refused.json()["error"]["code"]) == (
        "conflict_error",
        "idempotency_in_progress",
    )
    assert refused.headers["retry-after"] == "1"


def test_another_request_needs_another_key(gateway: Server, alice: Tenant):
    assert ask(gateway, alice, "mine", body()).status_code == 200
    for other, headers in ((body(temperature=0.5), {}), (body(), {"X-Quantized-Provider": "openrouter"})):
        refused = ask(gateway, alice, "mine", other, **headers)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
    assert len(charges(alice)) == 1


def test_a_key_belongs_to_its_organization(gateway: Server, alice: Tenant):
    charlie = make_tenant()
    assert ask(gateway, alice, "shared", body()).status_code == 200
    answer = ask(gateway, charlie, "shared", body())
    assert "idempotent-replayed" not in answer.headers
    assert (charges(alice), charges(charlie)) == ([-COST], [-COST])
    wait_closed(charlie)


@pytest.mark.parametrize("fault", ["fault=http:503", "fault=http:400", "fault=die_before"])
def test_a_call_that_failed_may_be_made_again(gateway: Server, alice: Tenant, fault: str):
    key = f"failed-{fault}"
    failed = ask(gateway, alice, key, body(fault))
    assert failed.status_code in (400, 503)
    assert ask(gateway, alice, key, body(fault)).status_code == failed.status_code
    assert ask(gateway, alice, key, body()).status_code == 200
    assert charges(alice) == [-COST]


def test_what_is_refused_before_the_provider_leaves_the_key_free(gateway: Server, alice: Tenant):
    assert ask(gateway, alice, "poor", body(max_tokens=30_000)).status_code == 402
    assert ask(gateway, alice, "poor", body()).status_code == 200


def test_a_stream_whose_client_leaves_runs_to_its_end(gateway: Server, sandbox: SandboxServer, alice: Tenant):
    sandbox.reset()
    request = body("tokens=12 delay_ms=50", stream=True)
    with httpx.stream(
        "POST",
        f"{gateway.base_url}/chat/completions",
        headers={**alice.headers, "Idempotency-Key": "left"},
        json=request,
    ) as response:
        next(response.iter_raw())
    wait_closed(alice)
    again = ask(gateway, alice, "left", request)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.text.endswith("data: [DONE]\n\n")
    assert [call.state for call in sandbox.calls] == ["finished"]
    assert len(charges(alice)) == 1


def test_an_answer_whose_process_died_before_settling_is_charged_when_it_is_asked_for(gateway: Server, alice: Tenant):
    """As after a kill between storing and settling: the answer is there, its hold has expired unpaid."""
    first = ask(gateway, alice, "crash", body())
    row = IdempotentCall.objects.get(organization_id=alice.organization_id, key="crash")
    stored = msgspec.msgpack.decode(sealing.unseal(row.answer, PURPOSE), type=StoredAnswer)
    unpaid = expired_hold(alice, stored.settle.receipt.price_id)
    crashed = msgspec.structs.replace(stored, settle=msgspec.structs.replace(stored.settle, hold_id=unpaid))
    row.answer = sealing.seal(msgspec.msgpack.encode(crashed), PURPOSE)
    row.save()
    for _ in range(2):
        again = ask(gateway, alice, "crash", body())
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["choices"] == first.json()["choices"]
        assert again.json()["usage"]["credits_remaining"] == 1_000_000 - 2 * COST
    assert Entry.objects.get(hold_id=unpaid).kind == "late_usage"


def expired_hold(tenant: Tenant, price_id: int) -> uuid.UUID:
    hold_id = uuid.uuid4()
    ids = {"wallet_id": tenant.organization_id, "hold_id": hold_id, "key_id": tenant.key_id}
    reserve = Reserve(**ids, user_id=None, model=MODEL, price_id=price_id, provider="", amount=1, floor=1, life_s=0)
    journal.execute([reserve])
    abandoned_holds.sweep()
    return hold_id


def test_the_stored_answer_is_sealed(gateway: Server, alice: Tenant):
    ask(gateway, alice, "sealed", body())
    row = IdempotentCall.objects.get(organization_id=alice.organization_id, key="sealed")
    assert len(row.answer) > 100
    assert QUESTION not in row.answer
    assert "Paris" not in row.answer


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(gateway: Server, alice: Tenant, key: str):
    refused = ask(gateway, alice, key, body())
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "Idempotency-Key"


def test_answers_are_forgotten_after_a_day(gateway: Server, alice: Tenant):
    key = f"old-{os.urandom(4).hex()}"
    ask(gateway, alice, key, body())
    rows = IdempotentCall.objects.filter(organization_id=alice.organization_id, key=key)
    lifetime = rows.get().expires_at.timestamp() - time.time()
    assert 86_000 < lifetime <= 86_400
    forget_answers()
    assert rows.exists()
    rows.update(expires_at="2001-01-01T00:00Z")
    forget_answers()
    assert not rows.exists()
    assert "idempotent-replayed" not in ask(gateway, alice, key, body()).headers


# Refuses to store an answer until its call is charged, as a database does that is away when the call ends.
AWAY_UNTIL_CHARGED = """
CREATE FUNCTION away_until_charged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.answer <> '' AND NEW.organization_id = '{0}' AND NOT EXISTS (
        SELECT FROM billing_entry WHERE wallet_id = '{0}' AND kind = 'usage') THEN
        RAISE EXCEPTION 'away';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER away_until_charged BEFORE UPDATE ON completions_idempotentcall
    FOR EACH ROW EXECUTE FUNCTION away_until_charged();
"""
BACK = "DROP TRIGGER away_until_charged ON completions_idempotentcall; DROP FUNCTION away_until_charged()"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_could_not_be_stored_at_first_is_stored_once_it_is_paid_for(
    gateway: Server, alice: Tenant, stream: bool
):
    with connection.cursor() as cursor:
        cursor.execute(AWAY_UNTIL_CHARGED.format(alice.organization_id))
    try:
        first = ask(gateway, alice, "late", body(stream=stream))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(BACK)
    again = ask(gateway, alice, "late", body(stream=stream))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-generation-id"] == first.headers["x-generation-id"]
    assert charges(alice) == [-COST]
