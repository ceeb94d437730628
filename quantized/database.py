"""The event loop's two small connections: one that reads a row now and then, one that listens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg

from accounts.principals import CHANNEL
from common import postgres
from common.postgres import DatabaseUnavailable

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 6.0  # longer than the session's statement_timeout: a server that still runs gives up first
TURN_TIMEOUT_S = 5.0
RETRY_S = 1.0
SESSION = "-c statement_timeout=5s -c application_name=quantized-{}"

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


async def connect(database_url: str, name: str) -> Connection:
    """`name` is what PostgreSQL's lists of sessions show of it. Raises psycopg.OperationalError."""
    return await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, options=SESSION.format(name), connect_timeout=CONNECT_TIMEOUT_S
    )


@contextmanager
def cut_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Cut the connection if what is done with it takes longer than this."""
    cutting = asyncio.get_running_loop().call_later(seconds, postgres.cut, connection)
    try:
        yield
    finally:
        cutting.cancel()


class Reader:
    """One connection, one statement at a time, each committed by itself.

    A connection that is lost or hangs is made anew once and the statement is sent again, so that a statement that had
    arrived is executed twice. After that, and for a caller who waits too long for a turn, `fetch_one` and `execute`
    raise DatabaseUnavailable; other errors of a statement come as psycopg.Error.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
        """The first row, or None."""
        # Never cancel a database call in flight: the connection would be unusable for the next caller.
        return await asyncio.shield(asyncio.ensure_future(self._fetch_one(sql, params)))

    async def execute(self, sql: str, params: Sequence[Any]) -> None:
        async with self._turn():
            await self._run(sql, params)

    async def is_alive(self) -> bool:
        try:
            return await self.fetch_one("SELECT 1", ()) is not None
        except DatabaseUnavailable:
            return False

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
        async with self._turn():
            return await (await self._run(sql, params)).fetchone()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._lock.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("the reader's connection was busy for too long") from None
        try:
            yield
        finally:
            self._lock.release()

    async def _run(self, sql: str, params: Sequence[Any]) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        for is_last in (False, True):
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await connect(self._database_url, "reader")
                with cut_after(ANSWER_TIMEOUT_S, self._connection):
                    return await self._connection.execute(sql.encode(), params)
            except psycopg.OperationalError as error:
                await self.close()
                if is_last:
                    raise DatabaseUnavailable(str(error)) from error
        raise AssertionError("unreachable")


class Listener:
    """Hands every notification of our channel to `notified`, and says when it is and is not listening."""

    def __init__(
        self,
        database_url: str,
        notified: Callable[[str], Awaitable[None]],
        listening: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._database_url = database_url
        self._notified = notified
        self._listening = listening

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as error:
                logger.warning("not listening for changes: %s", error)
            except Exception:
                logger.exception("a notification could not be handled")
            await self._listening(False)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        connection = await connect(self._database_url, "listener")
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            await self._listening(True)
            async for notification in connection.notifies():
                await self._notified(notification.payload)
        finally:
            await connection.close()
