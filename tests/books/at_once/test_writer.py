"""The writer over real connections: what it promised stays true when callers leave, commands are bad, connections
die in the middle of a COMMIT, the database is away, or somebody sits on a lock."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from billing.ledger import wire, writer
from billing.ledger.commands import AnyCommand, Done, Held, Outcome, Posted, Refused, Settled
from billing.ledger.queue import LedgerUnavailable
from billing.ledger.spool import Spool
from billing.ledger.writer import Writer
from billing.models import Hold, Usage
from billing.oversight import verifier
from tests.kit.books import hold_row, make_hold_id
from tests.kit.gate import Gate
from tests.kit.tenants import Tenant

PATIENCE_S = 20.0
KILLS = 15


@pytest.fixture
def database_url(process_environment: dict[str, str]) -> str:
    return process_environment["DATABASE_URL"]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a story to its end, and look at the books."""
    asyncio.run(work)
    assert verifier.violations() == []


@contextlib.asynccontextmanager
async def writing(database_url: str, spool: Spool, *, queue_max: int = 10_000) -> AsyncIterator[Writer]:
    started = Writer(database_url, spool, queue_max=queue_max)
    await started.start()
    try:
        yield started
    finally:
        await started.close(PATIENCE_S)


async def soon(outcome: Awaitable[Outcome]) -> Outcome:
    return await asyncio.wait_for(outcome, PATIENCE_S)


async def all_of(outcomes: list[asyncio.Future[Outcome]]) -> list[Outcome]:
    return list(await asyncio.wait_for(asyncio.gather(*outcomes), PATIENCE_S))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


# --- Group commit -----------------------------------------------------------------------------


def test_many_calls_on_one_wallet_have_the_outcomes_they_would_have_one_by_one(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)  # 100 calls of 10

    async def one_call(ledger: Writer) -> str:
        reserve = alice.reserve(10)
        if isinstance(await ledger.submit(reserve), Refused):
            return "refused"
        outcome = await ledger.submit(alice.settle(reserve.hold_id, 10))
        assert isinstance(outcome, Settled)
        assert outcome.charged == 10
        return "settled"

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            assert Counter(await asyncio.gather(*[one_call(ledger) for _ in range(150)])) == {
                "settled": 100,
                "refused": 50,
            }

    run(story())
    assert alice.wallet == (0, 0, 101)
    assert [entry[3] for entry in alice.entries()] == list(range(1_000, -1, -10))


def test_a_batch_is_decided_in_the_order_it_was_handed_over(database_url: str, spool: Spool) -> None:
    alice = Tenant(100)

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            first, second, third = [alice.reserve(60) for _ in range(3)]
            handed_over: list[AnyCommand] = [first, second, alice.void(first.hold_id), third]
            assert await all_of([ledger.submit(command) for command in handed_over]) == [
                Held(60),
                Refused("credits", required=60, available=40),
                Done(changed=True),
                Held(60),
            ]
            await soon(ledger.submit(alice.void(third.hold_id)))

    run(story())
    assert alice.wallet == (100, 0, 1)


def test_a_batch_sends_the_same_statements_whatever_its_size(database_url: str, spool: Spool) -> None:
    tenants = [Tenant(100_000) for _ in range(50)]

    async def statements_of(gate: Gate, ledger: Writer, commands: list[AnyCommand]) -> int:
        before = gate.executed
        await all_of([ledger.submit(command) for command in commands])
        return gate.executed - before

    async def story() -> None:
        counted = set()
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            for commands, wallets in [(1, 1), (10, 1), (500, 1), (500, 50)]:
                made = [tenants[n % wallets].reserve(10) for n in range(commands)]
                reserved = await statements_of(gate, ledger, list(made))
                settles = [tenants[n % wallets].settle(made[n].hold_id, 10) for n in range(commands)]
                counted.add((reserved, await statements_of(gate, ledger, list(settles))))
        # BEGIN, three reads, two and four writes, COMMIT.
        assert counted == {(7, 9)}

    run(story())


