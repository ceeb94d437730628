import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from completions.calls.call import Call
from completions.dialects.openai_chat.answers import KEEPALIVE_EVENT

BUFFER_BYTES_MAX = 64 * 1024
CLIENT_PATIENCE_S = 300.0


class Events:
    """The bytes between a relay and one client. Iterating joins what has gathered into one piece."""

    def __init__(self, call: Call, keepalive_s: float, drain_max_s: float) -> None:
        self.call = call
        self._keepalive_s = keepalive_s
        self._drain_max_s = drain_max_s
        self._drain_timer: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._is_over = False
        self.is_abandoned = False
        self._has_parts = False
        self._reader: asyncio.Future[bool] | None = None  # the client's side, while it waits
        self._waits_since_s = 0.0
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.relay: asyncio.Task[None] | None = None

    # --- the relay's side -------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        if self.is_abandoned:
            return
        self._parts.append(data)
        self._size += len(data)
        self._has_parts = True
        self._wake(True)
        if self._size > BUFFER_BYTES_MAX:
            self._emptied.clear()

    @property
    def is_full(self) -> bool:
        return not self._emptied.is_set()

    async def room(self) -> None:
        """Wait while the client is more than a buffer behind; nobody is behind who has left, and who takes
        nothing for long has."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLIENT_PATIENCE_S):
                await self._emptied.wait()
        if not self._emptied.is_set():
            self.leave()

    def end(self) -> None:
        self._is_over = self._has_parts = True
        self._wake(True)

    def let_end(self) -> None:
        """The provider is done with: a client who leaves from here on changes nothing."""
        self.relay = None
        if self._drain_timer is not None:
            self._drain_timer.cancel()

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is going to ask for the answer: the client, now or by its Idempotency-Key."""
        return not self.is_abandoned or self.call.claim is not None

    # --- the client's side ------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                if not self._has_parts and not await self._wait():
                    yield KEEPALIVE_EVENT
                    continue
                self._has_parts = False
                if data := b"".join(self._parts):
                    self._parts.clear()
                    self._size = 0
                    self._emptied.set()
                    yield data
                if self._is_over and not self._parts:
                    return
        finally:
            if self._keepalive_timer is not None:
                self._keepalive_timer.cancel()

    def leave(self) -> None:
        """The client is gone, or has everything. Called twice, or after the end, it changes nothing.
        What is still wanted runs to its end, and so does, for a while, what a provider bills in full anyway."""
        if self.relay is None or self._is_over or self.is_abandoned:
            return
        self.is_abandoned = True
        self._emptied.set()
        if self.is_wanted:
            return
        if self.call.route.provider.is_drained:
            self._drain_timer = asyncio.get_running_loop().call_later(self._drain_max_s, self.relay.cancel)
        else:
            self.relay.cancel()

    # --- waiting ----------------------------------------------------------------------------

    def _wake(self, has_parts: bool) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(has_parts)

    async def _wait(self) -> bool:
        """Until there is something, True, or for as long as a silent connection may be, False."""
        loop = asyncio.get_running_loop()
        self._waits_since_s = loop.time()
        self._reader = loop.create_future()
        if self._keepalive_timer is None:
            self._keepalive_timer = loop.call_later(self._keepalive_s, self._tick)
        try:
            return await self._reader
        finally:
            self._reader = None

    def _tick(self) -> None:
        """One timer for the whole stream: most waits end long before it, and it is only set again here."""
        loop = asyncio.get_running_loop()
        waited_s = loop.time() - self._waits_since_s if self._reader is not None else 0.0
        if waited_s >= self._keepalive_s:
            waited_s = 0.0
            self._wake(False)
        self._keepalive_timer = loop.call_later(self._keepalive_s - waited_s, self._tick)
