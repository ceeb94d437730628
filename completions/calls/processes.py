"""The server processes that run, and what only they know: which providers their circuits keep away from, how long the
queue to the ledger is, how many calls run. One small row each, written aside, never by a call.

A process writes when something has changed, looking every few seconds, and now and then to say that it is alive.
"""

import json
import logging
import os
import socket
import time
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

import msgspec
from django.utils import timezone

from billing.ledger.writer import Writer
from common.postgres import DatabaseUnavailable
from completions.calls.circuits import Circuits
from completions.calls.models import ServerProcess

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5
WRITE_EVERY_S = 30.0  # a row is written at least so often, also when nothing in it has changed
DEAD_AFTER_S = 90

# Rows of processes that died without a word go here too: each process sweeps out what nobody has seen for a day.
WRITE = """
WITH gone AS (DELETE FROM completions_serverprocess WHERE seen_at < now() - interval '1 day')
INSERT INTO completions_serverprocess (id, name, started_at, seen_at, circuits, running_calls, ledger_queue,
                                       commit_ms)
VALUES (%s, %s, now(), now(), %s::jsonb, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), circuits = excluded.circuits, running_calls = excluded.running_calls,
                               ledger_queue = excluded.ledger_queue, commit_ms = excluded.commit_ms
"""
DELETE = "DELETE FROM completions_serverprocess WHERE id = %s"


class Database(Protocol):
    async def execute(self, sql: str, params: tuple[object, ...]) -> None: ...


class Calls(Protocol):
    @property
    def circuits(self) -> Circuits: ...

    @property
    def running(self) -> int: ...


class ProcessReport:
    """This process's row."""

    def __init__(self, database: Database, writer: Writer, gateway: Calls) -> None:
        self._database, self._writer, self._gateway = database, writer, gateway
        self._id, self._name = uuid4(), f"{socket.gethostname()}:{os.getpid()}"
        self._written: tuple[str, int, int] | None = None
        self._written_s = float("-inf")
        self._commits, self._commits_s = 0, 0.0  # all that the last row's `commit_ms` counted

    async def write(self) -> None:
        """Write the row if something in it has changed, or it is getting old. Raises DatabaseUnavailable."""
        now = (json.dumps(self._gateway.circuits.troubled()), self._gateway.running, self._writer.queue_length)
        if now == self._written and time.monotonic() - self._written_s < WRITE_EVERY_S:
            return
        await self._database.execute(WRITE, (self._id, self._name, *now, self._commit_ms()))
        self._written, self._written_s = now, time.monotonic()

    def _commit_ms(self) -> float | None:
        """The mean time of the ledger's batches since the last row; None if there was none."""
        commits, seconds = sum(self._writer.commit_seconds.counts), self._writer.commit_seconds.total
        made, took_s = commits - self._commits, seconds - self._commits_s
        self._commits, self._commits_s = commits, seconds
        return took_s / made * 1000 if made else None

    async def withdraw(self) -> None:
        """Delete the row, as the process ends. Without a database it stays, and counts as dead after DEAD_AFTER_S."""
        try:
            await self._database.execute(DELETE, (self._id,))
        except DatabaseUnavailable:
            logger.info("left without saying so: no database")


class CircuitState(msgspec.Struct, frozen=True):
    """A provider's circuit over all server processes: the worst state any has, and how many have it."""

    state: str
    processes: int


class Servers(msgspec.Struct, frozen=True):
    processes: int
    running_calls: int
    ledger_queue: int
    commit_ms: float | None  # of the process where it takes longest
    circuits: dict[str, CircuitState]  # of the providers that are not closed everywhere

    def circuit(self, provider: str) -> CircuitState:
        return self.circuits.get(provider, CircuitState("closed", self.processes))


def servers(now: datetime | None = None) -> Servers:
    """The server processes seen in the last DEAD_AFTER_S seconds. One query."""
    since = (now or timezone.now()) - timedelta(seconds=DEAD_AFTER_S)
    alive = list(ServerProcess.objects.filter(seen_at__gte=since))
    return Servers(
        processes=len(alive),
        running_calls=sum(one.running_calls for one in alive),
        ledger_queue=sum(one.ledger_queue for one in alive),
        commit_ms=max((one.commit_ms for one in alive if one.commit_ms is not None), default=None),
        circuits=worst(alive),
    )


def worst(alive: list[ServerProcess]) -> dict[str, CircuitState]:
    states: dict[str, list[str]] = {}
    for one in alive:
        for provider, state in one.circuits.items():
            states.setdefault(provider, []).append(state)
    return {
        provider: CircuitState(worse, found.count(worse))
        for provider, found in states.items()
        for worse in ["open" if "open" in found else "half_open"]
    }
