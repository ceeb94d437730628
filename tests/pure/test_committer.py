"""One batch and what becomes of it, over a played wire: which errors are waited out, which command is the guilty one,
and what is parked. tests/test_writer.py tells the same over real connections."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from psycopg import errors

from billing.ledger.commands import AnyCommand, Done, Held, Outcome, Receipt, Reserve, Settle, Void
from billing.ledger.committer import Committer
from billing.ledger.parking import Parking
from billing.ledger.queue import Queue, Submission
from billing.ledger.spool import Spool

ALICE, BOB = UUID(int=1), UUID(int=2)


class PlayedWire:
    """Fails with each of `fails` in turn, then commits; always fails when `guilty` is in the batch."""

    def __init__(self, *fails: Exception, guilty: AnyCommand | None = None, locked: set[UUID] | None = None) -> None:
        self.fails = list(fails)
        self.guilty = guilty
        self.locked_wallets = locked or set()
        self.batches: list[list[AnyCommand]] = []

    async def transact(self, commands: Sequence[AnyCommand]) -> list[Outcome]:
        self.batches.append(list(commands))
        if self.fails:
            raise self.fails.pop(0)
        if self.guilty in commands:
            raise errors.CheckViolation("it is bad")
        return [Held(one.amount) if isinstance(one, Reserve) else Done(changed=True) for one in commands]

    async def recover(self, error: Exception) -> bool:
        return isinstance(error, errors.AdminShutdown)

    async def locked(self, wallet_ids: set[UUID]) -> set[UUID]:
        return self.locked_wallets & wallet_ids


class Ledger:
    def __init__(self, wire: PlayedWire, directory: Path) -> None:
        self.wire, self.queue, self.spool = wire, Queue(), Spool(directory)
        self.parking = Parking(wire)
        self.committer = Committer(wire, self.queue, self.parking, self.spool)

    async def commit(self, *commands: AnyCommand) -> list[Submission]:
        batch = [Submission(command) for command in commands]
        await self.committer.commit(batch)
        return batch


def reserve(wallet_id: UUID = ALICE) -> Reserve:
    return Reserve(
        wallet_id=wallet_id,
        hold_id=uuid4(),
        key_id=None,
        user_id=None,
        model="m",
        price_id=1,
        provider="p",
        amount=10,
        floor=10,
        life_s=60,
    )


def settle(wallet_id: UUID = ALICE) -> Settle:
    receipt = Receipt(model="m", provider="p", price_id=1)
    return Settle(wallet_id=wallet_id, hold_id=uuid4(), key_id=None, actual=1, receipt=receipt)


def outcomes(batch: Sequence[Submission]) -> list[Outcome]:
    return [submission.outcome.result() for submission in batch]


@pytest.mark.parametrize("error", [errors.DeadlockDetected(), errors.DiskFull(), errors.AdminShutdown()])
def test_a_batch_whose_error_passes_is_run_again_whole(tmp_path: Path, error: Exception) -> None:
    async def story() -> None:
        ledger = Ledger(PlayedWire(error), tmp_path)
        first, second = reserve(), settle()
        assert outcomes(await ledger.commit(first, second)) == [Held(10), Done(changed=True)]
        assert ledger.wire.batches == [[first, second]] * 2
        assert ledger.committer.batch_sizes.counts[1] == 1, "counted once, when it was committed"

    asyncio.run(story())


def test_only_the_guilty_command_fails_and_a_settlement_is_spooled(tmp_path: Path) -> None:
    async def story() -> None:
        good, bad, late = reserve(), settle(), reserve()
        ledger = Ledger(PlayedWire(guilty=bad), tmp_path)
        batch = await ledger.commit(good, bad, late)
        assert outcomes([batch[0], batch[2]]) == [Held(10)] * 2
        assert isinstance(batch[1].outcome.exception(), errors.CheckViolation)
        assert ledger.wire.batches == [[good, bad, late], [good], [bad], [late]]
        [path] = ledger.spool.files()
        assert ledger.spool.read(path) == [bad]

    asyncio.run(story())


def test_commands_of_a_locked_wallet_are_parked_until_it_is_free(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(PlayedWire(errors.LockNotAvailable(), locked={ALICE}), tmp_path)
        first, other, second = settle(), settle(BOB), settle()
        batch = await ledger.commit(first, other, second)
        assert [submission.outcome.done() for submission in batch] == [False, True, False]
        assert await ledger.parking.take_free() == []
        assert ledger.parking.parked == 2
        later = await ledger.commit(settle())
        assert ledger.wire.batches[1:] == [[other]], "nothing of a locked wallet is sent"
        ledger.wire.locked_wallets = set()
        assert await ledger.parking.take_free() == [batch[0], batch[2], *later]
        assert ledger.parking.wallets == {}

    asyncio.run(story())


def test_a_hold_that_nobody_waits_for_is_released_instead_of_made(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(PlayedWire(), tmp_path)
        left = reserve()
        abandoned = Submission(left)
        abandoned.outcome.cancel()
        await ledger.committer.commit([abandoned])
        assert ledger.wire.batches == []
        [release] = ledger.queue.take(10)
        assert release.command == Void(wallet_id=ALICE, hold_id=left.hold_id, key_id=None)
        assert not ledger.queue.ready.is_set()

    asyncio.run(story())
