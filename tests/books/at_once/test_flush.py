"""A batch's statements leave in one flush; rows, errors and parameters are what psycopg would have made of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from billing.ledger.batch import Row, Statement
from billing.ledger.commands import Held, Settled
from billing.ledger.pipeline import BEGIN, COMMIT, Flusher
from billing.ledger.wire import Wire
from tests.kit.tenants import Tenant

ID = UUID("01a215a7-7fa5-7557-9c75-353a930e9000")


@pytest.fixture
def database_url(process_environment: dict[str, str]) -> str:
    return process_environment["DATABASE_URL"]


def flushing(database_url: str, work: Callable[[Flusher], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        async with connection:
            return await asyncio.wait_for(work(Flusher(connection)), 20)

    return asyncio.run(run())


def rows_of(database_url: str, statements: Sequence[Statement]) -> list[list[Row]]:
    found: list[list[Row]] = flushing(database_url, lambda flusher: flusher.run(statements))
    return found


def test_a_batch_is_two_round_trips(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = Tenant(1_000)
    reserve = alice.reserve(100)
    waits: list[Any] = []
    wait = psycopg.AsyncConnection.wait

    async def counted(connection: Any, generator: Any, *args: Any, **options: Any) -> Any:
        waits.append(generator)
        return await wait(connection, generator, *args, **options)

    async def work() -> None:
        wire = Wire(database_url)
        await wire.connect()
        monkeypatch.setattr(psycopg.AsyncConnection, "wait", counted)
        assert await wire.transact([reserve]) == [Held(100)]
        assert await wire.transact([alice.settle(reserve.hold_id, 60)]) == [Settled(60, 940)]
        monkeypatch.undo()
        await wire.disconnect()

    asyncio.run(work())
    assert len(waits) == 2 * 2


def test_rows_come_as_python_has_them(database_url: str) -> None:
    moment = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    typed = Statement(f"SELECT '{ID}'::uuid, 7::bigint, true, NULL::text, '{moment}'::timestamptz, 'é'", ())
    assert rows_of(database_url, [BEGIN, typed, Statement("SELECT 1 WHERE false", ()), COMMIT]) == [
        [],
        [(ID, 7, True, None, moment, "é")],
        [],
        [],
    ]


def test_parameters_arrive_as_they_are(database_url: str) -> None:
    texts = ['plain, "quoted"', "{braces}", "back\\slash", "", "NULL", "é"]
    taken = Statement("SELECT %s::uuid[], %s::text[], %s::json ->> 0, %s::int", ([ID], texts, '["$1 %"]', 42))
    assert rows_of(database_url, [taken]) == [[([ID], texts, "$1 %", 42)]]


def test_a_nul_is_refused_before_anything_is_sent(database_url: str) -> None:
    async def work(flusher: Flusher) -> None:
        with pytest.raises(psycopg.DataError, match="NUL"):
            await flusher.run([Statement("SELECT %s::text[]", (["\0"],))])
        assert await flusher.run([Statement("SELECT 1", ())]) == [[(1,)]]

    flushing(database_url, work)


def test_the_first_error_is_raised_and_nothing_after_it_is_done(database_url: str) -> None:
    made = Statement("CREATE TEMPORARY TABLE never (n int)", ())
    divided, unknown = Statement("SELECT 1 / %s::int", (0,)), Statement("SELECT * FROM nowhere", ())

    async def work(flusher: Flusher) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await flusher.run([BEGIN, divided, made, COMMIT])
        await flusher.connection.execute("ROLLBACK")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await flusher.run([unknown, divided])
        # What was prepared before an error, after it or not at all is no matter.
        again = divided._replace(params=(1,))
        assert await flusher.run([again, again]) == [[(1,)], [(1,)]]
        assert await flusher.run([Statement("SELECT to_regclass('never')::text", ())]) == [[(None,)]]

    flushing(database_url, work)


def test_more_than_the_sockets_hold_goes_both_ways(database_url: str) -> None:
    long = "x" * 3_000_000
    echo = Statement("SELECT %s::text", (long,))
    assert rows_of(database_url, [echo] * 4) == [[(long,)]] * 4
