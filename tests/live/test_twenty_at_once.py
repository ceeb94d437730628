"""Twenty of the same at the same moment, over two servers that start together: one effect."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from django.test import override_settings
from pyreqwest.client import ClientBuilder

from billing.models import CreditRate, Entry, Hold, StripeEvent
from billing.oversight import verifier
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.books import at_once
from tests.kit.live import Server
from tests.kit.stripe import TEN_USD_OF_CREDITS, Buyer
from tests.kit.stripe_server import SECRET_KEY, WEBHOOK_SECRET, StripeServer, deliver
from tests.kit.tenants import Tenant

MARGIN = "0.0625"  # of no other server's
SLOW = json.dumps(
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 64,
        "metadata": {"sandbox": "first_ms=1500"},
    }
).encode()


@pytest.fixture
def stripe(live_db: None) -> Iterator[StripeServer]:
    with StripeServer() as server, override_settings(STRIPE_SECRET_KEY=SECRET_KEY, STRIPE_BASE_URL=server.origin):
        yield server


@pytest.fixture
def servers(server_environment: dict[str, str], stripe: StripeServer, tmp_path: Path) -> Iterator[list[Server]]:
    told = {"STRIPE_SECRET_KEY": SECRET_KEY, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET, "STRIPE_BASE_URL": stripe.origin}
    environment = server_environment | told | {"MARGIN": MARGIN}
    started = [Server(environment, tmp_path / f"server-{number}.log") for number in range(2)]
    try:
        for server in started:
            server.wait_ready()
        yield started
    finally:
        for server in started:
            server.stop()


async def ask_all(servers: list[Server], tenant: Tenant, count: int) -> list[tuple[int, str]]:
    """The status of each answer, and its body."""
    async with ClientBuilder().build() as client:

        async def ask(server: Server) -> tuple[int, str]:
            request = client.post(f"{server.base_url}/chat/completions").headers(tenant.headers)
            answer = await request.header("Idempotency-Key", "twenty").body_bytes(SLOW).build().send()
            return answer.status, await answer.text()

        return list(await asyncio.gather(*(ask(servers[number % 2]) for number in range(count))))


def test_one_key_one_payment_and_one_rate_on_two_servers(
    servers: list[Server], sandbox: SandboxServer, alice: Tenant, stripe: StripeServer
) -> None:
    assert CreditRate.objects.filter(margin=Decimal(MARGIN)).count() == 1

    sandbox.reset()
    first = asyncio.run(ask_all(servers, alice, 20))
    assert Counter(status for status, _ in first) == {200: 1, 409: 19}
    again = asyncio.run(ask_all(servers, alice, 4))
    answered = {body for status, body in [*first, *again] if status == 200}
    assert ([status for status, _ in again], len(answered)) == ([200] * 4, 1)
    assert len(sandbox.calls) == 1
    assert Hold.objects.filter(wallet_id=alice.organization_id).count() == 1
    [charge] = Entry.objects.filter(wallet_id=alice.organization_id, kind="usage")
    assert charge.amount == -json.loads(answered.pop())["usage"]["credits_used"]

    buyer = Buyer(stripe)
    paid = stripe.pay(str(buyer.start().session_id))[-1]
    urls = [f"{server.origin}/webhooks/stripe" for server in servers]
    statuses = at_once([lambda url=url: deliver(url, *[paid] * 10, at_once=True) for url in urls])
    assert statuses == [[200] * 10] * 2
    assert buyer.moves() == [("purchase", TEN_USD_OF_CREDITS)]
    assert StripeEvent.objects.filter(pk=paid["id"], outcome="done").count() == 1
    assert verifier.violations() == []
