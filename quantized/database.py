"""The event loop's two small connections: one that reads a row now and then, one that listens."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg

from accounts.principals import CHANNEL
from completions.errors import LedgerUnavailable

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 6.0  # the server gives up first, if it is still there
TURN_TIMEOUT_S = 5.0
RETRY_S = 1.0
SESSION = "-c statement_timeout=5s -c application_name=quantized-{}"

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


async def connect(database_url: str, name: str) -> Connection:
    return await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, options=SESSION.format(name), connect_timeout=CONNECT_TIMEOUT_S
    )


@contextmanager
def cut_after(seconds: float, connection: Connection) -> Iterator[None]:
    """End a connection that hangs under whoever waits for it: cancelling would ask the hanging server to cancel."""
    cutting = asyncio.get_running_loop().call_later(seconds, _cut, connection)
    try:
        yield
    finally:
        cutting.cancel()


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


class Reader:
    """One connection, one statement at a time. A connection that is lost or hangs is made anew once, then it is a 503;
    so is waiting too long for one's turn."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None:
        # Never cancel a database call in flight: the connection would be unusable for the next caller.
        return await asyncio.shield(asyncio.ensure_future(self._fetch_one(sql, params)))

    async def execute(self, sql: str, params: Sequence[Any]) -> None:
        async with self._turn():
            await self._run(sql, params)

    async def is_alive(self) -> bool:
        try:
            return await self.fetch_one("SELECT 1", ()) is not None
        except LedgerUnavailable:
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
            raise LedgerUnavailable from None
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
                    raise LedgerUnavailable from error
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
