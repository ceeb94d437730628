"""One gateway in this process, whose database, Redis, provider or client misbehaves in the middle of a call."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.callers import Principal, RateLimits
from billing.ledger import journal
from billing.ledger.commands import AnyCommand, Outcome, Settle
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire
from billing.models import Entry, Hold, Usage
from common.postgres import DatabaseUnavailable
from completions.calls.idempotency import Claim, Idempotency
from completions.calls.sinks import Sink, StreamSink, WholeSink
from completions.dialects import OPENAI_CHAT
from completions.dialects.openai_chat.answers import STREAM_FAILURE_EVENT
from completions.errors import (
    IdempotencyInProgress,
    InsufficientCredits,
    ProviderUnavailable,
    ServerStopping,
)
from completions.models import IdempotentCall, Provider
from completions.routes import Catalog, Route
from quantized.database import Reader
from quantized.runtime import Runtime
from sandbox.server import SandboxServer
from tests.kit.calls import chat
from tests.kit.catalogs import make_price, make_provider, make_route
from tests.kit.gate import Gate
from tests.kit.tenants import Tenant, make_tenant, wait_closed

PATIENCE_S = 15


@pytest.fixture
def url(server_environment: dict[str, str], settings: LazySettings, sandbox: SandboxServer, tmp_path: Path) -> str:
    """The database's; the settings are those of a server in front of the sandbox."""
    settings.OPENROUTER_BASE_URL, settings.OPENROUTER_API_KEY = sandbox.base_url, "sk-or-sandbox"
    settings.SPOOL_DIR, settings.SHUTDOWN_GRACE_S = tmp_path / "spool", 0.5
    sandbox.reset()
    return server_environment["DATABASE_URL"]


@pytest.fixture
def tenant(url: str) -> Tenant:
    return make_tenant()


@asynccontextmanager
async def gate_and_runtime(
    url: str, settings: LazySettings, wire: Callable[[str], Wire] = Wire
) -> AsyncIterator[tuple[Gate, Runtime]]:
    async with Gate(url) as gate:
        settings.DATABASE_URL = gate.url
        runtime = Runtime(wire=wire(gate.url))
        await runtime.start()
        yield gate, runtime


async def stream(
    runtime: Runtime,
    tenant: Tenant,
    directive: str,
    *,
    limits: RateLimits | None = None,
    fields: dict[str, Any] | None = None,
    claim: Claim | None = None,
) -> StreamSink:
    sink = StreamSink(OPENAI_CHAT, runtime.gateway.stream_times)
    body = chat(directive, stream=True, **(fields or {}))
    await serve(runtime, tenant, body, sink, limits, claim)
    return sink


async def complete(runtime: Runtime, tenant: Tenant, directive: str) -> bytes:
    sink = WholeSink(OPENAI_CHAT)
    await serve(runtime, tenant, chat(directive), sink)
    return sink.body


async def serve(
    runtime: Runtime,
    tenant: Tenant,
    body: dict[str, Any],
    sink: Sink,
    limits: RateLimits | None = None,
    claim: Claim | None = None,
) -> None:
    principal = Principal(tenant.organization_id, tenant.key_id, None, "key", None, limits)
    await runtime.gateway.serve(principal, OPENAI_CHAT.parse(json.dumps(body).encode()), None, claim, sink)


async def all_ended(runtime: Runtime) -> None:
    for _ in range(500):
        if not runtime.gateway.running:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a call goes on")


def wait_ended(tenant: Tenant) -> None:
    """Until the tenant's calls have been closed, whoever still reads of them; in a thread of its own."""
    try:
        wait_closed(tenant, timeout_s=5)
    finally:
        connection.close()


def test_a_stop_while_the_database_is_away_spools_the_running_calls(
    url: str, settings: LazySettings, tenant: Tenant
) -> None:
    async def story() -> None:
        async with gate_and_runtime(url, settings) as (gate, runtime):
            sink = await stream(runtime, tenant, "tokens=64 delay_ms=500")
            await anext(aiter(sink.buffer))
            await gate.shut()
            await asyncio.wait_for(runtime.close(), PATIENCE_S)

    asyncio.run(story())
    spool = Spool(settings.SPOOL_DIR)
    [settlement] = [command for path in spool.files() for command in spool.read(path) if isinstance(command, Settle)]
    journal.execute([settlement])
    assert Hold.objects.get(wallet_id=tenant.organization_id).state == "settled"