def test_more_than_a_batch_waits_for_the_next(database_url: str, spool: Spool) -> None:
    alice = Tenant(10_000)

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            outcomes = await all_of([ledger.submit(alice.reserve(1)) for _ in range(writer.BATCH_MAX * 2 + 1)])
            assert Counter(outcomes) == {Held(1): writer.BATCH_MAX * 2 + 1}

    run(story())
    assert alice.wallet == (10_000, 1_001, 1)


# --- One bad command --------------------------------------------------------------------------


def bad_commands(alice: Tenant, hold: UUID) -> dict[str, AnyCommand]:
    return {
        "an unknown price": alice.reserve(10, price_id=2**40),
        "a negative amount": alice.reserve(-1, floor=-1),
        "a posting nobody signed": alice.post(5, actor=""),
        "more than 64 bits": alice.settle(hold, 10, cost_pico=2**63),
        "more than JSON knows": alice.settle(hold, 10, cost_pico=2**70),
    }


@pytest.mark.parametrize("name", ["an unknown price", "a negative amount", "a posting nobody signed"])
def test_a_bad_command_fails_alone(database_url: str, spool: Spool, name: str) -> None:
    alice, bob = Tenant(1_000), Tenant(1_000)
    bad = bad_commands(alice, make_hold_id())[name]

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            good = [tenant.reserve(10) for tenant in (alice, bob) for _ in range(5)]
            outcomes = [ledger.submit(command) for command in [*good[:5], bad, *good[5:]]]
            guilty = outcomes.pop(5)
            assert await all_of(outcomes) == [Held(10)] * 10
            with pytest.raises((psycopg.Error, ValueError, OverflowError)):
                await soon(guilty)
            assert ledger.connected
            assert await soon(ledger.submit(alice.reserve(20))) == Held(20)

    run(story())
    assert (alice.wallet, bob.wallet) == ((1_000, 70, 1), (1_000, 50, 1))
    assert spool.files() == []


@pytest.mark.parametrize("name", ["more than 64 bits", "more than JSON knows"])
def test_a_bad_settlement_fails_alone_and_is_kept(database_url: str, spool: Spool, name: str) -> None:
    alice, bob = Tenant(1_000), Tenant(1_000)
    hold, others = alice.hold(10), [bob.hold(10) for _ in range(3)]
    bad = bad_commands(alice, hold)[name]

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            guilty = ledger.submit(bad)
            outcomes = await all_of([ledger.submit(bob.settle(other, 10)) for other in others])
            assert outcomes == [Settled(10, 990), Settled(10, 980), Settled(10, 970)]
            with pytest.raises((psycopg.Error, ValueError, OverflowError)):
                await soon(guilty)

    run(story())
    assert hold_row(hold) == ("open", 10, None, None)
    kept = [command for path in spool.files() for command in spool.read(path)]
    assert len(kept) == 1


def test_text_that_postgresql_cannot_store_stops_no_settlement(database_url: str, spool: Spool) -> None:
    """Providers send NUL bytes and halves of surrogate pairs."""
    alice = Tenant(1_000)
    hold, innocent = alice.hold(10), alice.hold(10)
    hostile: dict[str, Any] = {
        "provider_ref": "a\0b",
        "finish_reason": "\ud800stop",
        "attempts": ({"provider": "x\0", "outcome": "\udfff", "milliseconds": 3},),
    }

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            commands: list[AnyCommand] = [
                alice.mark(hold, "c\0d"),
                alice.settle(hold, 10, **hostile),
                alice.settle(innocent, 10, finish_reason=r"\u0000 is not a NUL", provider_ref="naïve ☃ 😀"),
            ]
            await all_of([ledger.submit(command) for command in commands])

    run(story())
    assert Hold.objects.get(pk=hold).provider_ref == "cd"
    usage = Usage.objects.get(pk=hold)
    assert (usage.charged, usage.provider_ref, usage.finish_reason) == (10, "ab", "?stop")
    assert usage.attempts == [{"provider": "x", "outcome": "?", "milliseconds": 3}]
    usage = Usage.objects.get(pk=innocent)
    assert (usage.finish_reason, usage.provider_ref) == (r"\u0000 is not a NUL", "naïve ☃ 😀")


