"""A server with two upstreams for one model, for the tests of what happens when the first of them fails."""

import time
from typing import NamedTuple

import httpx

from billing.models import Usage
from sandbox.server import SandboxServer
from tests.kit.live import Server
from tests.kit.tenants import Tenant

SERVED_WITHIN_S = 10


class House(NamedTuple):
    """A server in front of two upstreams, `first` and `second`, that both serve `model`."""

    server: Server
    first: SandboxServer
    second: SandboxServer
    model: str
    names: tuple[str, str]

    def ask(self, tenant: Tenant, *, stream: bool = False, provider: str | None = None) -> httpx.Response:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 64,
            "stream": stream,
        }
        headers = {**tenant.headers, **({"X-Quantized-Provider": provider} if provider else {})}
        return httpx.post(f"{self.server.base_url}/chat/completions", headers=headers, json=body, timeout=20)

    def wait_served(self) -> None:
        """A server that runs is notified of the new model, and reads the catalog anew."""
        deadline = time.monotonic() + SERVED_WITHIN_S
        while self.model not in httpx.get(f"{self.server.base_url}/models").text:
            assert time.monotonic() < deadline, "the server did not read the catalog"
            time.sleep(0.01)

    def break_first(self, directive: str) -> None:
        httpx.post(f"{self.first.origin}/_sandbox/default", json={"directive": directive}).raise_for_status()


def usage_of(response: httpx.Response) -> Usage:
    return Usage.objects.get(pk=response.headers["x-generation-id"].removeprefix("gen-"))
