"""Where commands wait for wallets that somebody else has locked, so that the others of their batch need not.

A batch takes all its locks in one statement, and one lock that does not come fails it. It is then asked which of its
wallets are locked: their commands wait here, in their order, and the rest goes on without them.
"""

from collections.abc import Sequence
from uuid import UUID

import psycopg

from billing.ledger.queue import Submission
from billing.ledger.wire import Wire


class Parking:
    """`wallets` are those that were locked when last looked at, each with what waits for it: `parked` in all."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.wallets: dict[UUID, list[Submission]] = {}
        self.parked = 0

    def submissions(self) -> list[Submission]:
        return [submission for waiting in self.wallets.values() for submission in waiting]

    async def note_locked(self, batch: Sequence[Submission]) -> bool:
        """Look which wallets of this batch are locked just now, to park their commands; whether any is."""
        locked = await self._locked({submission.command.wallet_id for submission in batch})
        for wallet_id in locked or ():
            self.wallets.setdefault(wallet_id, [])
        return bool(locked)

    def park(self, submission: Submission) -> bool:
        """Put it aside if its wallet is one of `wallets`; whether it was."""
        waiting = self.wallets.get(submission.command.wallet_id)
        if waiting is None:
            return False
        waiting.append(submission)
        self.parked += 1
        return True

    async def take_free(self) -> list[Submission]:
        """Look again; what waits for wallets that are free by now, each wallet's in its old order."""
        locked = await self._locked(set(self.wallets))
        if locked is None:
            return []
        free = self.wallets.keys() - locked
        submissions = [submission for wallet_id in free for submission in self.wallets.pop(wallet_id)]
        self.parked -= len(submissions)
        return submissions

    async def _locked(self, wallet_ids: set[UUID]) -> set[UUID] | None:
        """None: the database could not be asked."""
        try:
            return await self._wire.locked(wallet_ids)
        except psycopg.Error as error:
            await self._wire.recover(error)
            return None