def test_a_database_that_hangs_keeps_no_reader_waiting(
    url: str, settings: LazySettings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error ever comes: the connection stands, and nothing passes."""
    monkeypatch.setattr("quantized.database.ANSWER_TIMEOUT_S", 0.3, raising=False)

    async def story() -> None:
        async with Gate(url) as gate:
            reader = Reader(gate.url)
            assert await reader.fetch_one("SELECT 1", ()) == (1,)
            gate.hold()
            asked = [asyncio.ensure_future(reader.fetch_one("SELECT 2", ())) for _ in range(3)]
            done, _ = await asyncio.wait(asked, timeout=PATIENCE_S)
            assert [type(task.exception()) for task in done] == [DatabaseUnavailable] * 3
            gate.let_flow()
            assert await reader.fetch_one("SELECT 3", ()) == (3,)
            await reader.close()

    asyncio.run(story())


def test_a_claim_whose_answer_was_lost_is_made_all_the_same(url: str, tenant: Tenant) -> None:
    """The reader asks again on a new connection, and the first time may have been heard."""

    class Twice(Reader):
        async def fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
            await super().fetch_one(sql, params)
            return await super().fetch_one(sql, params)

    async def story() -> None:
        reader = Twice(url)
        idempotency = Idempotency(reader, lease_s=60)
        assert isinstance(await idempotency.claim(tenant.organization_id, "twice", b"f"), Claim)
        with pytest.raises(IdempotencyInProgress):
            await idempotency.claim(tenant.organization_id, "twice", b"f")
        await reader.close()

    asyncio.run(story())


def test_half_an_answer_is_not_stored_when_the_server_stops(url: str, settings: LazySettings, tenant: Tenant) -> None:
    """Its client has left, the call went on for the client's sake, and was cut off after all."""

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            claim = await runtime.gateway.idempotency.claim(tenant.organization_id, "stop", b"f")
            assert isinstance(claim, Claim)
            sink = await stream(runtime, tenant, "tokens=64 delay_ms=500", claim=claim)
            await anext(aiter(sink.buffer))
            sink.disconnect()
            await asyncio.wait_for(runtime.close(), PATIENCE_S)

    asyncio.run(story())
    assert not IdempotentCall.objects.filter(organization_id=tenant.organization_id).exists()
    hold = Hold.objects.get(wallet_id=tenant.organization_id)
    assert (hold.state, hold.charged) == ("settled", hold.actual)


def test_whatever_stops_a_call_before_its_provider_frees_its_claim(
    url: str, settings: LazySettings, tenant: Tenant
) -> None:
    class Broken(Catalog, frozen=True):
        def resolve(self, model: str, provider: str | None = None) -> tuple[Route, ...]:
            raise ZeroDivisionError

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            claim = await runtime.gateway.idempotency.claim(tenant.organization_id, "bug", b"f")
            assert isinstance(claim, Claim)
            runtime.terms.catalog = Broken({})
            with pytest.raises(ZeroDivisionError):
                await stream(runtime, tenant, "", claim=claim)
            await runtime.close()

    asyncio.run(story())
    assert not IdempotentCall.objects.filter(organization_id=tenant.organization_id).exists()


def test_a_settlement_that_fails_gives_the_keys_place_back(url: str, settings: LazySettings, tenant: Tenant) -> None:
    class Refusing(Wire):
        async def transact(self, commands: Sequence[AnyCommand]) -> list[Outcome]:
            if any(isinstance(command, Settle) for command in commands):
                raise ValueError
            return await super().transact(commands)

    async def story() -> list[bytes]:
        async with gate_and_runtime(url, settings, Refusing) as (_, runtime):
            told = []
            for _ in range(2):  # the second would be refused, if the first had kept its place
                sink = await stream(runtime, tenant, "", limits=RateLimits(concurrency=1))
                told.append(b"".join([part async for part in sink.buffer]))
            await runtime.close()
            return told

    assert [said.endswith(STREAM_FAILURE_EVENT) for said in asyncio.run(story())] == [True, True]


def test_a_hold_covers_every_route_also_where_the_wallet_lowers_the_bound(
    url: str, settings: LazySettings, sandbox: SandboxServer
) -> None:
    """Dear output first, dear input second: which of them costs more depends on how much output there is."""
    tag = uuid.uuid4().hex
    for priority, (input_usd, output_usd) in enumerate([("0.01", "8"), ("8", "0.01")]):
        name = f"{tag}-{priority}"
        provider = make_provider(name, kind="openai", base_url=sandbox.base_url, allow_plain_http=True)
        price = make_price(input=input_usd, output=output_usd)
        make_route(f"test/{tag}", provider, upstream_model="openai/gpt-4.1-mini", priority=priority, price=price)
    poor = make_tenant(credits_micro=500_000)  # the first affords some 590 tokens, the second not even the prompt

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            prompt = [{"role": "user", "content": "word " * 2_500}]
            fields = {"model": f"test/{tag}", "messages": prompt, "max_tokens": None}
            with pytest.raises(InsufficientCredits):
                await stream(runtime, poor, "", fields=fields)
            await runtime.close()

    asyncio.run(story())


def test_a_client_who_takes_nothing_for_long_has_left(
    url: str, settings: LazySettings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands; nothing of what was sent is read."""
    monkeypatch.setattr("completions.calls.buffer.BUFFER_BYTES_MAX", 100)
    monkeypatch.setattr("completions.calls.buffer.CLIENT_PATIENCE_S", 0.2, raising=False)

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            await stream(runtime, tenant, "tokens=64 delay_ms=10")
            assert runtime.gateway.running == 1
            await all_ended(runtime)
            await runtime.close()

    asyncio.run(story())
    usage = Usage.objects.get(wallet_id=tenant.organization_id)
    assert (usage.cancelled, usage.estimated) == (True, True)


def test_a_provider_that_drips_does_not_outlive_its_hold(url: str, settings: LazySettings, tenant: Tenant) -> None:
    """Its bytes never stop coming; the call does, and costs what was delivered."""
    settings.CALL_MAX_S = 0.5

    async def story() -> list[bytes]:
        async with gate_and_runtime(url, settings) as (_, runtime):
            sink = await stream(runtime, tenant, "tokens=16000 delay_ms=20")
            told = [part async for part in sink.buffer]
            await runtime.close()
            return told

    told = asyncio.run(story())
    assert told[-1].endswith(STREAM_FAILURE_EVENT)
    usage = Usage.objects.get(wallet_id=tenant.organization_id)
    assert (usage.error_code, usage.cancelled, usage.estimated) == ("unavailable", False, True)
    assert usage.completion_tokens > 0
    assert usage.charged == -Entry.objects.get(wallet_id=tenant.organization_id, kind="usage").amount


@pytest.mark.parametrize("directive", ["head_ms=60000", "first_ms=60000"])
def test_a_call_that_takes_too_long_before_its_first_word_is_a_503_and_free(
    url: str, settings: LazySettings, tenant: Tenant, sandbox: SandboxServer, directive: str
) -> None:
    settings.CALL_MAX_S = 0.3

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            for answer in (stream(runtime, tenant, directive), complete(runtime, tenant, directive)):
                with pytest.raises(ProviderUnavailable, match="took longer than a call may"):
                    await answer
            await runtime.close()

    asyncio.run(story())
    holds = Hold.objects.filter(wallet_id=tenant.organization_id)
    assert list(holds.values_list("state", "charged")) == [("voided", None)] * 2
    sandbox.wait_until(lambda calls: calls[0].disconnected_at is not None)


def test_a_stream_is_drained_for_a_while_and_then_let_go(
    url: str, settings: LazySettings, tenant: Tenant, sandbox: SandboxServer
) -> None:
    settings.DRAIN_MAX_S = 0.3
    Provider.objects.filter(name="openrouter").update(when_client_leaves="drain")

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            sink = await stream(runtime, tenant, "tokens=16000 delay_ms=20")
            await anext(aiter(sink.buffer))
            sink.disconnect()
            await asyncio.sleep(0.1)
            assert sandbox.calls[0].disconnected_at is None
            await all_ended(runtime)
            await runtime.close()

    try:
        asyncio.run(story())
    finally:
        Provider.objects.filter(name="openrouter").update(when_client_leaves="cancel")
    [call] = sandbox.wait_until(lambda calls: calls[0].disconnected_at is not None)
    usage = Usage.objects.get(wallet_id=tenant.organization_id)
    assert (usage.cancelled, usage.estimated, usage.error_code) == (True, True, "client_disconnected")
    assert call.delivered_tokens > 10  # what came while nobody listened was used, and is paid


def test_a_call_that_was_answered_when_the_server_must_go_is_told_and_spooled(
    url: str, settings: LazySettings, tenant: Tenant
) -> None:
    """The database is away: what the answer cost cannot be said, and nobody is left waiting for it."""

    async def story() -> None:
        async with gate_and_runtime(url, settings) as (gate, runtime):
            whole = asyncio.ensure_future(complete(runtime, tenant, "first_ms=200"))
            sink = await stream(runtime, tenant, "delay_ms=30")
            await gate.shut()
            told: list[bytes] = []

            async def listen() -> None:
                told.extend([part async for part in sink.buffer])

            listening = asyncio.ensure_future(listen())
            await asyncio.sleep(0.6)  # both are answered, and wait for the ledger
            await asyncio.wait_for(runtime.close(), PATIENCE_S)
            with pytest.raises(ServerStopping):
                await whole
            await listening
            assert b"".join(told).endswith(STREAM_FAILURE_EVENT)

    asyncio.run(story())
    spool = Spool(settings.SPOOL_DIR)
    kept = [command for path in spool.files() for command in spool.read(path) if isinstance(command, Settle)]
    assert [command.receipt.usage.completion_tokens for command in kept] == [8, 8]
    journal.execute(kept)
    assert set(Hold.objects.filter(wallet_id=tenant.organization_id).values_list("state", "charged")) == {
        ("settled", 2_400)
    }


def test_no_call_goes_to_a_provider_when_the_server_has_stopped(
    url: str, settings: LazySettings, tenant: Tenant, sandbox: SandboxServer
) -> None:
    async def story() -> None:
        async with gate_and_runtime(url, settings) as (_, runtime):
            await runtime.end_calls(0)
            with pytest.raises(ServerStopping):
                await stream(runtime, tenant, "")
            await runtime.close()

    asyncio.run(story())
    assert sandbox.calls == []
    assert not Hold.objects.filter(wallet_id=tenant.organization_id).exists()
