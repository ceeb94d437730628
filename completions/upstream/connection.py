"""One connection to a provider: HTTP/1.1, one request at a time, its answer as it comes.

Ours, because what it exists for is what libraries do worst: it ends at once when nobody wants the
answer any more, whatever it is waiting for. It reads no further than a buffer ahead of its reader,
waits for no byte longer than it may, and takes no head larger than it must. httptools parses, the
event loop does TLS.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, cast

import httptools

HEAD_BYTES_MAX = 64 * 1024
BUFFER_BYTES_MAX = 64 * 1024
_FRAMED = (b"content-length", b"transfer-encoding")


class UpstreamError(Exception):
    """The provider was not reached, was too slow, or broke off. `kind` says which."""

    def __init__(self, kind: Literal["connect", "timeout", "broken", "too_large"], detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Connection(asyncio.Protocol):
    """`send`, `head`, `read` until it returns None; then, if `is_reusable`, `rest`, `take`, and begin again."""

    def __init__(self, read_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_timeout_s = read_timeout_s
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waits_since_s = 0.0
        self._at_end: Callable[[Connection], None] | None = None  # while it rests
        self._is_asked = False
        self._is_held_back = False
        self._may_keep_alive = False
        self._forget_answer()

    def _forget_answer(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_begun = False  # a byte of the answer has come
        self._has_head = False
        self._is_complete = False
        self._error: UpstreamError | None = None
        self._parts: list[bytes] = []
        self._buffered_bytes = 0
        self._head_bytes = 0  # since the last byte of a body

    # --- the caller's side ------------------------------------------------------------------

    def send(self, head: bytes, body: bytes) -> None:
        """Raises UpstreamError if the connection ended before; then nothing was sent."""
        if self._transport is None or self._transport.is_closing():
            raise UpstreamError("broken", "the connection was closed before it was used")
        self._forget_answer()
        self._is_asked = True
        self._waits_since_s = self._loop.time()
        self._arm(self._read_timeout_s)
        self._transport.writelines((head, body))

    async def head(self) -> None:
        """Wait for status and headers. Raises UpstreamError."""
        while not self._has_head:
            await self._more()

    async def read(self) -> bytes | None:
        """What has come of the body, at least a byte; None at its end. Raises UpstreamError."""
        while not self._parts:
            if self._is_complete:
                return None
            await self._more()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        self._read_on()
        return data

    @property
    def is_reusable(self) -> bool:
        """The answer came whole, and nothing speaks against asking again."""
        return (
            self._is_complete
            and self._may_keep_alive
            and self._transport is not None
            and not self._transport.get_write_buffer_size()
        )

    def rest(self, life_s: float, at_end: Callable[["Connection"], None]) -> None:
        """Wait to be taken; `at_end` is told if that cannot be any more."""
        self._is_asked = False
        self._at_end = at_end
        self._read_on()
        self._arm(life_s)

    def take(self) -> bool:
        """The end of its rest; whether it can be asked."""
        self._at_end = None
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once; what is not sent yet is not sent any more."""
        if self._transport is not None:
            self._transport.abort()

    # --- the event loop's side --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:  # bytes before any request: they would be taken for the beginning of the next answer
            self.abort()
            return
        self.has_begun = True
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._may_keep_alive = False
            self._fail(UpstreamError("broken", f"no HTTP: {error}"))
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fail(UpstreamError("too_large", f"more than {HEAD_BYTES_MAX} bytes of headers"))
        self._wake()

    def eof_received(self) -> None:
        self._end_of_stream("the connection was closed")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._disarm()
        self._end_of_stream(type(exc).__name__ if exc else "the connection was closed", is_clean=exc is None)
        if self._at_end is not None:
            self._at_end(self)

    # --- the parser's side ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise httptools.HttpParserError("bytes after the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # trailers, headers after a chunked body, are ignored
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # interim responses (100 Continue, 103 Early Hints): the answer is still to come
            self.headers.clear()
            return
        self._may_keep_alive = self._parser.should_keep_alive()
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self._head_bytes = 0
        self._parts.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes > BUFFER_BYTES_MAX and not self._is_held_back and self._transport is not None:
            self._is_held_back = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True

    # --- waiting ----------------------------------------------------------------------------

    async def _more(self) -> None:
        """Until something has come or has ended; raises what ended it."""
        if self._error is not None:
            raise self._error
        self._waits_since_s = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read_on(self) -> None:
        if self._is_held_back and self._transport is not None:
            self._is_held_back = False
            self._transport.resume_reading()

    def _end_of_stream(self, how: str, *, is_clean: bool = True) -> None:
        """A body without a length ends with its connection; everything else is broken off by that."""
        self._may_keep_alive = False
        if not self._is_asked or self._is_complete:
            return
        if is_clean and self._has_head and self._error is None and not any(n in _FRAMED for n, _ in self.headers):
            self._is_complete = True
        else:
            self._fail(UpstreamError("broken", how))
        self._wake()

    def _fail(self, error: UpstreamError) -> None:
        """What came before it can still be read."""
        if not self._is_complete and self._error is None:
            self._error = error
        self.abort()

    # --- time -------------------------------------------------------------------------------

    def _arm(self, delay_s: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay_s, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        if not self._is_asked:
            self.abort()
            return
        waited_s = self._loop.time() - self._waits_since_s if self._waiter is not None else 0.0
        if waited_s >= self._read_timeout_s:
            self._fail(UpstreamError("timeout", f"nothing came for {self._read_timeout_s:g} s"))
            self._wake()
        else:  # nobody waits for the provider right now, or not for that long yet
            self._arm(self._read_timeout_s - waited_s)
