"""Our server as a process, and tenants to call it with: what every test over a socket stands on.

`gateway` is one server for the whole run, in front of `sandbox`, on the test database; tests make their
own tenants. A test that kills or starves a server starts its own with `start_server`. After every
test that used a tenant the ledger is verified.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from completions.catalog import file as catalog_file
from completions.catalog import services
from completions.models import Provider
from quantized.devstack.processes import free_port
from sandbox.server import SandboxServer
from tests.kit import CHECKOUT

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20


class Server:
    """One `manage.py serve` process on a free loopback port."""

    def __init__(self, environment: dict[str, str], log: Path, *arguments: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/v1"
        self.log = log
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port), *arguments]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, cwd=CHECKOUT, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the server did not become ready:\n{self.log.read_text()[-4000:]}")

    def is_ready(self) -> bool:
        """Asked again and again while it starts, so without httpx: each client of it reads all certificates first."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM: let calls end, drain, leave."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """kill -9 of the server and its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def start_server(environment: dict[str, str], directory: Path, *arguments: str) -> Iterator[Server]:
    server = Server(environment, directory / f"server-{os.urandom(4).hex()}.log", *arguments)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture
def server_environment(process_environment: dict[str, str], sandbox: SandboxServer) -> dict[str, str]:
    """For a server of the test's own; sets the catalog up once."""
    if not Provider.objects.filter(name="anthropic").exists():
        services.load(catalog_file.parse((CHECKOUT / "catalog.toml").read_text()))
    # Tests that make providers fail come in rows; the circuit breaker has its own.
    return {
        **process_environment,
        "CIRCUIT_FAILURES": "1000000",
        "REDIS_TIMEOUT_S": "5",
        "OPENROUTER_BASE_URL": sandbox.base_url,
        "OPENROUTER_API_KEY": "sk-or-sandbox",
        "ANTHROPIC_BASE_URL": sandbox.origin,
        "ANTHROPIC_API_KEY": "sk-ant-sandbox",
    }


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The run's servers by name; started by the first test that needs one, stopped at the end."""
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def gateway(
    server_environment: dict[str, str], shared_servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    if "gateway" not in shared_servers:
        server = Server(server_environment, tmp_path_factory.mktemp("gateway") / "server.log")
        server.wait_ready()
        shared_servers["gateway"] = server
    return shared_servers["gateway"]
