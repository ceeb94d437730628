"""SIGTERM under load: every request that was taken is answered or told why not, and every call is booked once."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from billing.models import Hold, Usage
from billing.oversight import verifier
from completions.models import IdempotentCall
from sandbox.server import SandboxServer
from tests.kit.calls import PATH, chat
from tests.kit.live import Server, start_server
from tests.kit.tenants import Tenant, make_tenant

CALLERS = 24
SHORT = "tokens=8 delay_ms=20"
ENDLESS = "tokens=16000 delay_ms=1000"
# How a request may end. Anything else, a connection that ends without a word above all, is a failure of the test.
ANSWER, STREAM, REFUSAL, ERROR_EVENT = "answer", "stream", "refusal", "error event"


class Caller:
    """Sends one request after another, each on the connection of the one before if that was left open."""

    def __init__(self, server: Server, tenant: Tenant, directive: str, *, stream: bool, headers: str = "") -> None:
        self.port = server.port
        content = json.dumps(chat(directive, stream=stream)).encode()
        self.request = (
            f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {tenant.api_key}\r\n"
            f"content-type: application/json\r\n{headers}content-length: {len(content)}\r\n\r\n"
        ).encode() + content
        self.endings: list[str] = []

    async def call_until_refused(self, requests_max: int = 1_000_000) -> list[str]:
        while len(self.endings) < requests_max:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                break
            try:
                while len(self.endings) < requests_max:
                    writer.write(self.request)
                    ending, is_last = await self.ending(reader)
                    self.endings.append(ending)
                    if is_last:
                        break
            finally:
                writer.close()
        return self.endings

    async def ending(self, reader: asyncio.StreamReader) -> tuple[str, bool]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await (chunked(reader) if "transfer-encoding: chunked" in head else measured(reader, head))
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            return f"{type(error).__name__} {getattr(error, 'partial', b'')[-200:]!r}", True
        return self.meaning(int(head.split(" ")[1]), body), "connection: close" in head

    def meaning(self, status: int, body: bytes) -> str:
        if status == 503:
            assert json.loads(body)["error"]["message"] == "The server is shutting down."
            return REFUSAL
        assert status == 200, (status, body)
        if not body.startswith(b"data: ") and not body.startswith(b":"):
            assert json.loads(body)["usage"]["credits_used"] > 0
            return ANSWER
        *_, last = body.strip().split(b"\n\n")
        if last == b"data: [DONE]":
            return STREAM
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "provider_error"
        return ERROR_EVENT


async def measured(reader: asyncio.StreamReader, head: str) -> bytes:
    [length] = [line.split(": ")[1] for line in head.split("\r\n") if line.startswith("content-length")]
    return await reader.readexactly(int(length))


async def chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def stopped_under_load(server: Server, sandbox: SandboxServer, callers: list[Caller]) -> Counter[str]:
    calls = [asyncio.ensure_future(caller.call_until_refused()) for caller in callers]
    deadline = time.monotonic() + 20
    while len(sandbox.calls) < 3 * len(callers):
        assert time.monotonic() < deadline, "there is no load"
        await asyncio.sleep(0.02)
    server.process.terminate()
    return Counter(ending for endings in await asyncio.gather(*calls) for ending in endings)


def assert_booked(tenant: Tenant, sandbox: SandboxServer) -> list[Usage]:
    """No hold is open, and what the provider has served is in the books, once each."""
    holds = Hold.objects.filter(wallet_id=tenant.organization_id)
    assert not holds.filter(state="open").exists()
    assert verifier.violations() == []
    usages = list(Usage.objects.filter(wallet_id=tenant.organization_id))
    assert holds.count() == len(usages)
    booked = Counter(usage.provider_ref for usage in usages if usage.provider_ref)
    served = [call.id for call in sandbox.calls if call.state == "finished"]
    assert {id: booked[id] for id in served} == dict.fromkeys(served, 1)
    return usages


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_under_load_loses_no_call_and_leaves_nobody_without_an_answer(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path, workers: int
) -> None:
    tenant = make_tenant(1_000_000_000)
    sandbox.reset()
    with start_server(server_environment, tmp_path, "--workers", str(workers)) as server:
        callers = [
            Caller(server, tenant, SHORT, stream=bool(n % 2), headers=CLOSES[n % 3 == 0]) for n in range(CALLERS)
        ]
        endings = asyncio.run(stopped_under_load(server, sandbox, callers))
        assert server.process.wait(30) == 0
    assert set(endings) == {ANSWER, STREAM}, endings
    usages = assert_booked(tenant, sandbox)
    assert sum(endings.values()) == len(usages)
    assert {usage.error_code for usage in usages} == {""}


CLOSES = {True: "connection: close\r\n", False: ""}


def test_calls_that_outlast_the_grace_are_told_and_booked(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
) -> None:
    tenant = make_tenant(1_000_000_000)
    sandbox.reset()
    environment = {**server_environment, "SHUTDOWN_GRACE_S": "1.5"}
    with start_server(environment, tmp_path, "--workers", "2") as server:
        directives = (SHORT, ENDLESS, "head_ms=60000", "first_ms=60000")
        callers = [
            Caller(server, tenant, directives[n % 4], stream=n % 8 < 4, headers=CLOSES[False]) for n in range(CALLERS)
        ]
        endings = asyncio.run(stopped_under_load(server, sandbox, callers))
        assert server.process.wait(30) == 0
    assert set(endings) == {ANSWER, STREAM, REFUSAL, ERROR_EVENT}, endings
    # Of 18 long ones 3 had told their clients something; these ask once more on their connections, too late for a call.
    assert (endings[ERROR_EVENT], endings[REFUSAL]) == (3, 15 + 3)
    usages = assert_booked(tenant, sandbox)
    assert sum(endings.values()) == len(usages) + 3
    cut = [usage for usage in usages if usage.error_code]
    assert Counter((usage.error_code, usage.streamed, usage.charged > 0) for usage in cut) == {
        ("unavailable", True, True): 3,
        ("unavailable", True, False): 6,
        ("unavailable", False, False): 9,
    }


def test_a_request_on_its_way_to_a_resting_connection_is_answered(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The stop comes between two requests of a connection; half of a body is told that there is no time for it."""
    tenant = make_tenant()

    async def story(server: Server) -> list[str]:
        caller = Caller(server, tenant, "", stream=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(caller.request)
        endings = [(await caller.ending(reader))[0]]
        half_reader, half_writer = await asyncio.open_connection("127.0.0.1", server.port)
        half_writer.write(caller.request[:-5])
        await asyncio.sleep(0.1)
        server.process.terminate()
        await asyncio.sleep(0.5)
        writer.write(caller.request)
        ending, is_last = await caller.ending(reader)
        half_ending, half_is_last = await caller.ending(half_reader)
        assert is_last
        assert half_is_last
        for one in (writer, half_writer):
            one.close()
        return [*endings, ending, half_ending]

    sandbox.reset()
    with start_server({**server_environment, "SHUTDOWN_GRACE_S": "2"}, tmp_path) as server:
        assert asyncio.run(story(server)) == [ANSWER, ANSWER, REFUSAL]
        assert server.process.wait(30) == 0
    assert len(assert_booked(tenant, sandbox)) == 2


def test_a_call_with_an_idempotency_key_survives_a_restart(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """One that ended within the grace comes again from what was kept; one that was cut off has given its key back."""
    tenant = make_tenant()
    environment = {**server_environment, "SHUTDOWN_GRACE_S": "1.5"}
    sandbox.reset()

    async def make(server: Server, *, stops: bool) -> list[str]:
        callers = [
            Caller(server, tenant, directive, stream=False, headers=f"idempotency-key: {directive[:8]}\r\n")
            for directive in ("first_ms=900", "head_ms=60000")
        ]
        calls = [asyncio.ensure_future(caller.call_until_refused(1)) for caller in callers[: 2 if stops else 1]]
        if stops:
            await asyncio.to_thread(sandbox.wait_until, lambda calls: len(calls) == 2)
            server.process.terminate()
        return [ending for endings in await asyncio.gather(*calls) for ending in endings]

    with start_server(environment, tmp_path) as server:
        assert asyncio.run(make(server, stops=True)) == [ANSWER, REFUSAL]
        assert server.process.wait(30) == 0
    keys = IdempotentCall.objects.filter(organization_id=tenant.organization_id).values_list("key", flat=True)
    assert list(keys) == ["first_ms"]
    with start_server(environment, tmp_path) as server:
        assert asyncio.run(make(server, stops=False)) == [ANSWER]
    assert len(sandbox.calls) == 2
    assert sorted(usage.charged for usage in assert_booked(tenant, sandbox)) == [0, 2_400]
