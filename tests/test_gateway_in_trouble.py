"""One gateway in this process, whose database, Redis, provider or client misbehaves in the middle of a call."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.principals import Principal
from billing import ledger
from billing.models import Hold
from billing.spool import Spool
from completions.relay import Events
from completions.sandbox.server import SandboxServer
from completions.schema import parse_chat
from quantized.runtime import Runtime
from tests.gate import Gate
from tests.gateway_calls import chat
from tests.gateway_server import Tenant, make_tenant

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
async def gate_and_runtime(url: str, settings: LazySettings) -> AsyncIterator[tuple[Gate, Runtime]]:
    async with Gate(url) as gate:
        settings.DATABASE_URL = gate.url
        runtime = Runtime()
        await runtime.start()
        yield gate, runtime


async def stream(runtime: Runtime, tenant: Tenant, directive: str, **more: Any) -> Events:
    body = parse_chat(json.dumps(chat(directive, stream=True)).encode())
    principal = Principal(tenant.organization_id, tenant.key_id, None, "key", None)
    leaving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return await runtime.gateway.stream(principal, body, None, leaving, **more)


def test_a_stop_while_the_database_is_away_spools_the_running_calls(
    url: str, settings: LazySettings, tenant: Tenant
) -> None:
    async def story() -> None:
        async with gate_and_runtime(url, settings) as (gate, runtime):
            events = await stream(runtime, tenant, "tokens=64 delay_ms=500")
            await anext(aiter(events))
            await gate.shut()
            await asyncio.wait_for(runtime.close(), PATIENCE_S)

    asyncio.run(story())
    spool = Spool(settings.SPOOL_DIR)
    [settlement] = [
        command for path in spool.files() for command in spool.read(path) if isinstance(command, ledger.Settle)
    ]
    ledger.execute([settlement])
    assert Hold.objects.get(wallet_id=tenant.organization_id).state == "settled"
