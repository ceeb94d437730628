"""What every measurement stands on: a static upstream, durable PostgreSQL and Valkey, our server and a tenant.

Everything lies in a directory of its own under var/bench/ and is gone when the measurement ends. DATABASE_URL and
REDIS_URL of the environment are not used: a measurement makes its own tenants and rows.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from quantized.devstack.errors import StackError
from quantized.devstack.places import CHECKOUT, VAR, remove_sockets, socket_directory
from quantized.devstack.processes import HOST, Process, Processes, free_port, listens
from quantized.devstack.servers import start_servers

MANAGE = (sys.executable, str(CHECKOUT / "manage.py"))
RICH_MICRO = 10**15  # nobody runs out of credits while being measured
MODEL, CLAUDE = "openai/gpt-4.1-mini", "anthropic/claude-haiku-4.5"


class Tenant(NamedTuple):
    organization_id: str
    api_key: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.api_key}")]


class Server(NamedTuple):
    """A started process that answers on a port."""

    port: int
    process: Process

    @property
    def pid(self) -> int:
        return self.process.popen.pid


class Stack:
    def __init__(self, root: Path, processes: Processes) -> None:
        self.root = root
        self.processes = processes
        urls = start_servers(root, processes, {}, durable=True)
        self.upstream = self.start_module("upstream", "benchmarks.upstream")
        self.env = {**os.environ, **urls, **self._settings()}

    @property
    def database_url(self) -> str:
        return self.env["DATABASE_URL"]

    @property
    def postgres_pid(self) -> int:
        """Read from the server's own file: as root it runs behind a helper."""
        return int((self.root / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])

    def _settings(self) -> dict[str, str]:
        origin = f"http://{HOST}:{self.upstream.port}"
        return {
            "DJANGO_SETTINGS_MODULE": "quantized.settings",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "KEY_PEPPER": secrets.token_urlsafe(48),
            "PUBLIC_URL": "http://localhost:8000",
            "SPOOL_DIR": str(self.root / "spool"),
            "OPENROUTER_BASE_URL": f"{origin}/api/v1",
            "OPENROUTER_API_KEY": "sk-static",
            "ANTHROPIC_BASE_URL": origin,
            "ANTHROPIC_API_KEY": "sk-static",
            "SHUTDOWN_GRACE_S": "3",
        }

    # --- data -------------------------------------------------------------------------------

    def prepare(self, env: Mapping[str, str] | None = None) -> None:
        """Schema and catalog."""
        self.manage("migrate", "--verbosity", "0", env=env)
        self.manage("loadcatalog", str(CHECKOUT / "catalog.toml"), env=env)

    def open_tenant(self, name: str = "bench", env: Mapping[str, str] | None = None) -> Tenant:
        email = f"{name}@example.com"
        told = self.manage_json("createtenant", name, "--owner", email, "--credits", str(RICH_MICRO), env=env)
        return Tenant(told["organization"], told["api_key"])

    def manage(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run([*MANAGE, *arguments], env=env or self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"manage.py {arguments[0]} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def manage_json(self, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.manage(*arguments, "--json", env=env))
        return told

    def other_database(self, name: str) -> dict[str, str]:
        """The environment for a second, empty database on the same server."""
        with self.superuser() as connection:
            made = sql.SQL("CREATE DATABASE {} OWNER quantized").format(sql.Identifier(name))
            connection.execute(made)
        url = self.database_url.replace("@/quantized?", f"@/{name}?")
        return {**self.env, "DATABASE_URL": url, "SPOOL_DIR": str(self.root / f"spool-{name}")}

    def superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        sockets = str(socket_directory(self.root))
        return psycopg.connect(host=sockets, user="postgres", dbname=database, autocommit=True)

    def postgres_facts(self) -> str:
        """What makes a commit durable here."""
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        with self.superuser() as connection:
            rows = [connection.execute(f"SHOW {name}").fetchone() for name in names]
        return (
            "PostgreSQL: " + ", ".join(f"{name} {row[0]}" for name, row in zip(names, rows, strict=True) if row) + "."
        )

    # --- processes --------------------------------------------------------------------------

    def start_ours(self, workers: int = 1, env: Mapping[str, str] | None = None) -> Server:
        port = free_port()
        command = [*MANAGE, "serve", "--port", str(port), "--workers", str(workers)]
        return self.start(f"quantized-{port}", command, port, env=env)

    def start_module(self, name: str, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Server:
        port = free_port()
        return self.start(name, [sys.executable, "-m", module, "--port", str(port), *arguments], port, env=env)

    def start(
        self, name: str, command: list[str], port: int, env: Mapping[str, str] | None = None, **options: Any
    ) -> Server:
        """Started and listening."""
        chosen = env if env is not None else getattr(self, "env", dict(os.environ))
        options.setdefault("cwd", CHECKOUT)
        process = self.processes.start(name, command, env=chosen, ready=lambda log: listens(port), **options)
        try:
            self.processes.await_ready()
        except StackError:
            self.processes.stop(process)
            raise
        return Server(port, process)

    def stop(self, server: Server) -> None:
        self.processes.stop(server.process)


@contextmanager
def running_stack(name: str) -> Iterator[Stack]:
    root = VAR / "bench" / name
    shutil.rmtree(root, ignore_errors=True)
    processes = Processes(root / "log")
    try:
        yield Stack(root, processes)
    finally:
        processes.stop_all()
        remove_sockets(root)
        if not os.environ.get("KEEP"):
            for leftover in ("postgres", "redis", "spool"):
                shutil.rmtree(root / leftover, ignore_errors=True)
