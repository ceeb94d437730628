"""The writer's one connection: a batch is one transaction in two flushes, and `recover` makes sense of its errors."""

import logging
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg import errors

from billing.ledger.batch import LOCKED_WALLETS, Batch
from billing.ledger.commands import AnyCommand, Outcome
from billing.ledger.pipeline import BEGIN, COMMIT, Connection, Flusher
from common import postgres

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3
# A stuck lock or statement must not stop the process's money. The server gives up first; the connection is cut when
# nothing is heard even of that.
SESSION = "-c lock_timeout=3s -c statement_timeout=15s -c application_name=quantized-ledger"
# Everything here is a look-up by key, of few rows; the planner takes our JSON for a hundred, and would rather read all
# wallets, or all of a table that was small when it last looked.
SESSION += " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off"
# To the planner a plan for a batch's very parameters looks cheaper than the plan it has, and costs more to make than it
# saves.
SESSION += " -c plan_cache_mode=force_generic_plan"
ANSWER_TIMEOUT_S = 20.0
# The server is going, or is not the primary any more: the next connection may find another server.
LOST = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.ReadOnlySqlTransaction)


class Wire:
    """Opens its connection when it is needed; one batch or look-up at a time.

    `connect`, `transact` and `locked` raise psycopg.Error; after the latter two, `recover` must be called.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: Connection | None = None
        self._flusher: Flusher | None = None
        self._asked_at_s: float | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    async def connect(self) -> Connection:
        self._connection = await psycopg.AsyncConnection.connect(
            self._database_url, autocommit=True, options=SESSION, connect_timeout=CONNECT_TIMEOUT_S
        )
        self._flusher = Flusher(self._connection)
        return self._connection

    async def disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def transact(self, commands: Sequence[AnyCommand]) -> list[Outcome]:
        """The outcomes of the commands in their order, durable. On an exception `recover` says what became of them."""
        if self._connection is None:
            await self.connect()
        assert self._flusher is not None
        batch = Batch(commands)
        with self._timed():
            _, *rows = await self._flusher.run([BEGIN, *batch.reads()])
            outcomes = batch.decide(rows)
            await self._flusher.run([*batch.writes(), COMMIT])
        return outcomes

    async def locked(self, wallet_ids: Set[UUID]) -> set[UUID]:
        """Those of the wallets that somebody else has locked just now."""
        connection = self._connection or await self.connect()
        ids = list(wallet_ids)
        with self._timed():
            cursor = await connection.execute(LOCKED_WALLETS, (ids, ids))
            return {row[0] for row in await cursor.fetchall() if isinstance(row[0], UUID)}

    async def recover(self, error: Exception) -> bool:
        """Make the next attempt possible. True when the connection is lost, and with it the answer whether the
        transaction was committed; False when it was rolled back."""
        logger.warning("a ledger batch did not commit: %s: %s", type(error).__name__, error)
        connection = self._connection
        if connection is not None and not connection.closed and not isinstance(error, LOST):
            try:
                with self._timed():
                    await connection.execute("ROLLBACK")
            except psycopg.Error as failure:
                logger.warning("rollback failed: %s", failure)
            else:
                return False
        await self.disconnect()
        return True

    # --- connections that hang --------------------------------------------------------------

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._asked_at_s = time.monotonic()
        try:
            yield
        finally:
            self._asked_at_s = None

    def cut_if_stuck(self) -> None:
        """To be called now and then while something is asked: ends a connection that does not answer."""
        if self._asked_at_s is not None and time.monotonic() - self._asked_at_s > ANSWER_TIMEOUT_S:
            logger.error("the ledger's connection has not answered for %.0f s", ANSWER_TIMEOUT_S)
            self.cut()

    def cut(self) -> None:
        """End the connection under whoever waits for it."""
        if self._connection is not None:
            postgres.cut(self._connection)