def test_a_settlement_that_cannot_even_be_spooled_stops_nobody(
    database_url: str, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    alice = Tenant(1_000)
    hold = alice.hold(10)
    spool.directory.write_text("a file where the spool's directory should be")

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            with pytest.raises(psycopg.Error):
                await soon(ledger.submit(alice.settle(hold, 10, cost_pico=2**63)))
            assert await soon(ledger.submit(alice.reserve(20))) == Held(20)

    run(story())
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert said.startswith("ledger commands that could not be spooled: ")
    assert str(hold) in said
    assert "actual=10" in said


# --- Callers that leave -----------------------------------------------------------------------


def test_the_hold_of_a_caller_that_left_while_it_was_committed_is_voided(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    left, stayed = alice.reserve(100), alice.reserve(100)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            gate.hold()
            caller, other = ledger.submit(left), ledger.submit(stayed)
            await until(lambda: ledger.queue_length == 0)
            caller.cancel()
            gate.let_flow()
            assert await soon(other) == Held(100)

    run(story())
    assert (hold_row(left.hold_id)[0], hold_row(stayed.hold_id)[0]) == ("voided", "open")
    assert alice.wallet == (1_000, 100, 1)


def test_a_caller_that_left_before_its_batch_holds_nothing(database_url: str, spool: Spool) -> None:
    alice = Tenant(100)

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            caller, other = ledger.submit(alice.reserve(100)), ledger.submit(alice.reserve(100))
            caller.cancel()
            assert await soon(other) == Held(100)

    run(story())
    assert alice.wallet == (100, 100, 1)


def test_a_caller_that_left_stops_nobody_else(database_url: str, spool: Spool) -> None:
    alice = Tenant(10_000)

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            outcomes = [ledger.submit(alice.reserve(10)) for _ in range(100)]
            for gone in outcomes[::2]:
                gone.cancel()
            assert await all_of(outcomes[1::2]) == [Held(10)] * 50
            await until(lambda: ledger.queue_length == 0)
            hold = make_hold_id()
            assert await soon(ledger.submit(alice.reserve(10, hold_id=hold))) == Held(10)
            settling = ledger.submit(alice.settle(hold, 10))
            settling.cancel()

    run(story())
    assert alice.wallet == (9_990, 500, 2)


# --- A full queue -----------------------------------------------------------------------------


def test_a_full_queue_refuses_holds_and_takes_settlements(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    held = [alice.hold(10) for _ in range(5)]

    async def story() -> None:
        async with writing(database_url, spool, queue_max=3) as ledger:
            waiting = [ledger.submit(alice.reserve(1)) for _ in range(3)]
            with pytest.raises(LedgerUnavailable, match="the ledger's queue is full"):
                ledger.submit(alice.reserve(1))
            settled = [ledger.submit(alice.settle(hold, 10)) for hold in held]
            assert ledger.queue_length == 8
            assert await all_of(waiting) == [Held(1)] * 3
            assert [outcome.charged for outcome in await all_of(settled) if isinstance(outcome, Settled)] == [10] * 5
            assert await soon(ledger.submit(alice.reserve(1))) == Held(1)

    run(story())
    assert alice.wallet == (950, 4, 6)


# --- Connections that die ---------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_not_made_twice(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    running = alice.hold(100)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            gate.lose_answers_of_commits = 1
            reserve = alice.reserve(60)
            outcomes: list[AnyCommand] = [alice.settle(running, 80), reserve, alice.post(5, idempotency_key="form-1")]
            assert await all_of([ledger.submit(command) for command in outcomes]) == [
                Settled(80, 920, replayed=True),
                Held(60, replayed=True),
                Posted(3, 925, replayed=True),
            ]
            assert gate.lose_answers_of_commits == 0
            assert await soon(ledger.submit(alice.settle(reserve.hold_id, 60))) == Settled(60, 865)

    run(story())
    assert alice.entries()[1:] == [(2, "usage", -80, 920), (3, "adjustment", 5, 925), (4, "usage", -60, 865)]


def test_a_transaction_that_never_arrived_is_made_once(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    running = alice.hold(100)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            gate.lose_commits = 2
            settled, held = ledger.submit(alice.settle(running, 80)), ledger.submit(alice.reserve(60))
            assert await all_of([settled, held]) == [Settled(80, 920), Held(60)]
            assert gate.lose_commits == 0

    run(story())
    assert alice.wallet == (920, 60, 2)


def test_connections_killed_under_load_lose_nothing_and_charge_nothing_twice(database_url: str, spool: Spool) -> None:
    tenants = [Tenant(200_000) for _ in range(3)]
    keys = [tenant.key(limit_micro=150_000, limit_period="day") for tenant in tenants]
    told: list[tuple[UUID, str, int]] = []
    dice = random.Random(20261118)

    async def caller(ledger: Writer, stop: asyncio.Event) -> None:
        while not stop.is_set():
            which = dice.randrange(3)
            tenant, key = tenants[which], keys[which]
            reserve = tenant.reserve(10, key=key)
            try:
                assert isinstance(await soon(ledger.submit(reserve)), Held)
            except LedgerUnavailable:
                await asyncio.sleep(0.01)  # refused at once: without a pause nobody else would have a turn
                continue
            if dice.randrange(5) == 0:
                assert await soon(ledger.submit(tenant.void(reserve.hold_id, key=key))) in VOIDED
                told.append((reserve.hold_id, "voided", 0))
                continue
            outcome = await soon(ledger.submit(tenant.settle(reserve.hold_id, dice.randrange(15), key=key)))
            assert isinstance(outcome, Settled)
            told.append((reserve.hold_id, "settled", outcome.charged))

    async def story() -> None:
        stop = asyncio.Event()
        async with writing(database_url, spool) as ledger:
            callers = [asyncio.create_task(caller(ledger, stop)) for _ in range(40)]
            assert await kill_connections(database_url, dice) == KILLS
            stop.set()
            await asyncio.wait_for(asyncio.gather(*callers), PATIENCE_S)

    run(story())
    assert spool.files() == []
    assert sum(state == "settled" for _, state, _ in told) > KILLS
    rows = holds_of(tenants)
    assert {hold: rows.pop(hold) for hold, _, _ in told} == {hold: (state, due) for hold, state, due in told}
    assert {state for state, _ in rows.values()} <= {"voided"}, "what nobody was told of was given back"
    for tenant in tenants:
        assert tenant.wallet[1] == 0


VOIDED = (Done(changed=True), Done(changed=False))  # False: the first attempt had reached the database


async def kill_connections(database_url: str, dice: random.Random) -> int:
    """Kill the writer's connection again and again, at random moments; how often it was there to be killed."""
    killed = 0
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as killer:
        for _ in range(4_000):
            if killed == KILLS:
                break
            await asyncio.sleep(dice.random() * 0.03)
            victims = await killer.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'quantized-ledger' AND datname = current_database()"""
            )
            killed += victims.rowcount
    return killed


def holds_of(tenants: list[Tenant]) -> dict[UUID, tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, state, coalesce(charged, 0) FROM billing_hold WHERE wallet_id = ANY(%s)",
            [[tenant.organization_id for tenant in tenants]],
        )
        return {id: (state, charged) for id, state, charged in cursor.fetchall()}


# --- A database that is away ------------------------------------------------------------------


def test_while_the_database_is_away_holds_are_refused_and_settlements_wait(
    database_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RESERVE_PATIENCE_S", 0.3)
    alice = Tenant(1_000)
    running = alice.hold(100)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            await gate.shut()
            settling = ledger.submit(alice.settle(running, 80))
            first, queued = ledger.submit(alice.reserve(10)), asyncio.ensure_future(later(ledger))
            with pytest.raises(LedgerUnavailable, match="the database is away"):
                await soon(first)
            with pytest.raises(LedgerUnavailable, match="the database is away"):
                await soon(queued)
            assert not settling.done()
            assert not ledger.connected
            await gate.open()
            assert await soon(settling) == Settled(80, 920)
            assert await soon(ledger.submit(alice.reserve(10))) == Held(10)

    async def later(ledger: Writer) -> Outcome:
        await asyncio.sleep(0.1)
        return await ledger.submit(alice.reserve(10))

    run(story())
    assert alice.wallet == (920, 10, 2)


def test_a_hold_that_was_refused_but_committed_is_voided(
    database_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit happened, its answer was lost, and the database then stayed away longer than the caller's patience."""
    monkeypatch.setattr(writer, "RESERVE_PATIENCE_S", 0.3)
    alice = Tenant(1_000)
    reserve = alice.reserve(10)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            gate.lose_answers_of_commits = 1
            refused = ledger.submit(reserve)
            await until(lambda: gate.lose_answers_of_commits == 0)
            await gate.shut()
            with pytest.raises(LedgerUnavailable):
                await soon(refused)
            await gate.open()

    run(story())
    assert hold_row(reserve.hold_id)[0] == "voided"
    assert alice.wallet == (1_000, 0, 1)


def test_what_is_unwritten_at_shutdown_is_spooled_and_replayed_at_the_next_start(
    database_url: str, spool: Spool
) -> None:
    alice = Tenant(1_000)
    holds = [alice.hold(10) for _ in range(3)]
    voided = alice.hold(10)

    async def first_life() -> None:
        async with Gate(database_url) as gate:
            ledger = Writer(gate.url, spool, queue_max=10)
            await ledger.start()
            await gate.shut()
            unwritten = [ledger.submit(alice.settle(hold, 10)) for hold in holds]
            unwritten += [ledger.submit(alice.void(voided)), ledger.submit(alice.reserve(10))]
            await ledger.close(0.2)
            for outcome in unwritten:
                with pytest.raises(LedgerUnavailable):
                    await soon(outcome)

    asyncio.run(first_life())
    [path] = spool.files()
    assert [type(command).__name__ for command in spool.read(path)] == ["Settle"] * 3 + ["Void"] * 2
    assert alice.wallet == (1_000, 40, 1)

    async def second_life() -> None:
        async with writing(database_url, spool):
            assert spool.files() == []

    run(second_life())
    assert alice.wallet == (970, 0, 4)


def test_a_spool_that_was_replayed_in_part_is_replayed_again_without_harm(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    commands = [alice.settle(alice.hold(10), 10) for _ in range(3)]
    spool.write(commands)
    spool.write(commands[:2])

    async def story() -> None:
        async with writing(database_url, spool), writing(database_url, spool):
            pass

    run(story())
    assert alice.wallet == (970, 0, 4)
    assert spool.files() == []


def test_a_spooled_command_that_stays_bad_does_not_stop_the_start(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    hold, other = alice.hold(10), alice.hold(20)
    bad = alice.settle(hold, 10, cost_pico=2**63)
    spool.write([bad, alice.settle(other, 20)])

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            assert await soon(ledger.submit(alice.reserve(5))) == Held(5)

    run(story())
    assert (hold_row(hold)[0], hold_row(other)[0]) == ("open", "settled")
    assert [spool.read(path) for path in spool.files()] == [[bad]]


def test_a_spool_file_that_cannot_be_read_stays_and_does_not_stop_the_start(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    hold = alice.hold(10)
    path = spool.write([alice.settle(hold, 10)])
    damaged = path.with_name("0-damaged.jsonl")
    damaged.write_bytes(b'{"type": "Settle", "hold')

    async def story() -> None:
        async with writing(database_url, spool):
            pass

    run(story())
    assert hold_row(hold)[0] == "settled"
    assert spool.files() == [damaged]


def test_after_the_close_settlements_are_spooled_and_holds_refused(database_url: str, spool: Spool) -> None:
    alice = Tenant(1_000)
    hold = alice.hold(10)

    async def story() -> None:
        async with writing(database_url, spool) as ledger:
            pass
        with pytest.raises(LedgerUnavailable, match="the ledger is closed"):
            ledger.submit(alice.reserve(5))
        with pytest.raises(LedgerUnavailable):
            await soon(ledger.submit(alice.settle(hold, 10)))
        async with writing(database_url, spool):
            pass

    run(story())
    assert hold_row(hold) == ("settled", 10, 10, 10)


def test_a_database_that_hangs_is_given_up_for_another_connection(
    database_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error ever comes: the connection stands, and nothing passes."""
    monkeypatch.setattr(wire, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(writer, "RESERVE_PATIENCE_S", 0.2)
    alice = Tenant(1_000)
    running = alice.hold(100)

    async def story() -> None:
        async with Gate(database_url) as gate, writing(gate.url, spool) as ledger:
            gate.hang()
            settling, held = ledger.submit(alice.settle(running, 80)), ledger.submit(alice.reserve(10))
            with pytest.raises(LedgerUnavailable):
                await soon(held)
            assert await soon(settling) == Settled(80, 920)

    run(story())
    assert alice.wallet == (920, 0, 2)


def test_a_database_that_became_read_only_is_left_for_the_next_one(database_url: str, spool: Spool) -> None:
    """After a failover the old primary takes no writes; its name soon leads to the new one."""
    alice = Tenant(1_000)
    running = alice.hold(100)
    alter = "ALTER DATABASE {} SET default_transaction_read_only = {}"
    name = connection.settings_dict["NAME"]

    async def story() -> None:
        async with (
            await psycopg.AsyncConnection.connect(database_url, autocommit=True) as operator,
            Gate(database_url) as gate,
            writing(gate.url, spool) as ledger,
        ):
            try:
                await operator.execute(alter.format(name, "on"))
                gate.cut()
                settling = ledger.submit(alice.settle(running, 80))
                await asyncio.sleep(0.2)
                assert not settling.done()
            finally:
                await operator.execute(alter.format(name, "off"))
            assert await soon(settling) == Settled(80, 920)

    run(story())
    assert spool.files() == []


# --- Locks ------------------------------------------------------------------------------------


def test_a_lock_on_one_wallet_holds_up_the_others_for_one_lock_timeout_at_most(
    database_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wire, "SESSION", wire.SESSION.replace("lock_timeout=3s", "lock_timeout=300ms"))
    monkeypatch.setattr(writer, "RESERVE_PATIENCE_S", 1.0)
    alice, bob = Tenant(1_000), Tenant(100_000)
    running = [alice.hold(10) for _ in range(20)]

    async def story() -> None:
        async with writing(database_url, spool) as ledger, locked(database_url, alice.organization_id) as release:
            settling = [ledger.submit(alice.settle(hold, n)) for n, hold in enumerate(running)]
            refused = ledger.submit(alice.reserve(10))
            for _ in range(50):
                assert await soon(ledger.submit(bob.reserve(10))) == Held(10)
                settling.append(ledger.submit(alice.settle(make_hold_id(), 1)))
            with pytest.raises(LedgerUnavailable):
                await soon(refused)
            assert not any(outcome.done() for outcome in settling)
            # The first batch waited for the lock; after that it is known, and nobody waits for it again.
            assert sum("LockNotAvailable" in record.getMessage() for record in caplog.records) == 1
            await release()
            charged = [outcome.charged for outcome in await all_of(settling[:20]) if isinstance(outcome, Settled)]
            assert charged == list(range(20))
            assert await all_of(settling[20:]) == [Refused("unknown_hold")] * 50

    run(story())
    assert [entry[2] for entry in alice.entries()[1:]] == [-n for n in range(20)], "in the order they came"
    assert (alice.wallet, bob.wallet) == ((810, 0, 21), (100_000, 500, 1))


@contextlib.asynccontextmanager
async def locked(database_url: str, wallet: UUID) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Somebody else's transaction sits on the wallet until it is told to go."""
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE", [wallet])
        yield other.rollback


def test_a_lock_at_shutdown_spools_what_waits_for_it(
    database_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SESSION", wire.SESSION.replace("lock_timeout=3s", "lock_timeout=100ms"))
    alice, bob = Tenant(1_000), Tenant(1_000)
    hold, other = alice.hold(10), bob.hold(10)

    async def story() -> None:
        async with locked(database_url, alice.organization_id):
            ledger = Writer(database_url, spool, queue_max=10)
            await ledger.start()
            waiting, settled = ledger.submit(alice.settle(hold, 10)), ledger.submit(bob.settle(other, 10))
            await ledger.close(1.0)
            assert await soon(settled) == Settled(10, 990)
            with pytest.raises(LedgerUnavailable):
                await soon(waiting)
        async with writing(database_url, spool):
            pass

    run(story())
    assert (hold_row(hold)[0], hold_row(other)[0]) == ("settled", "settled")


def test_a_settlement_that_was_chosen_to_end_a_deadlock_is_run_again(database_url: str, spool: Spool) -> None:
    """Somebody locks a hold before its wallet. PostgreSQL ends the wait of whoever waited first: the writer's."""
    alice = Tenant(1_000)
    hold = alice.hold(10)

    async def story() -> None:
        async with (
            writing(database_url, spool) as ledger,
            await psycopg.AsyncConnection.connect(database_url) as other,
        ):
            await other.execute("SELECT 1 FROM billing_hold WHERE id = %s FOR UPDATE", [hold])
            settling = ledger.submit(alice.settle(hold, 10))
            await waits_for_a_lock(database_url)
            await asyncio.sleep(0.3)  # of the second that PostgreSQL waits before it looks for deadlocks
            await other.execute(
                "SELECT 1 FROM billing_wallet WHERE organization_id = %s FOR UPDATE", [alice.organization_id]
            )
            await other.rollback()
            assert await soon(settling) == Settled(10, 990)

    run(story())
    assert spool.files() == []


async def waits_for_a_lock(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as eye:
        for _ in range(1_000):
            seen = await eye.execute(
                """SELECT 1 FROM pg_stat_activity WHERE application_name = 'quantized-ledger'
                   AND datname = current_database() AND wait_event_type = 'Lock'"""
            )
            if await seen.fetchone():
                return
            await asyncio.sleep(0.005)
    raise AssertionError("the writer never waited")


# --- The end ----------------------------------------------------------------------------------


def test_closing_commits_what_is_queued(database_url: str, spool: Spool) -> None:
    alice = Tenant(10_000)
    holds = [alice.hold(10) for _ in range(20)]

    async def story() -> None:
        ledger = Writer(database_url, spool, queue_max=10)
        await ledger.start()
        outcomes = [ledger.submit(alice.settle(hold, 10)) for hold in holds]
        await ledger.close(PATIENCE_S)
        assert all(outcome.done() for outcome in outcomes)
        assert not ledger.connected

    run(story())
    assert alice.wallet == (9_800, 0, 21)
    assert spool.files() == []


def test_a_wrong_database_url_stops_the_start(spool: Spool) -> None:
    async def story() -> None:
        with pytest.raises(psycopg.OperationalError):
            await Writer("postgres://quantized@127.0.0.1:9/nowhere", spool, queue_max=10).start()

    asyncio.run(story())
