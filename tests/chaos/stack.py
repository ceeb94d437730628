"""The product as processes that can be killed and started again; the sandbox in a thread, because it is the witness."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from quantized.devstack.places import CHECKOUT, make_private, socket_directory
from quantized.devstack.postgres import identity, start_postgres
from quantized.devstack.processes import HOST, Process, Processes, free_port
from quantized.devstack.valkey import start_valkey
from sandbox import cards
from sandbox.app import Config
from sandbox.calls import Call
from sandbox.server import SandboxServer

# A provider that takes every call and fails it before a word of output, at the full price: the next route answers.
FLAKY = "flaky"
FLAKY_MODEL = "chaos/two-routes"
PROVIDE_FLAKY = f"""
from completions.models import Provider
provider = Provider(name="{FLAKY}", kind="openrouter", base_url="%s", allow_plain_http=True)
provider.set_secret("sandbox")
provider.save()
"""
FLAKY_ROUTES = f"""
[[models]]
id = "{FLAKY_MODEL}"
name = "Two routes"
owned_by = "chaos"
created = 2026-11-26
"""
FLAKY_ROUTE = """
[[models.routes]]
provider = "{provider}"
upstream_model = "openai/gpt-4.1-mini"
priority = {priority}
capabilities = []
context_length = 1_000_000
max_output_tokens = 32_000
price = {{ input = 0.40, output = 1.60 }}
"""

MANAGE = (sys.executable, str(CHECKOUT / "manage.py"))
CELERY = (sys.executable, "-m", "celery", "-A", "quantized.celery")
COMMAND_TIMEOUT_S = 120.0
# A call is over before its hold is, a hold before the test is.
TIMES = {
    "HOLD_TTL_S": "15",
    "CALL_MAX_S": "9",
    "DRAIN_MAX_S": "4",
    "UPSTREAM_READ_TIMEOUT_S": "3",
    "SWEEP_EVERY_S": "1",
    "SHUTDOWN_GRACE_S": "2",
    "RECONCILE_PER_MINUTE": "100000",
    "CIRCUIT_FAILURES": "50",
    "CIRCUIT_OPEN_S": "1",
}


class Stack:
    """`servers`, `worker` and `beat` are started and killed by name; `starts` counts each one's lives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes = Processes(root / "log")
        self.sockets = socket_directory(root)
        make_private(self.sockets, identity().socket_owner_uid)
        claudes, others = cards.read(cards.CATALOG, "anthropic"), cards.read(cards.CATALOG, "openrouter")
        self.sandbox = SandboxServer(Config(cards=others, claudes=claudes, default="generation_ms=0", keep=True))
        failing = "generation_ms=0 fault=invalid_json"
        self.flaky = SandboxServer(Config(cards=others, claudes=claudes, default=failing, keep=True))
        self.ports = {"server-1": free_port(), "server-2": free_port()}
        self.running: dict[str, Process] = {}
        self.starts: dict[str, int] = {}
        self.spooled: set[str] = set()  # files of settlements that were ever seen
        self.env: dict[str, str] = {}

    def start(self) -> None:
        self.sandbox.__enter__()
        self.flaky.__enter__()
        self.env = self._environment(self._start_postgres(), self._start_redis())
        self.manage("migrate", "--verbosity", "0", decode=False)
        self._load_catalog()
        for name in ("server-1", "server-2", "worker", "beat"):
            self.start_product(name)
        self.processes.await_ready()

    def close(self) -> None:
        self.processes.stop_all()
        self.sandbox.__exit__(None, None, None)
        self.flaky.__exit__(None, None, None)

    @property
    def calls(self) -> list[Call]:
        """What both providers served."""
        return [*self.sandbox.calls, *self.flaky.calls]

    @property
    def received(self) -> int:
        return sum(sandbox.counters["received"] for sandbox in (self.sandbox, self.flaky))

    def _load_catalog(self) -> None:
        self.manage("loadcatalog", str(CHECKOUT / "catalog.toml"))
        self.manage("shell", "-c", PROVIDE_FLAKY % self.flaky.base_url, decode=False)
        routes = (FLAKY_ROUTE.format(provider=name, priority=n) for n, name in enumerate((FLAKY, "openrouter")))
        more = self.root / "two-routes.toml"
        more.write_text(FLAKY_ROUTES + "".join(routes))
        self.manage("loadcatalog", str(more))

    def _environment(self, database_url: str, redis_url: str) -> dict[str, str]:
        told = {
            "DJANGO_SETTINGS_MODULE": "quantized.settings",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "KEY_PEPPER": secrets.token_urlsafe(48),
            "PUBLIC_URL": f"http://{HOST}",
            "SPOOL_DIR": str(self.root / "spool"),
            "OPENROUTER_API_KEY": "sandbox",
            "OPENROUTER_BASE_URL": self.sandbox.base_url,
            "ANTHROPIC_API_KEY": "sandbox",
            "ANTHROPIC_BASE_URL": self.sandbox.origin,
        }
        return {**os.environ, **TIMES, **told}

    # --- commands -------------------------------------------------------------------------------

    def manage(self, *command: str, decode: bool = True) -> Any:
        """A management command's JSON; its words on failure."""
        full = [*MANAGE, *command, *(["--json"] if decode else [])]
        answer = subprocess.run(
            full, check=False, env=self.env, cwd=CHECKOUT, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
        if answer.returncode != 0 and not answer.stdout:
            raise RuntimeError(f"{command[0]} failed: {answer.stderr[-2000:]}")
        return json.loads(answer.stdout) if decode else None

    # --- processes ------------------------------------------------------------------------------

    def start_product(self, name: str) -> None:
        self._begin(name, self._command(name), self._ready(name), env=self.env, cwd=CHECKOUT)

    def _command(self, name: str) -> list[str]:
        if name in self.ports:
            return [*MANAGE, "serve", "--port", str(self.ports[name])]
        if name == "worker":
            return [
                *CELERY,
                "worker",
                "--loglevel",
                "INFO",
                "--concurrency",
                "1",
                "--without-mingle",
                "--without-gossip",
            ]
        return [*CELERY, "beat", "--loglevel", "INFO", "--schedule", str(self.root / "beat-schedule")]

    def _ready(self, name: str) -> Callable[[Path], bool]:
        if name in self.ports:
            return lambda log: self.is_ready(name)
        word = "ready." if name == "worker" else "beat: Starting"
        return lambda log: word in log.read_text(errors="replace")

    def _begin(self, name: str, command: list[str], ready: Callable[[Path], bool], **options: Any) -> None:
        life = self.starts[name] = self.starts.get(name, 0) + 1
        self.running[name] = self.processes.start(f"{name}.{life}", command, ready=ready, **options)

    def is_ready(self, name: str) -> bool:
        try:
            return requests.get(f"http://{HOST}:{self.ports[name]}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def kill(self, name: str) -> None:
        """kill -9 of a process and of all its children."""
        process = self.running.pop(name)
        os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
        self.processes.stop(process)

    def terminate(self, name: str) -> int:
        """The polite way; its exit code."""
        process = self.running.pop(name)
        process.popen.send_signal(signal.SIGTERM)
        code = process.popen.wait(60)
        self.processes.stop(process)
        return code

    def note_spool(self) -> list[str]:
        """The files of settlements that wait for the next start, also remembered."""
        names = [path.name for path in self.root.glob("spool/*.jsonl")]
        self.spooled.update(names)
        return names

    def forget_dead(self) -> None:
        self.processes.stop(*[process for process in self.processes.running if process.has_ended()])

    # --- PostgreSQL and Redis -------------------------------------------------------------------

    def _start_postgres(self) -> str:
        url = start_postgres(self.root / "postgres", self.sockets, self.processes, durable=True)
        self.running["postgres"] = self._newest("postgres")
        return url

    def _start_redis(self) -> str:
        url = start_valkey(self.root / "redis", self.sockets, self.processes, durable=True)
        self.running["redis"] = self._newest("redis")
        return url

    def _newest(self, name: str) -> Process:
        return next(process for process in reversed(self.processes.running) if process.name == name)

    def stop_postgres_at_once(self) -> None:
        """What `pg_ctl stop -m immediate` does: no checkpoint, no farewell; the next start recovers from the log."""
        process = self.running.pop("postgres")
        process.popen.send_signal(signal.SIGQUIT)
        process.popen.wait(30)
        self.processes.stop(process)

    def start_postgres(self) -> None:
        self._start_postgres()

    def restart_redis(self) -> None:
        process = self.running.pop("redis")
        process.popen.kill()
        process.popen.wait()
        self.processes.stop(process)
        self._start_redis()
