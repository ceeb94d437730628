"""The load: HTTP/1.1 over raw uvloop protocols, so that what asks costs less than what answers.

    closed(request, connections, seconds)  each connection asks again as soon as it is answered
    steady(request, rate, seconds)         asks at fixed times, whatever the answers do

A steady call's time runs from the moment it was due, not from when it could be sent: a server that stalls is
charged for everybody who had to wait (coordinated omission).
"""

import asyncio
import math
import resource
import time
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import httptools

CONNECT_TIMEOUT_S = 10.0
ANSWER_PATIENCE_S = 30.0


class Request(NamedTuple):
    """Where to, and the bytes of it. `expected` is what a right answer must contain."""

    port: int
    content: bytes
    expected: bytes


def post(port: int, path: str, headers: Sequence[tuple[str, str]], body: bytes, expected: bytes) -> Request:
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode()
    return Request(port, head + body, expected)


def get(port: int, path: str, headers: Sequence[tuple[str, str]] = (), expected: bytes = b"") -> Request:
    lines = [f"GET {path} HTTP/1.1", f"host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in headers)]
    return Request(port, "\r\n".join([*lines, "", ""]).encode(), expected)


class Timing(NamedTuple):
    """Seconds of one answered call: to the first bytes of its body, and to its end."""

    first_s: float
    total_s: float


class Outcome(NamedTuple):
    """What a load met. `errors` tells wrong answers by what they were."""

    seconds: float
    timings: list[Timing]
    errors: dict[str, int]

    @property
    def per_second(self) -> float:
        return len(self.timings) / self.seconds

    def percentile_ms(self, share: float, *, first: bool = False) -> float:
        return percentile([t.first_s if first else t.total_s for t in self.timings], share) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank; not a number for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Connection(asyncio.Protocol):
    """One keep-alive connection, one call at a time: `ask` resolves when the answer has been read to its end."""

    def __init__(self) -> None:
        self.is_open = False
        self.status = 0
        self.chunks = 0
        self.body = bytearray()
        self.first_s = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[None] | None = None
        self._first: asyncio.Future[None] | None = None

    async def ask(self, content: bytes) -> None:
        self.begin(content)
        assert self._answer is not None
        await self._answer

    def begin(self, content: bytes) -> asyncio.Future[None]:
        """Send; the future is done with the first bytes of the body."""
        loop = asyncio.get_running_loop()
        self._answer, self._first = loop.create_future(), loop.create_future()
        self.body.clear()
        self.status = self.chunks = 0
        self.first_s = 0.0
        self.transport.write(content)
        return self._first

    async def end(self) -> None:
        assert self._answer is not None
        await self._answer

    # --- asyncio's and the parser's side ----------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        for waiting in (self._first, self._answer):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError("the connection was closed"))
                waiting.exception()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.chunks:
            self.first_s = time.perf_counter()
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
        self.chunks += 1
        self.body += body

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        if not self._parser.should_keep_alive():
            self.transport.close()
            self.is_open = False


async def connect(port: int) -> Connection:
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


class Pool:
    """Idle connections to one port, and what calls over them came to."""

    def __init__(self, request: Request, *more: Request) -> None:
        """Requests are asked in turn; all go to the first one's port."""
        self._port = request.port
        self._turns = cycle((request, *more))
        self._idle: list[Connection] = []
        self.timings: list[Timing] = []
        self.errors: dict[str, int] = {}

    async def call(self, due_s: float) -> None:
        request = next(self._turns)
        try:
            connection = await self._take()
            await connection.ask(request.content)
        except (OSError, TimeoutError) as error:
            self._failed(type(error).__name__)
            return
        now_s = time.perf_counter()
        if connection.status != 200:
            self._failed(f"status {connection.status}")
        elif request.expected not in connection.body:
            self._failed("another answer")
        else:
            self.timings.append(Timing(connection.first_s - due_s, now_s - due_s))
        if connection.is_open:
            self._idle.append(connection)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return await connect(self._port)

    def _failed(self, why: str) -> None:
        self.errors[why] = self.errors.get(why, 0) + 1

    def close(self) -> None:
        for connection in self._idle:
            connection.transport.close()


async def closed(request: Request, connections: int, seconds: float, *more: Request) -> Outcome:
    pool = Pool(request, *more)
    started_s = time.perf_counter()
    ends_s = started_s + seconds

    async def caller() -> None:
        while (now_s := time.perf_counter()) < ends_s:
            await pool.call(now_s)
            if pool.errors:
                await asyncio.sleep(0.01)  # what refuses everything shall not turn this into a busy loop

    async with asyncio.timeout(seconds + ANSWER_PATIENCE_S):
        await asyncio.gather(*(caller() for _ in range(connections)))
    outcome = Outcome(time.perf_counter() - started_s, pool.timings, pool.errors)
    pool.close()
    return outcome


async def steady(request: Request, rate: float, seconds: float) -> Outcome:
    pool = Pool(request)
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    calls = []
    for number in range(round(rate * seconds)):
        due_s = started_s + number / rate
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        calls.append(loop.create_task(pool.call(due_s)))
    async with asyncio.timeout(ANSWER_PATIENCE_S):
        await asyncio.gather(*calls)
    outcome = Outcome(time.perf_counter() - started_s, pool.timings, pool.errors)
    pool.close()
    return outcome


def raise_open_files_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
