"""Group commit: the calls of one process share transactions on one pipelined connection.

A call hands over a command and awaits its outcome. While one batch commits, the next gathers; there
is no timer. Promises:

- An outcome that a caller saw is durable.
- A settlement is never refused and never dropped: it waits out an absent database, and what is
  unwritten at shutdown goes to the spool.
- A hold is refused (`LedgerUnavailable`) rather than waited for when the queue is full or the
  database stays away. A hold nobody waits for any more is voided at once.
- One bad command fails alone; the others of its batch are committed.

A connection that dies during COMMIT leaves the outcome unknown. The same batch is then run again on
a new connection: ids make it a replay.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from billing.kernel import AnyCommand, Held, Outcome, Reserve, Settle, Void
from billing.spool import Spool
from billing.statements import Batch, Statement

logger = logging.getLogger(__name__)

BATCH_MAX = 500
RESERVE_PATIENCE_S = 2.0
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 1.0
CONNECT_TIMEOUT_S = 3
# A stuck lock or statement must not stop the process's money: the batch is then run command by command.
SESSION = "-c lock_timeout=3s -c statement_timeout=15s -c application_name=quantized-ledger"


class LedgerUnavailable(Exception):
    """No hold can be made now; nothing was reserved."""


class _Waiting(NamedTuple):
    command: AnyCommand
    outcome: asyncio.Future[Outcome]
    since_s: float


class Writer:
    def __init__(self, database_url: str, spool: Spool, *, queue_max: int) -> None:
        self._database_url = database_url
        self._spool = spool
        self._queue_max = queue_max
        self._queue: deque[_Waiting] = deque()
        self._in_flight: list[_Waiting] = []
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self._task: asyncio.Task[None] | None = None

    # --- the callers' side ------------------------------------------------------------------

    @property
    def queue_length(self) -> int:
        return len(self._queue)

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def submit(self, command: AnyCommand) -> asyncio.Future[Outcome]:
        """Queue a command; its outcome comes when it is durable. Nothing is awaited before it is queued."""
        if isinstance(command, Reserve) and len(self._queue) >= self._queue_max:
            raise LedgerUnavailable("the ledger's queue is full")
        waiting = _Waiting(command, asyncio.get_running_loop().create_future(), time.monotonic())
        self._queue.append(waiting)
        self._idle.clear()
        self._work.set()
        return waiting.outcome

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, so that a wrong DATABASE_URL stops the start, and replay the spool."""
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="ledger-writer")
        for path in self._spool.files():
            outcomes = [self.submit(command) for command in self._spool.read(path)]
            await asyncio.gather(*outcomes)
            path.unlink(missing_ok=True)
            logger.warning("replayed %d spooled settlements from %s", len(outcomes), path.name)

    async def close(self, patience_s: float) -> None:
        """Commit what is queued, for at most `patience_s`; what is left goes to the spool."""
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            logger.error("the ledger's queue did not drain within %.0f s", patience_s)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        unwritten = [waiting.command for waiting in (*self._in_flight, *self._queue)]
        if lasting := [command for command in unwritten if not isinstance(command, Reserve)]:
            path = self._spool.write(lasting)
            logger.error("%d ledger commands spooled to %s", len(lasting), path)
        await self._disconnect()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._in_flight = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            await self._commit(self._in_flight)
            self._in_flight = []
            if not self._queue:
                self._work.clear()
                self._idle.set()

    # --- one batch --------------------------------------------------------------------------

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Commit a batch whatever it takes; every future of it is resolved on return."""
        retry_s = RETRY_FIRST_S
        while batch:
            try:
                outcomes = await self._transact([waiting.command for waiting in batch])
            except Exception as error:
                lost = await self._recover(error)
                if not lost and len(batch) > 1:
                    return await self._commit_apart(batch)
                if not lost and not isinstance(error, psycopg.errors.LockNotAvailable):
                    return self._fail(batch[0], error)
                batch = self._patient(batch)
                self._give_up_queued()
                await asyncio.sleep(retry_s)
                retry_s = min(RETRY_MAX_S, retry_s * 2)
            else:
                return self._resolve(batch, outcomes)

    async def _commit_apart(self, batch: Sequence[_Waiting]) -> None:
        """One of them is bad: each alone, once, so that only the guilty one fails."""
        for waiting in batch:
            await self._commit([waiting])

    async def _transact(self, commands: Sequence[AnyCommand]) -> list[Outcome]:
        connection = self._connection or await self._connect()
        batch = Batch(commands)
        async with connection.pipeline() as pipeline:
            await connection.execute("BEGIN")
            reads = [await self._execute(connection, statement) for statement in batch.reads()]
            await pipeline.sync()
            outcomes = batch.decide([await cursor.fetchall() for cursor in reads])
            for statement in batch.writes():
                await self._execute(connection, statement)
            await connection.execute("COMMIT")
            await pipeline.sync()
        return outcomes

    @staticmethod
    async def _execute(
        connection: psycopg.AsyncConnection[tuple[object, ...]], statement: Statement
    ) -> psycopg.AsyncCursor[tuple[object, ...]]:
        return await connection.execute(statement.sql.encode(), statement.params, prepare=True)

    def _resolve(self, batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)
            elif isinstance(outcome, Held):
                self._void(waiting.command)  # the caller left while its hold was committed

    def _fail(self, waiting: _Waiting, error: BaseException) -> None:
        logger.error("a ledger command failed alone: %s", type(waiting.command).__name__, exc_info=error)
        if isinstance(waiting.command, Settle):
            self._spool.write([waiting.command])
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
            waiting.outcome.exception()  # a settlement's future may have no reader

    def _patient(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """The batch without the holds that have waited too long; those are refused, and voided in case
        their commit did reach the database."""
        deadline = time.monotonic() - RESERVE_PATIENCE_S
        kept = []
        for waiting in batch:
            if not isinstance(waiting.command, Reserve) or waiting.since_s > deadline:
                kept.append(waiting)
                continue
            if not waiting.outcome.done():
                waiting.outcome.set_exception(LedgerUnavailable("the database is away"))
            self._void(waiting.command)
        return kept

    def _give_up_queued(self) -> None:
        """Refuse the impatient holds that queue behind a batch that cannot commit."""
        queued = list(self._queue)
        self._queue.clear()
        self._queue.extendleft(reversed(self._patient(queued)))

    def _void(self, command: AnyCommand) -> None:
        assert isinstance(command, Reserve)
        self.submit(Void(wallet_id=command.wallet_id, hold_id=command.hold_id, key_id=command.key_id))

    # --- the connection ---------------------------------------------------------------------

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        self._connection = await psycopg.AsyncConnection.connect(
            self._database_url, autocommit=True, options=SESSION, connect_timeout=CONNECT_TIMEOUT_S
        )
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _recover(self, error: Exception) -> bool:
        """Make the next attempt possible. True when the connection was lost: run the batch again."""
        logger.warning("a ledger batch did not commit: %s: %s", type(error).__name__, error)
        connection = self._connection
        if connection is None:
            return True
        if not connection.broken and not connection.closed:
            try:
                await connection.execute("ROLLBACK")
            except psycopg.Error as failure:
                logger.warning("rollback failed: %s", failure)
            else:
                return isinstance(error, psycopg.errors.AdminShutdown)
        await self._disconnect()
        return True
