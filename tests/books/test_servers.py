"""What server processes tell of themselves: circuits, queue and running calls, one row each, seldom written."""

from collections.abc import Coroutine
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from common.histogram import Histogram
from common.postgres import DatabaseUnavailable
from completions.calls import processes as servers
from completions.calls.circuits import Circuits
from completions.calls.processes import CircuitState, ProcessReport
from completions.models import ServerProcess

pytestmark = pytest.mark.django_db


class Database:
    """The reader's one method, on the test's own connection."""

    def __init__(self) -> None:
        self.statements = 0

    async def execute(self, sql: str, params: tuple[object, ...]) -> None:
        self.statements += 1
        with connection.cursor() as cursor:
            cursor.execute(sql, params)


class Gone:
    async def execute(self, sql: str, params: tuple[object, ...]) -> None:
        raise DatabaseUnavailable


class Process:
    """A gateway and a writer as far as they are told of."""

    def __init__(self) -> None:
        self.circuits = Circuits(failures_max=1, open_s=60, clock=lambda: self.now_s)
        self.running, self.queue_length, self.now_s = 0, 0, 0.0
        self.commit_seconds = Histogram((1.0,))


@pytest.fixture
def process() -> Process:
    return Process()


def report(process: Process, database: object) -> ProcessReport:
    return ProcessReport(database, process, process)


def run(coroutine: Coroutine[None, None, None]) -> None:
    """To its end without a loop, on the test's own connection: nothing here waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def write(one: ProcessReport) -> None:
    run(one.write())


def test_a_process_writes_when_something_has_changed(process):
    database = Database()
    one = report(process, database)
    for _ in range(3):
        write(one)
    assert database.statements == 1
    process.circuits.record_failure("openrouter")
    process.running, process.queue_length = 7, 3
    write(one)
    assert database.statements == 2
    row = ServerProcess.objects.get()
    assert (row.circuits, row.running_calls, row.ledger_queue) == ({"openrouter": "open"}, 7, 3)


def test_without_news_it_says_now_and_then_that_it_is_alive(process, monkeypatch):
    monkeypatch.setattr(servers, "WRITE_EVERY_S", 0.0)
    database = Database()
    one = report(process, database)
    write(one)
    write(one)
    assert (database.statements, ServerProcess.objects.count()) == (2, 1)


def test_circuits_are_told_over_all_processes_with_the_worst_first(process):
    other, third = Process(), Process()
    for one in (process, other):
        one.circuits.record_failure("openrouter")
    other.now_s = 61  # half-open by now
    other.circuits.record_failure("anthropic")
    for one in (process, other, third):
        write(report(one, Database()))
    found = servers.servers()
    assert found.processes == 3
    assert found.circuit("openrouter") == CircuitState("open", 1)
    assert found.circuit("anthropic") == CircuitState("open", 1)
    assert found.circuit("vllm") == CircuitState("closed", 3)


def test_the_ledgers_latency_is_of_the_batches_since_then(process):
    one = report(process, Database())
    process.commit_seconds.observe(0.5)
    write(one)
    assert servers.servers().commit_ms == 500.0
    for seconds in (0.25, 0.75, 0.125):
        process.commit_seconds.observe(seconds)
    process.running = 1
    write(one)
    assert servers.servers().commit_ms == 375.0


def test_the_dead_do_not_count_and_are_swept_out(process):
    write(report(process, Database()))
    ServerProcess.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
    assert servers.servers().processes == 0
    ServerProcess.objects.update(seen_at=timezone.now() - timedelta(days=2))
    write(report(process, Database()))
    assert ServerProcess.objects.count() == 1


def test_who_leaves_is_gone_at_once_also_without_a_database(process):
    one = report(process, Database())
    write(one)
    run(one.withdraw())
    assert not ServerProcess.objects.exists()
    run(report(process, Gone()).withdraw())
