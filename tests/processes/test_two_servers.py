"""The hard cap holds for any number of processes: a wallet that affords exactly K calls answers exactly K."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
from django.conf import settings
from django.db import connection
from pyreqwest.client import ClientBuilder

from billing.models import Entry, Hold, Wallet
from billing.oversight import verifier
from billing.pricing.money import CreditRate, Usage, cost_pico
from completions.catalog.loader import load_catalog
from completions.chat.tokens import estimate_prompt_tokens
from completions.dialects.openai_chat.schema import parse_chat
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.live import Server, start_server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

K = 20
OUTPUT_TOKENS = 50


def request_body(prompt_tokens: int) -> bytes:
    """A call whose provider reports exactly what its hold covers, so that settling frees nothing for a late one."""
    usage = f"prompt={prompt_tokens} completion={OUTPUT_TOKENS}"
    return msgspec.json.encode(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Name a river."}],
            "max_tokens": OUTPUT_TOKENS,
            "metadata": {"sandbox": usage},
        }
    )


def held_and_charged() -> tuple[bytes, int]:
    estimate = estimate_prompt_tokens(parse_chat(request_body(0)))
    price = load_catalog().models[MODEL].routes[0].price
    rate = CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN)
    cost = cost_pico(Usage(prompt_tokens=estimate, completion_tokens=OUTPUT_TOKENS), price)
    return request_body(estimate), rate.micro(cost)


async def call_all(servers: list[Server], tenant: Tenant, body: bytes, count: int) -> Counter[int]:
    async with ClientBuilder().build() as client:

        async def call(server: Server) -> int:
            request = client.post(f"{server.base_url}/chat/completions").headers(tenant.headers).body_bytes(body)
            return (await request.build().send()).status

        return Counter(await asyncio.gather(*(call(servers[n % len(servers)]) for n in range(count))))


class FloorWatch:
    """Samples what is left of a wallet while others spend it."""

    def __init__(self, tenant: Tenant) -> None:
        self.lowest: int | None = None
        self.samples = 0
        self._tenant = tenant
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "FloorWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            wallet = Wallet.objects.get(pk=self._tenant.organization_id)
            left = wallet.posted - wallet.held
            self.lowest = left if self.lowest is None else min(self.lowest, left)
            self.samples += 1
            time.sleep(0.002)
        connection.close()


def test_a_wallet_that_affords_k_calls_answers_exactly_k(
    server_environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
):
    body, cost_micro = held_and_charged()
    tenant = make_tenant(credits_micro=K * cost_micro)
    sandbox.reset()
    with (
        start_server(server_environment, tmp_path) as one,
        start_server(server_environment, tmp_path) as two,
        FloorWatch(tenant) as watch,
    ):
        statuses = asyncio.run(call_all([one, two], tenant, body, 5 * K))
        wait_closed(tenant)
    assert statuses == {200: K, 402: 4 * K}
    assert len(sandbox.calls) == K
    assert watch.lowest == 0
    assert watch.samples > 1
    wallet = Wallet.objects.get(pk=tenant.organization_id)
    assert (wallet.posted, wallet.held, wallet.seq) == (0, 0, K + 1)
    charges = Entry.objects.filter(wallet=wallet, kind="usage").values_list("amount", flat=True)
    assert list(charges) == [-cost_micro] * K
    assert Hold.objects.filter(wallet=wallet).count() == K
    assert verifier.violations() == []
