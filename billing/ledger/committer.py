"""Commits one batch, whatever it takes: again after errors that pass, apart when one command is bad."""

import asyncio
import logging
import time
from collections.abc import Sequence

from psycopg import errors

from billing.ledger.commands import Held, Reserve, Settle
from billing.ledger.parking import Parking
from billing.ledger.queue import Queue, Submission
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire
from common.histogram import Histogram

logger = logging.getLogger(__name__)

BATCH_MAX = 500
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, BATCH_MAX)
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 1.0
# These pass by themselves: the same batch is run again.
PASSING = (errors.DeadlockDetected, errors.SerializationFailure, errors.DiskFull, errors.OutOfMemory)


class Committer:
    """Releases of holds that nobody waits for any more go back into `queue`; settlements that fail go to `spool`."""

    def __init__(self, wire: Wire, queue: Queue, parking: Parking, spool: Spool) -> None:
        self._wire = wire
        self._queue = queue
        self._parking = parking
        self._spool = spool
        self.batch_sizes = Histogram(BATCH_SIZES)
        self.commit_seconds = Histogram(COMMIT_SECONDS)

    async def commit(self, batch: Sequence[Submission]) -> None:
        """Every submission of the batch has its outcome, or is parked, when this returns."""
        retry_s = RETRY_FIRST_S
        while batch := self._wanted(batch):
            begun_s = time.monotonic()
            try:
                outcomes = await self._wire.transact([submission.command for submission in batch])
            except Exception as error:
                is_lost = await self._wire.recover(error)
                is_locked_out = isinstance(error, errors.LockNotAvailable)
                if is_locked_out and await self._parking.note_locked(batch):
                    continue
                if not is_lost and not isinstance(error, PASSING):
                    if len(batch) > 1:  # one of them is bad: each alone, once, so that only the guilty one fails
                        for submission in batch:
                            await self.commit([submission])
                        return
                    if not is_locked_out:
                        return self.fail(batch[0], error)
                await asyncio.sleep(retry_s)
                retry_s = min(RETRY_MAX_S, retry_s * 2)
                continue
            self.batch_sizes.observe(len(batch))
            self.commit_seconds.observe(time.monotonic() - begun_s)
            for submission, outcome in zip(batch, outcomes, strict=True):
                if not submission.outcome.done():
                    submission.outcome.set_result(outcome)
                elif isinstance(submission.command, Reserve) and isinstance(outcome, Held):
                    # The caller left, or was refused, while its hold was committed.
                    self._queue.put(Submission(submission.command.release()))
            return

    def fail(self, submission: Submission, error: Exception) -> None:
        """This command cannot be committed. A settlement is kept in the spool, where an operator finds it."""
        logger.error("a ledger command failed alone: %s", type(submission.command).__name__, exc_info=error)
        if isinstance(submission.command, Settle):
            self._spool.keep([submission.command])
        submission.refuse(error)

    def _wanted(self, batch: Sequence[Submission]) -> list[Submission]:
        """The batch without holds that nobody waits for any more, and without what waits for a lock."""
        wanted = []
        for submission in batch:
            command = submission.command
            if isinstance(command, Reserve) and submission.outcome.done():
                self._queue.put(Submission(command.release()))  # an earlier attempt may have committed the hold
            elif not (self._parking.wallets and self._parking.park(submission)):
                wanted.append(submission)
        return wanted
