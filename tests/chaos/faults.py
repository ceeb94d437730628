"""What dies, and when: a seeded order of blows, one after the other, each healed before the run is over."""

import random
import threading
import time
from collections import Counter

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
    "restart of Redis",
    "SIGTERM of a server",
    "connections to PostgreSQL cut",
)


class Faults:
    def __init__(self, stack: Stack, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.polite_exits: list[int] = []
        self._stack = stack
        self._random = random.Random(seed)
        self._order: list[str] = []
        self.trouble: BaseException | None = None

    def run(self, until_s: float, over: threading.Event) -> None:
        """In a thread of its own; what goes wrong here is raised by whoever joins it."""
        try:
            while time.monotonic() < until_s and not over.is_set():
                self._strike(self._next())
                over.wait(self._random.uniform(*PAUSE_S))
        except BaseException as error:
            self.trouble = error

    def _next(self) -> str:
        if not self._order:
            self._order = self._random.sample(KINDS, len(KINDS))
        return self._order.pop()

    def _strike(self, kind: str) -> None:
        server = self._random.choice(list(self._stack.ports))
        match kind:
            case "kill -9 of a server":
                self._stack.kill(server)
                self._outage()
                self._start(server)
            case "kill -9 of the worker":
                self._stack.kill("worker")
                self._outage()
                self._start("worker")
            case "SIGTERM of a server":
                self.polite_exits.append(self._stack.terminate(server))
                self._start(server)
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
