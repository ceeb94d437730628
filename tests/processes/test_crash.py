"""A server that is killed, and one that is asked to go: nothing stays held, nothing is charged wrongly."""

import asyncio
import time
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from billing.ledger import rates
from billing.models import Entry, Hold, Usage, Wallet
from billing.oversight import verifier
from billing.pricing import money
from billing.reconciliation import abandoned_holds
from completions.reconciliation import abandoned_calls as completions_sweeper
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.live import Server, start_server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

HOLD_LIFE_S = 2
CALLS = 12


def chat(directive: str, *, stream: bool = False) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 64,
        "stream": stream,
        "metadata": {"sandbox": directive},
    }


async def call(client: Client, server: Server, tenant: Tenant, body: dict[str, Any]) -> int | None:
    """The status once the whole answer is there; None if the connection broke."""
    request = client.post(f"{server.base_url}/chat/completions").headers(tenant.headers).body_json(body)
    try:
        response = await request.build().send()
        await response.bytes()
    except PyreqwestError:
        return None
    return response.status


async def in_flight(sandbox: SandboxServer, count: int) -> None:
    """Wait until the upstream has all the calls."""
    deadline = time.monotonic() + 15
    while len(sandbox.calls) < count:
        assert time.monotonic() < deadline, f"{len(sandbox.calls)} of {count} calls reached the upstream"
        await asyncio.sleep(0.02)


async def kill_with_calls_in_flight(server: Server, sandbox: SandboxServer, tenant: Tenant) -> list[int | None]:
    async with ClientBuilder().build() as client:
        slow = [chat("first_ms=20000"), chat("tokens=40 delay_ms=1000", stream=True)]
        calls = [asyncio.ensure_future(call(client, server, tenant, slow[n % 2])) for n in range(CALLS)]
        await in_flight(sandbox, CALLS)
        server.kill()
        return await asyncio.gather(*calls)


def test_kill_9_leaves_no_hold_after_the_sweep(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
):
    tenant = make_tenant()
    environment = {**server_environment, "HOLD_TTL_S": str(HOLD_LIFE_S)}
    sandbox.reset()
    with start_server(environment, tmp_path) as server:
        answers = asyncio.run(kill_with_calls_in_flight(server, sandbox, tenant))
    assert answers == [None] * CALLS
    holds = Hold.objects.filter(wallet_id=tenant.organization_id)
    assert holds.filter(state="open").count() == CALLS
    with start_server(environment, tmp_path) as server:
        time.sleep(HOLD_LIFE_S)
        abandoned_holds.sweep()
        assert holds.filter(state="expired", charged=None).count() == CALLS
        assert asyncio.run(one_call(server, tenant)) == 200
        wait_closed(tenant)
    wallet = Wallet.objects.get(pk=tenant.organization_id)
    assert (wallet.posted, wallet.held) == (1_000_000 - 1_979, 0)
    assert verifier.violations() == []


def test_kill_9_of_calls_that_had_begun_is_settled_at_the_providers_bill(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path, settings: Any
):
    """The provider served them until their client was gone, and bills so much; nobody was told."""
    settings.OPENROUTER_BASE_URL, settings.OPENROUTER_API_KEY = sandbox.base_url, "sk-or-sandbox"
    tenant = make_tenant()
    sandbox.reset()
    holds = Hold.objects.filter(wallet_id=tenant.organization_id)
    with start_server({**server_environment, "HOLD_TTL_S": str(HOLD_LIFE_S)}, tmp_path) as server:
        asyncio.run(kill_once_begun(server, sandbox, tenant))
    assert holds.filter(state="open").exclude(provider_ref="").count() == CALLS
    wait_overdue(holds)
    swept = completions_sweeper.sweep()
    assert swept.settled == CALLS
    bills = {call.id: call.total_usd for call in sandbox.calls}
    assert len(bills) == CALLS
    for hold in holds:
        billed_micro = rates.struct(hold).micro(money.pico(bills[hold.provider_ref]))
        assert (hold.state, hold.charged, hold.usage.reconciliation) == ("settled", billed_micro, "swept")
        assert billed_micro > 0
    assert completions_sweeper.sweep().settled == 0
    wallet = Wallet.objects.get(pk=tenant.organization_id)
    assert (wallet.posted, wallet.held) == (1_000_000 - sum(hold.charged or 0 for hold in holds), 0)
    assert verifier.violations() == []


async def kill_once_begun(server: Server, sandbox: SandboxServer, tenant: Tenant) -> None:
    async with ClientBuilder().build() as client:
        body = chat("tokens=40 delay_ms=1000 generation_ms=0", stream=True)
        calls = [asyncio.ensure_future(call(client, server, tenant, body)) for _ in range(CALLS)]
        await in_flight(sandbox, CALLS)
        await asyncio.to_thread(wait_marked, tenant)
        server.kill()
        assert await asyncio.gather(*calls) == [None] * CALLS


def wait_marked(tenant: Tenant) -> None:
    try:
        deadline = time.monotonic() + 15
        marked = Hold.objects.filter(wallet_id=tenant.organization_id).exclude(provider_ref="")
        while marked.count() < CALLS:
            assert time.monotonic() < deadline, f"{marked.count()} of {CALLS} calls are known to have begun"
            time.sleep(0.02)
    finally:
        connection.close()


def wait_overdue(holds: QuerySet[Hold]) -> None:
    deadline = time.monotonic() + 15
    while holds.filter(expires_at__gt=Now()).exists():
        assert time.monotonic() < deadline, "the holds live too long"
        time.sleep(0.05)


async def one_call(server: Server, tenant: Tenant) -> int | None:
    async with ClientBuilder().build() as client:
        return await call(client, server, tenant, chat(""))


async def stop_with_calls_in_flight(server: Server, sandbox: SandboxServer, tenant: Tenant) -> list[int | None]:
    async with ClientBuilder().build() as client:
        slow = [chat("first_ms=700"), chat("tokens=8 delay_ms=100", stream=True)]
        calls = [asyncio.ensure_future(call(client, server, tenant, slow[n % 2])) for n in range(CALLS)]
        await in_flight(sandbox, CALLS)
        server.process.terminate()
        return await asyncio.gather(*calls)


def test_sigterm_lets_every_call_end(server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path):
    tenant = make_tenant()
    sandbox.reset()
    with start_server(server_environment, tmp_path) as server:
        answers = asyncio.run(stop_with_calls_in_flight(server, sandbox, tenant))
        assert server.process.wait(20) == 0
    assert answers == [200] * CALLS
    assert Entry.objects.filter(wallet_id=tenant.organization_id, kind="usage").count() == CALLS
    assert not Usage.objects.filter(wallet_id=tenant.organization_id).exclude(error_code="").exists()
    assert verifier.violations() == []


def test_calls_that_outlast_the_grace_are_closed_not_lost(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
):
    tenant = make_tenant()
    sandbox.reset()
    with start_server({**server_environment, "SHUTDOWN_GRACE_S": "1"}, tmp_path) as server:
        asyncio.run(outlast_the_grace(server, sandbox, tenant))
        server.process.wait(20)
    holds = Hold.objects.filter(wallet_id=tenant.organization_id)
    assert list(holds.values_list("state", flat=True)) == ["voided"]
    assert verifier.violations() == []


async def outlast_the_grace(server: Server, sandbox: SandboxServer, tenant: Tenant) -> None:
    async with ClientBuilder().build() as client:
        waiting = asyncio.ensure_future(call(client, server, tenant, chat("first_ms=60000")))
        await in_flight(sandbox, 1)
        server.process.terminate()
        assert await waiting == 503
