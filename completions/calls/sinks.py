"""Where a call's answer goes: to a client who waits for all of it (`WholeSink`), or who reads along (`StreamSink`).

The two differ here and nowhere else. A sink is written by the call's own task, which outlives the request: money is
never settled by the response, whose generator may never be closed under ASGI.
"""

import asyncio
from typing import Protocol

from msgspec import Struct

from billing.ledger.commands import Settled
from completions.ask import Progress
from completions.calls.buffer import ClientBuffer
from completions.calls.call import Call
from completions.calls.headers import call_headers
from completions.dialects.base import AnswerWriter, Charge, Dialect, Head
from completions.errors import GatewayError
from completions.upstream.failure import UpstreamFailure


class Sink(Protocol):
    """One client's side of a call."""

    call: Call  # from `begin` on

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is going to ask for the answer: the client, now or by its Idempotency-Key."""

    @property
    def is_open(self) -> bool:
        """The client has the first bytes of the answer: no other route may be asked, and a failure is an event."""

    @property
    def is_full(self) -> bool: ...

    def begin(self, call: Call, task: asyncio.Task[None]) -> None:
        """The hold is there, and `task` is going to carry the call to its end."""

    async def opened(self) -> None:
        """Wait until there is something to answer with. Raises the call's error if it failed before."""

    def put(self, progress: Progress) -> None:
        """A Progress with a payload."""

    async def room(self) -> None:
        """Wait while the sink is full."""

    def shield(self) -> None:
        """The provider is done with: a client who leaves from here on changes nothing."""

    def end(self, settled: Settled | None) -> None:
        """The call is closed; None: nothing was charged."""


class StreamTimes(Struct, frozen=True):
    """How long a stream's status waits for its first event, its line is silent, and it is read on for nobody."""

    first_event_wait_s: float
    keepalive_s: float
    drain_max_s: float


def head_of(call: Call) -> Head:
    return Head(call.id, call.route.model, call.created)


def charge_of(call: Call, settled: Settled) -> Charge:
    assert call.billed is not None
    return Charge(call.billed, settled.charged, settled.remaining)


def error_of(call: Call, failure: UpstreamFailure) -> GatewayError:
    """What the client of a failed call is told, if nothing was before."""
    failure.error.call_headers = call_headers(call)
    return failure.error


class WholeSink:
    """See `Sink`. A client who leaves changes nothing: the call runs to its end."""

    call: Call
    is_wanted = True
    is_open = False
    is_full = False
    body: bytes  # when it has ended well
    media_type: str
    _writer: AnswerWriter

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, call: Call, _task: asyncio.Task[None]) -> None:
        self.call = call
        self._writer = self._dialect.writer(call.ask, head_of(call))
        self.media_type = self._writer.media_type

    async def opened(self) -> None:
        await asyncio.shield(self._ended)

    def put(self, progress: Progress) -> None:
        self.call.written = [self._writer.piece(progress)]

    async def room(self) -> None:
        """Always: nobody reads along."""

    def shield(self) -> None:
        """Nothing that a client does ends the call anyway."""

    def end(self, settled: Settled | None) -> None:
        call = self.call
        if call.failure is not None:
            self._ended.set_exception(error_of(call, call.failure))
            return
        assert settled is not None
        self.body = self._writer.end(charge_of(call, settled))
        self._ended.set_result(None)


class StreamSink:
    """See `Sink`. The status waits for the first real event, for a while. A client who leaves ends the call, unless the
    answer is wanted by its Idempotency-Key, or, for a while, its provider bills it in full anyway."""

    call: Call
    buffer: ClientBuffer
    media_type: str
    _writer: AnswerWriter

    def __init__(self, dialect: Dialect, times: StreamTimes) -> None:
        self._dialect = dialect
        self._times = times
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_disconnected = False
        self._is_shielded = False
        self._task: asyncio.Task[None] | None = None
        self._drain_timer: asyncio.TimerHandle | None = None

    # --- the call's side --------------------------------------------------------------------

    def begin(self, call: Call, task: asyncio.Task[None]) -> None:
        self.call = call
        self._task = task
        self._writer = self._dialect.writer(call.ask, head_of(call))
        self.media_type = self._writer.media_type
        self.buffer = ClientBuffer(self._writer.keepalive, self._times.keepalive_s)
        if self._is_disconnected:  # while the hold was made: no provider need hear of the call
            self.buffer.abandon()

    async def opened(self) -> None:
        done, _ = await asyncio.wait([self._opened], timeout=self._times.first_event_wait_s)
        if done:
            self._opened.result()
        else:
            self._open()

    @property
    def is_wanted(self) -> bool:
        return not self._is_disconnected or self.call.claim is not None

    @property
    def is_open(self) -> bool:
        return self._opened.done()

    @property
    def is_full(self) -> bool:
        return self.buffer.is_full

    def put(self, progress: Progress) -> None:
        if not self._opened.done():
            self._opened.set_result(None)
        piece = self._writer.piece(progress)
        self.buffer.put(piece)
        if self.call.claim is not None:
            self.call.written.append(piece)

    async def room(self) -> None:
        if not await self.buffer.room():
            self.disconnect()

    def shield(self) -> None:
        self._is_shielded = True
        if self._drain_timer is not None:
            self._drain_timer.cancel()

    def end(self, settled: Settled | None) -> None:
        """The last words: the error, or the usage if asked for and the end mark; nothing to a client who left."""
        call = self.call
        if call.failure is not None and not self._opened.done():
            self._opened.set_exception(error_of(call, call.failure))
        elif call.failure is not None:
            self.buffer.put(self._writer.failed(call.failure.error))
        else:
            self._open()
            if settled is not None and not call.cancelled:
                self.buffer.put(self._writer.end(charge_of(call, settled)))
        self.buffer.end()

    def _open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    # --- the client's side ------------------------------------------------------------------

    def disconnect(self) -> None:
        """The client is gone, or has everything. Called twice, or after the end, it changes nothing."""
        if self._is_disconnected or self._is_shielded:
            return
        self._is_disconnected = True
        if self._task is None:
            return
        self.buffer.abandon()
        if self.is_wanted:
            return
        if self.call.route.provider.is_drained:
            self._drain_timer = asyncio.get_running_loop().call_later(self._times.drain_max_s, self._task.cancel)
        else:
            self._task.cancel()
