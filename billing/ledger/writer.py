"""Group commit: the calls of one process share transactions on one pipelined connection.

A call hands over a command and awaits its outcome. While one batch commits, the next gathers; there
is no timer. Promises:

- An outcome that a caller saw is durable.
- A settlement is never refused and never dropped: it waits out an absent database, and what is
  unwritten at shutdown goes to the spool.
- A hold is refused (`LedgerUnavailable`) rather than waited for when the queue is full or the
  database stays away. A hold nobody waits for any more is voided at once.
- One bad command fails alone; the others of its batch are committed.
- A wallet that somebody else has locked holds up its own calls, and the others for one lock timeout.

A connection that dies during COMMIT leaves the outcome unknown. The same batch is then run again on
a new connection: ids make it a replay.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import errors

from billing.ledger.kernel import AnyCommand, Held, Outcome, Reserve, Settle, Void
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire
from common.histogram import Histogram

logger = logging.getLogger(__name__)

BATCH_MAX = 500
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, BATCH_MAX)
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
RESERVE_PATIENCE_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 1.0
WATCH_EVERY_S = 0.25
# These pass by themselves: the same batch is run again.
PASSING = (errors.DeadlockDetected, errors.SerializationFailure, errors.DiskFull, errors.OutOfMemory)


class LedgerUnavailable(Exception):
    """No hold can be made now, nothing was reserved; of a settlement: it is in the spool."""


class _Waiting(NamedTuple):
    command: AnyCommand
    outcome: asyncio.Future[Outcome]
    since_s: float


class Writer:
    def __init__(self, database_url: str, spool: Spool, *, queue_max: int, wire: Wire | None = None) -> None:
        self._wire = wire or Wire(database_url)
        self._spool = spool
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._in_flight: list[_Waiting] = []
        self._parked: dict[UUID, list[_Waiting]] = {}  # by wallet: what waits for somebody else's lock on it
        self._look_at_locks = False
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.batch_sizes = Histogram(BATCH_SIZES)
        self.commit_seconds = Histogram(COMMIT_SECONDS)

    # --- the callers' side ------------------------------------------------------------------

    @property
    def queue_length(self) -> int:
        return len(self._queue) + sum(map(len, self._parked.values()))

    @property
    def connected(self) -> bool:
        return self._wire.connected

    def submit(self, command: AnyCommand) -> asyncio.Future[Outcome]:
        """Queue a command; its outcome comes when it is durable. Nothing is awaited before it is queued."""
        if isinstance(command, Reserve) and (self._closed or self.queue_length >= self._queue_max):
            raise LedgerUnavailable("the ledger is closed" if self._closed else "the ledger's queue is full")
        waiting = _Waiting(command, asyncio.get_running_loop().create_future(), time.monotonic())
        if self._closed:
            self._abandon([waiting])
            return waiting.outcome
        self._queue.append(waiting)
        self._idle.clear()
        self._work.set()
        return waiting.outcome

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, so that a wrong DATABASE_URL stops the start, and replay the spool."""
        await self._wire.connect()
        self._tasks = [
            asyncio.create_task(self._run(), name="ledger-writer"),
            asyncio.create_task(self._watch(), name="ledger-watch"),
        ]
        for path in self._spool.files():
            await self._replay(path)

    async def _replay(self, path: Path) -> None:
        """What fails again is in a new file of its own by then."""
        try:
            commands = self._spool.read(path)
        except ValueError as error:
            logger.critical("the spool file %s cannot be read and stays: %s", path, error)
            return
        outcomes = [self.submit(command) for command in commands]
        await asyncio.gather(*outcomes, return_exceptions=True)
        self._spool.remove(path)
        logger.warning("replayed %d spooled commands from %s", len(outcomes), path.name)

    async def close(self, patience_s: float) -> None:
        """Commit what is queued, for at most `patience_s`; what is left goes to the spool."""
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            logger.error("the ledger's queue did not drain within %.0f s", patience_s)
            self._wire.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._closed = True
        self._abandon(self._unwritten())
        await self._wire.disconnect()

    def _unwritten(self) -> list[_Waiting]:
        parked = [waiting for ours in self._parked.values() for waiting in ours]
        return list({id(waiting): waiting for waiting in (*self._in_flight, *parked, *self._queue)}.values())

    def _abandon(self, unwritten: Sequence[_Waiting]) -> None:
        """Leave it to the next start. Holds that may have been committed are voided there."""
        if unwritten:
            self._keep([_void_of(w.command) if isinstance(w.command, Reserve) else w.command for w in unwritten])
        for waiting in unwritten:
            _refuse(waiting, LedgerUnavailable("the ledger is closed"))

    def _keep(self, commands: Sequence[AnyCommand]) -> None:
        try:
            path = self._spool.write(commands)
        except Exception:  # the disk is full: the log is the last place left
            logger.critical("ledger commands that could not be spooled: %r", commands, exc_info=True)
        else:
            logger.error("%d ledger commands spooled to %s", len(commands), path)

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            if self._look_at_locks:
                await self._unpark()
            self._in_flight = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            try:
                await self._commit(self._in_flight)
            except Exception as error:  # ours, not the database's; it must not stop the process's money
                for waiting in self._in_flight:
                    self._fail(waiting, error)
            self._in_flight = []
            if not self._queue:
                self._work.clear()
                if not self._parked:
                    self._idle.set()

    async def _watch(self) -> None:
        """Ends what waits too long: callers for their holds, a batch for a connection that hangs, wallets for locks."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._idle.is_set():
                continue
            self._refuse_impatient()
            self._wire.cut_if_stuck()
            if self._parked:
                self._look_at_locks = True
                self._work.set()

    def _refuse_impatient(self) -> None:
        """Should such a hold be committed after all, nobody waits for it, and it is voided."""
        deadline_s = time.monotonic() - RESERVE_PATIENCE_S
        for waiting in self._unwritten():
            if isinstance(waiting.command, Reserve) and waiting.since_s <= deadline_s:
                _refuse(waiting, LedgerUnavailable("the database is away"))

    # --- one batch --------------------------------------------------------------------------

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Commit a batch whatever it takes; every command of it is resolved or parked on return."""
        retry_s = RETRY_FIRST_S
        while batch := self._wanted(batch):
            begun_s = time.monotonic()
            try:
                outcomes = await self._wire.transact([waiting.command for waiting in batch])
            except Exception as error:
                is_lost = await self._wire.recover(error)
                if isinstance(error, errors.LockNotAvailable) and await self._park_locked(batch):
                    continue
                if not is_lost and not isinstance(error, PASSING):
                    if len(batch) > 1:
                        return await self._commit_apart(batch)
                    if not isinstance(error, errors.LockNotAvailable):
                        return self._fail(batch[0], error)
                await asyncio.sleep(retry_s)
                retry_s = min(RETRY_MAX_S, retry_s * 2)
            else:
                self.batch_sizes.observe(len(batch))
                self.commit_seconds.observe(time.monotonic() - begun_s)
                return self._resolve(batch, outcomes)

    def _wanted(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """The batch without holds nobody waits for any more, and without what waits for a lock."""
        wanted = []
        for waiting in batch:
            command = waiting.command
            if isinstance(command, Reserve) and waiting.outcome.done():
                self.submit(_void_of(command))  # an earlier attempt may have committed it
            elif command.wallet_id in self._parked:
                self._parked[command.wallet_id].append(waiting)
            else:
                wanted.append(waiting)
        return wanted

    async def _commit_apart(self, batch: Sequence[_Waiting]) -> None:
        """One of them is bad: each alone, once, so that only the guilty one fails."""
        for waiting in batch:
            await self._commit([waiting])

    def _resolve(self, batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)
            elif isinstance(outcome, Held):  # the caller left while its hold was committed
                self.submit(_void_of(waiting.command))

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        logger.error("a ledger command failed alone: %s", type(waiting.command).__name__, exc_info=error)
        if isinstance(waiting.command, Settle):
            self._keep([waiting.command])
        _refuse(waiting, error)

    # --- wallets that somebody else has locked ----------------------------------------------

    async def _park_locked(self, batch: Sequence[_Waiting]) -> bool:
        """From here on the commands of locked wallets wait aside. False if none is locked any more."""
        locked = await self._locked({waiting.command.wallet_id for waiting in batch})
        for wallet_id in locked or ():
            self._parked.setdefault(wallet_id, [])
        return bool(locked)

    async def _unpark(self) -> None:
        """What was locked and is free again goes first, in its old order."""
        self._look_at_locks = False
        locked = await self._locked(set(self._parked))
        if locked is not None:
            for wallet_id in self._parked.keys() - locked:
                self._queue.extendleft(reversed(self._parked.pop(wallet_id)))

    async def _locked(self, wallet_ids: set[UUID]) -> set[UUID] | None:
        try:
            return await self._wire.locked(wallet_ids)
        except psycopg.Error as error:
            await self._wire.recover(error)
            return None


def _void_of(command: AnyCommand) -> Void:
    assert isinstance(command, Reserve)
    return Void(wallet_id=command.wallet_id, hold_id=command.hold_id, key_id=command.key_id)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_exception(error)
        waiting.outcome.exception()  # a settlement's future may have no reader
