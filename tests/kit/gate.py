"""A door between one client and PostgreSQL: tests shut it, hold it, or slam it in the middle of a COMMIT."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

IDLE, IN_TRANSACTION = b"Z\x00\x00\x00\x05I", b"Z\x00\x00\x00\x05T"  # ReadyForQuery, as the server says it


class Gate:
    def __init__(self, database_url: str) -> None:
        self._place = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
        self._server: asyncio.Server | None = None
        self._port = 0
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self.lose_answers_of_commits = 0  # so many commits happen, and their client never hears of it
        self.lose_commits = 0  # so many transactions are cut before their writes arrive
        self.executed = 0  # statements the client had executed

    async def __aenter__(self) -> "Gate":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    @property
    def url(self) -> str:
        place = self._place | {"host": "127.0.0.1", "port": str(self._port)}
        return make_conninfo(**place, sslmode="disable", gssencmode="disable")

    # --- what a test does to it ---------------------------------------------------------------

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """No new connection, and the end of those there are."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for stream in list(self._streams):
            stream.transport.abort()

    def hold(self) -> None:
        """Nothing passes until `let_flow`."""
        self._flowing.clear()

    def let_flow(self) -> None:
        self._flowing.set()

    def hang(self) -> None:
        """Nothing passes ever again on the connections there are; new ones are well."""
        for link in self._links:
            link.hangs = True

    # --- what it does ---------------------------------------------------------------------------

    async def _connect(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await self._connect_server()
        except OSError:
            to_client.transport.abort()
            return
        streams = {to_client, to_server}
        self._streams |= streams
        link = _Link(self, from_client, to_client, from_server, to_server)
        self._links.add(link)
        pumps = [asyncio.ensure_future(link.questions()), asyncio.ensure_future(link.answers())]
        self._tasks |= set(pumps)
        await asyncio.wait(pumps)
        self._tasks -= set(pumps)
        self._streams -= streams
        self._links.discard(link)

    async def _connect_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._place.get("host") or "localhost", int(self._place.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def flow(self) -> None:
        await self._flowing.wait()


class _Link:
    """One connection. The first question of a client has no type byte; all later ones do."""

    def __init__(
        self,
        gate: Gate,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self.gate = gate
        self.from_client, self.to_client = from_client, to_client
        self.from_server, self.to_server = from_server, to_server
        self.is_in_transaction = False
        self.hangs = False

    async def questions(self) -> None:
        await self._pump(self.from_client, self._question)

    async def answers(self) -> None:
        await self._pump(self.from_server, self._answer)

    async def _pump(self, source: asyncio.StreamReader, handle: Any) -> None:
        """Until either side is gone; then both are."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await handle(source)
        self.to_client.transport.abort()
        self.to_server.transport.abort()

    async def _pass(self) -> None:
        await self.gate.flow()
        if self.hangs:
            await asyncio.Event().wait()

    async def _question(self, source: asyncio.StreamReader) -> None:
        """One message of the client."""
        is_first = not hasattr(self, "started")
        head = await source.readexactly(4 if is_first else 5)
        body = await source.readexactly(int.from_bytes(head[-4:]) - 4)
        self.started = True
        await self._pass()
        if self.is_in_transaction and self.gate.lose_commits > 0:
            self.gate.lose_commits -= 1
            raise ConnectionResetError
        self.gate.executed += not is_first and head[:1] == b"E"
        self.to_server.write(head + body)

    async def _answer(self, source: asyncio.StreamReader) -> None:
        data = await source.read(65_536)
        if not data:
            raise ConnectionResetError
        await self._pass()
        was_in_transaction = self.is_in_transaction
        if IN_TRANSACTION in data:
            self.is_in_transaction = True
        if was_in_transaction and IDLE in data:
            self.is_in_transaction = False
            if self.gate.lose_answers_of_commits > 0:
                self.gate.lose_answers_of_commits -= 1
                raise ConnectionResetError
        self.to_client.write(data)
