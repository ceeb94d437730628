"""What dies, and when: a seeded order of blows, one after the other, each healed before the run is over."""

import random
import threading
import time
from collections import Counter
from typing import NamedTuple

import psycopg

from quantized.devstack.errors import StackError
from tests.chaos.stack import Stack

OUTAGE_S = (0.2, 2.0)
PAUSE_S = (0.5, 2.5)
# Every kind comes once before any comes twice: a short run has seen them all.
KINDS = (
    "kill -9 of a server",
    "immediate stop of PostgreSQL",
    "kill -9 of the worker",
    "kill -9 of beat",
    "restart of Redis",
    "SIGTERM of a server",
    "SIGTERM of a server without PostgreSQL",
    "connections to PostgreSQL cut",
)


class Span(NamedTuple):
    """When something was done to a server, in Unix seconds."""

    port: int
    began_at: float
    ended_at: float


class Faults:
    def __init__(self, stack: Stack, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.polite_exits: list[int] = []
        self.polite: list[Span] = []  # stops with everything else in order: no client may be left without a word
        self.killed: list[Span] = []  # from the blow until the next life is ready: calls may be left open
        self._stack = stack
        self._random = random.Random(seed)
        self._order: list[str] = []
        self.trouble: BaseException | None = None

    def run(self, until_s: float, over: threading.Event) -> None:
        """In a thread of its own, until the time is over and every kind was struck; then `over` is set. What goes wrong
        here is raised by whoever joins it."""
        try:
            while time.monotonic() < until_s or len(self.counts) < len(KINDS):
                self._strike(self._next())
                time.sleep(self._random.uniform(*PAUSE_S))
        except BaseException as error:
            self.trouble = error
        finally:
            over.set()

    def _next(self) -> str:
        if not self._order:
            self._order = self._random.sample(KINDS, len(KINDS))
        return self._order.pop()

    def _strike(self, kind: str) -> None:
        server = self._random.choice(list(self._stack.ports))
        match kind:
            case "kill -9 of a server":
                began_at = time.time()
                self._stack.kill(server)
                self._outage()
                self._start(server)
                self.killed.append(Span(self._stack.ports[server], began_at, time.time()))
            case "kill -9 of the worker" | "kill -9 of beat":
                name = kind.split()[-1]
                self._stack.kill(name)
                self._outage()
                self._start(name)
            case "SIGTERM of a server":
                began_at = time.time()
                self.polite_exits.append(self._stack.terminate(server))
                self.polite.append(Span(self._stack.ports[server], began_at, time.time()))
                self._start(server)
            case "SIGTERM of a server without PostgreSQL":
                began_at = time.time()
                self._stack.stop_postgres_at_once()
                self.polite_exits.append(self._stack.terminate(server))
                self._stack.note_spool()
                self._stack.start_postgres()
                self._start(server)
                self.killed.append(Span(self._stack.ports[server], began_at, time.time()))
            case "immediate stop of PostgreSQL":
                self._stack.stop_postgres_at_once()
                self._outage()
                self._stack.start_postgres()
            case "restart of Redis":
                self._stack.restart_redis()
            case "connections to PostgreSQL cut":
                cut_connections(self._stack.env["DATABASE_URL"])
        self.counts[kind] += 1

    def _start(self, name: str) -> None:
        """The database may just be away: a server that cannot start says so, and a supervisor tries again."""
        deadline_s = time.monotonic() + 60
        while True:
            self._stack.start_product(name)
            try:
                self._stack.processes.await_ready()
                return
            except StackError:
                if time.monotonic() > deadline_s:
                    raise
                self._stack.forget_dead()

    def _outage(self) -> None:
        time.sleep(self._random.uniform(*OUTAGE_S))


CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""


def cut_connections(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(CUT)
