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

Who does what: queue.py keeps the order, committer.py sees one batch through, parking.py holds what waits for locks,
wire.py is the connection. Here they are started, watched and closed.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from billing.ledger.commands import AnyCommand, Outcome, Reserve
from billing.ledger.committer import BATCH_MAX, Committer
from billing.ledger.parking import Parking
from billing.ledger.queue import LedgerUnavailable as LedgerUnavailable
from billing.ledger.queue import Queue, Submission
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire

logger = logging.getLogger(__name__)

RESERVE_PATIENCE_S = 2.0
WATCH_EVERY_S = 0.25


class Writer:
    """`queue_max` is how many commands may wait before holds are refused; settlements are always taken.

    Belongs to one event loop. `wire` is the connection to the ledger's database, one of its own unless given.
    """

    def __init__(self, database_url: str, spool: Spool, *, queue_max: int, wire: Wire | None = None) -> None:
        self._wire = wire or Wire(database_url)
        self._spool = spool
        self._queue_max = queue_max
        self._queue = Queue()
        self._parking = Parking(self._wire)
        self._committer = Committer(self._wire, self._queue, self._parking, spool)
        self._in_flight: list[Submission] = []
        self._are_locks_due = False  # whether parked wallets are to be looked at again
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self.batch_sizes = self._committer.batch_sizes
        self.commit_seconds = self._committer.commit_seconds

    # --- the callers' side ------------------------------------------------------------------

    @property
    def queue_length(self) -> int:
        """Commands that wait, parked ones too, without the batch that is being committed."""
        return len(self._queue) + self._parking.parked

    @property
    def connected(self) -> bool:
        return self._wire.connected

    def submit(self, command: AnyCommand) -> asyncio.Future[Outcome]:
        """Queue a command; its outcome comes when it is durable. Nothing is awaited before it is queued.

        Raises LedgerUnavailable for a hold when the queue is full or the writer closed. The future raises it for a hold
        that waited too long, and for what was unwritten at the close; it raises the database's error (`psycopg.Error`,
        also ValueError and OverflowError of an impossible figure) for a command that cannot be committed.
        """
        if isinstance(command, Reserve) and (self._closed or self.queue_length >= self._queue_max):
            raise LedgerUnavailable("the ledger is closed" if self._closed else "the ledger's queue is full")
        submission = Submission(command)
        if self._closed:
            self._abandon([submission])
        else:
            self._queue.put(submission)
            self._idle.clear()
        return submission.outcome

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect, so that a wrong DATABASE_URL stops the start (`psycopg.OperationalError`), and replay the spool."""
        await self._wire.connect()
        self._tasks = [
            asyncio.create_task(self._run(), name="ledger-writer"),
            asyncio.create_task(self._watch(), name="ledger-watch"),
        ]
        for path in self._spool.files():
            await self._replay(path)

    async def _replay(self, path: Path) -> None:
        try:
            commands = self._spool.read(path)
        except ValueError as error:
            logger.critical("the spool file %s cannot be read and stays: %s", path, error)
            return
        outcomes = [self.submit(command) for command in commands]
        await asyncio.gather(*outcomes, return_exceptions=True)
        self._spool.remove(path)  # a settlement that has failed again is in a new file by now
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

    def _unwritten(self) -> list[Submission]:
        """Each once: what a batch in flight has parked is in both."""
        return list(dict.fromkeys((*self._in_flight, *self._parking.submissions(), *self._queue)))

    def _abandon(self, unwritten: Sequence[Submission]) -> None:
        """Leave it to the next start. Holds that may have been committed are released there."""
        if unwritten:
            commands = [submission.command for submission in unwritten]
            self._spool.keep([c.release() if isinstance(c, Reserve) else c for c in commands])
        for submission in unwritten:
            submission.refuse(LedgerUnavailable("the ledger is closed"))

    async def _run(self) -> None:
        while True:
            await self._queue.ready.wait()
            if self._are_locks_due:
                self._are_locks_due = False
                self._queue.put_first(await self._parking.take_free())
            self._in_flight = self._queue.take(BATCH_MAX)
            try:
                await self._committer.commit(self._in_flight)
            except Exception as error:  # ours, not the database's; it must not stop the process's money
                for submission in self._in_flight:
                    self._committer.fail(submission, error)
            self._in_flight = []
            if not self._queue.ready.is_set() and not self._parking.wallets:
                self._idle.set()

    async def _watch(self) -> None:
        """Ends what waits too long: callers for their holds, a batch for a connection that hangs, wallets for locks."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._idle.is_set():
                continue
            deadline_s = time.monotonic() - RESERVE_PATIENCE_S
            for submission in self._unwritten():
                # The hold may be committed after all: then nobody waits for it, and the committer has it released.
                if isinstance(submission.command, Reserve) and submission.since_s <= deadline_s:
                    submission.refuse(LedgerUnavailable("the database is away"))
            self._wire.cut_if_stuck()
            if self._parking.wallets:
                self._are_locks_due = True
                self._queue.ready.set()
