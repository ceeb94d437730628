"""The bytes between a call and one client, bounded: a client who is slow stops the reading upstream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

BUFFER_BYTES_MAX = 64 * 1024
CLIENT_PATIENCE_S = 300.0


class ClientBuffer:
    """Written by the call's task, read by the response. Iterating joins what has gathered into one piece; `keepalive`
    is what a silent connection is sent every `keepalive_s`."""

    def __init__(self, keepalive: bytes, keepalive_s: float) -> None:
        self._keepalive = keepalive
        self._keepalive_s = keepalive_s
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._has_parts = False
        self.is_over = False
        self.is_abandoned = False
        self._reader: asyncio.Future[bool] | None = None  # the client's side, while it waits
        self._waits_since_s = 0.0
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self.is_full = False
        self._emptied = asyncio.Event()  # set while it is not full

    # --- the call's side --------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        if self.is_abandoned:
            return
        self._parts.append(data)
        self._size_bytes += len(data)
        self._has_parts = True
        if self._reader is not None:
            self._wake(True)
        if self._size_bytes > BUFFER_BYTES_MAX:
            self.is_full = True
            self._emptied.clear()

    async def room(self) -> bool:
        """Wait while the client is more than a buffer behind; False: it has taken nothing for so long that it is gone.
        Nobody is behind who has left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLIENT_PATIENCE_S):
                await self._emptied.wait()
        return not self.is_full

    def end(self) -> None:
        self.is_over = self._has_parts = True
        self._wake(True)

    def abandon(self) -> None:
        """The client is gone: what is put from here on is for nobody."""
        self.is_abandoned = True
        self._make_room()

    # --- the client's side ------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                if not self._has_parts and not await self._wait():
                    yield self._keepalive
                    continue
                self._has_parts = False
                if data := b"".join(self._parts):
                    self._parts.clear()
                    self._size_bytes = 0
                    if self.is_full:
                        self._make_room()
                    yield data
                if self.is_over and not self._parts:
                    return
        finally:
            if self._keepalive_timer is not None:
                self._keepalive_timer.cancel()

    def _make_room(self) -> None:
        self.is_full = False
        self._emptied.set()

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
