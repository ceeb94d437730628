"""Several processes, each with a writer, on the same wallets: what holds for one of them holds for all together."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from billing.ledger import journal
from billing.oversight import verifier
from billing.reconciliation import abandoned_holds
from tests.kit import CHECKOUT
from tests.kit.books import at_once, hold_row
from tests.kit.tenants import Tenant

K = 40
AMOUNT = 10
ENDS_WITHIN_S = 40


class Process:
    """A child with a writer: see tests/kit/ledger_process.py."""

    def __init__(self, environment: dict[str, str], spool: Path, tenant: Tenant, key: UUID | None = None) -> None:
        self.errors = ""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.ledger_process"],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.tell(
            database_url=environment["DATABASE_URL"],
            spool=str(spool),
            price_id=tenant.price_id,
            key_id=str(key) if key else None,
        )

    def __enter__(self) -> "Process":
        assert self.answer() == {"ready": True}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let it drain and go; it is killed if it does not."""
        try:
            _, self.errors = self._child.communicate(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            _, self.errors = self._child.communicate()
        if error is None:
            assert (self._child.returncode in (0, -9), "Traceback" in self.errors) == (True, False), self.errors

    def tell(self, **job: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(job) + "\n")
        self._child.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the process has gone"
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        self._child.kill()

    def rest(self) -> list[dict[str, Any]]:
        """What it had still said; a line it was killed in is not said."""
        assert self._child.stdout is not None
        lines = self._child.stdout.read().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def processes(
    count: int, environment: dict[str, str], tmp_path: Path, tenant: Tenant, key: UUID | None = None
) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        started = [Process(environment, tmp_path / "spool", tenant, key) for _ in range(count)]
        yield [stack.enter_context(process) for process in started]


def tell_all(told: list[Process], **job: Any) -> list[dict[str, Any]]:
    for process in told:
        process.tell(**job)
    return [process.answer() for process in told]


class Watcher:
    """A connection of its own that looks at a wallet all the time: how little was ever free."""

    def __init__(self, database_url: str, wallet: UUID) -> None:
        self.samples = 0
        self.least: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(database_url, wallet))

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Wait until it has looked once more."""
        seen = self.samples
        while self.samples < seen + 2:
            assert self._thread.is_alive()
            time.sleep(0.001)

    def _watch(self, database_url: str, wallet: UUID) -> None:
        with psycopg.connect(database_url, autocommit=True) as eye:
            while not self._stop.is_set():
                row = eye.execute(
                    "SELECT posted - held FROM billing_wallet WHERE organization_id = %s", [wallet]
                ).fetchone()
                assert row is not None
                self.least = row[0] if self.least is None else min(self.least, row[0])
                self.samples += 1


@pytest.mark.parametrize("count", [2, 4])
def test_a_wallet_that_affords_k_calls_holds_exactly_k_of_5k(
    process_environment: dict[str, str], tmp_path: Path, count: int
) -> None:
    alice = Tenant(K * AMOUNT)
    with (
        processes(count, process_environment, tmp_path, alice) as all_of_them,
        Watcher(process_environment["DATABASE_URL"], alice.organization_id) as watcher,
    ):
        job = {"wallets": [str(alice.organization_id)], "count": 5 * K // count, "amount": AMOUNT, "life_s": 600}
        answers = tell_all(all_of_them, do="reserve", **job)
        assert sum(answer["held"] for answer in answers) == K
        refusals = Counter(reason for answer in answers for reason in answer["refused"])
        assert refusals == {"credits": 4 * K}
        assert alice.wallet == (K * AMOUNT, K * AMOUNT, 1)
        watcher.look()
        charged = tell_all(all_of_them, do="settle")
        assert sum(answer["charged"] for answer in charged) == K * AMOUNT
    assert watcher.least == 0, "all was held at some moment, and never more than all"
    assert alice.wallet == (0, 0, K + 1)
    assert [entry[3] for entry in alice.entries()] == list(range(K * AMOUNT, -1, -AMOUNT))
    assert verifier.violations() == []


def test_a_keys_limit_holds_for_all_processes_together(process_environment: dict[str, str], tmp_path: Path) -> None:
    alice = Tenant(1_000_000)
    key = alice.key(limit_micro=K * AMOUNT, limit_period="total")
    with processes(2, process_environment, tmp_path, alice, key) as both:
        answers = tell_all(
            both, do="reserve", wallets=[str(alice.organization_id)], count=5 * K // 2, amount=AMOUNT, life_s=600
        )
        assert sum(answer["held"] for answer in answers) == K
        assert Counter(reason for answer in answers for reason in answer["refused"]) == {"key_limit": 4 * K}
        tell_all(both, do="settle")
    assert alice.wallet == (1_000_000 - K * AMOUNT, 0, K + 1)
    assert verifier.violations() == []


def test_wallets_in_opposite_orders_and_everybody_at_once_never_deadlock(
    process_environment: dict[str, str], tmp_path: Path
) -> None:
    """Two writers, an operator's own transactions and three sweepers, all on the same twelve wallets."""
    tenants = [Tenant(1_000_000) for _ in range(12)]
    forwards = [str(tenant.organization_id) for tenant in tenants]
    orders = [forwards, forwards[::-1]]
    before = deadlocks()
    stop = threading.Event()

    def operator() -> None:
        """Whole batches over all wallets, in another order every time."""
        turn = 0
        while not stop.is_set():
            turn += 1
            ours = [*tenants[turn % 12 :], *tenants[: turn % 12]]
            reserves = [tenant.reserve(AMOUNT) for tenant in ours]
            journal.execute(reserves)
            settles = [tenant.settle(hold.hold_id, 0) for tenant, hold in zip(ours, reserves, strict=True)]
            journal.execute(settles[::-1])

    def sweep() -> None:
        while not stop.is_set():
            abandoned_holds.sweep()

    with processes(2, process_environment, tmp_path, tenants[0]) as both:
        for process, order in zip(both, orders, strict=True):
            # Half of the holds are over before their calls are: the sweepers meet the settlements.
            process.tell(do="calls", wallets=order, count=12, amount=AMOUNT, life_s=0.005)

        def listen() -> list[int]:
            try:
                return [last_answer(process)["charged"] for process in both]
            finally:
                stop.set()

        charged = at_once([listen, operator, sweep, sweep, sweep])[0]
    abandoned_holds.sweep()
    assert charged == [12 * 8 * 12 * AMOUNT] * 2
    assert sum(tenant.wallet[0] for tenant in tenants) == 12 * 1_000_000 - sum(charged)
    assert {tenant.wallet[1] for tenant in tenants} == {0}
    assert deadlocks() == before
    assert [process.errors for process in both] == ["", ""]
    assert verifier.violations() == []


def last_answer(process: Process) -> dict[str, Any]:
    while "settled" in (answer := process.answer()):
        pass
    return answer


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("after", [1, 40])
def test_a_process_that_is_killed_takes_no_acknowledged_settlement_with_it(
    process_environment: dict[str, str], tmp_path: Path, after: int
) -> None:
    alice = Tenant(1_000_000)
    with processes(1, process_environment, tmp_path, alice) as [process]:
        process.tell(do="calls", wallets=[str(alice.organization_id)], count=10_000, amount=AMOUNT, life_s=0.5)
        said = [process.answer() for _ in range(after)]
        process.kill()
        said += process.rest()
    told = {UUID(answer["settled"]) for answer in said}
    assert len(told) >= after
    assert {hold_row(hold) for hold in told} == {("settled", AMOUNT, AMOUNT, AMOUNT)}
    time.sleep(0.5)
    abandoned_holds.sweep()
    posted, held, seq = alice.wallet
    assert held == 0
    assert posted == 1_000_000 - (seq - 1) * AMOUNT
    assert seq - 1 >= len(told)
    assert verifier.violations() == []
