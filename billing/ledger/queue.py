"""Commands that wait to be committed, in the order they were handed over."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import msgspec

from billing.ledger.commands import AnyCommand, Outcome


class LedgerUnavailable(Exception):
    """No hold can be made now, nothing was reserved; of a settlement: it is in the spool."""


class Submission(msgspec.Struct, eq=False):
    """A command on its way to the database, and the future of its outcome. Made in the event loop that awaits it."""

    command: AnyCommand
    outcome: asyncio.Future[Outcome] = msgspec.field(default_factory=asyncio.Future)
    since_s: float = msgspec.field(default_factory=time.monotonic)

    def refuse(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # nobody may be awaiting a settlement, and asyncio would complain of that


class Queue(deque[Submission]):
    """First in, first out. It has no limit of its own: what a call has spent must always be taken.

    `ready` is set while there is something to take. Who sets it by hand makes the taker look up once, for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()

    def put(self, submission: Submission) -> None:
        self.append(submission)
        self.ready.set()

    def put_first(self, submissions: Sequence[Submission]) -> None:
        """Before all that wait, in the order given."""
        self.extendleft(reversed(submissions))
        self.ready.set()

    def take(self, count_max: int) -> list[Submission]:
        """The first `count_max`, or as many as there are."""
        taken = [self.popleft() for _ in range(min(count_max, len(self)))]
        if not self:
            self.ready.clear()
        return taken
