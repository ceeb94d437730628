"""One HTTP request on the ASGI server: its body, its response, and when its client left."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sandbox.conversation import Refusal
from sandbox.steps import Headers, Whole

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TRANSPORT = "sandbox.transport"  # the key of the connection's transport in the scope's extensions
DRIBBLE_BYTES = 8
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientLeft(Exception):
    """The client closed the connection before the response was complete."""


class Wire:
    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None
        self._complete = False
        self.left_at: float | None = None

    async def body(self, bytes_max: int) -> bytes:
        """Raises Refusal for more than `bytes_max`, ClientLeft if it never ends."""
        parts = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.left_at = time.time()
                raise ClientLeft
            parts += message.get("body", b"")
            if len(parts) > bytes_max:
                raise Refusal(413, "Request body is too large", {"error_type": "payload_too_large"})
            more = message.get("more_body", False)
        return bytes(parts)

    async def pause(self, ms: float) -> None:
        """Sleep, awake when the client leaves."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        await asyncio.wait({self._watcher}, timeout=ms / 1000)

    async def until_left(self) -> None:
        while self.left_at is None:
            await self.pause(60_000)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        # The server also says so when a response is complete.
        if not self._complete:
            self.left_at = time.time()

    async def whole(self, response: Whole) -> None:
        """Its length is told and kept, unless only a part is to be sent."""
        length = (b"content-length", b"%d" % len(response.body))
        await self.head(response.status, (*response.headers, length))
        if response.sent_bytes is None:
            await self.end(response.body)
        else:
            await self.data(response.body[: response.sent_bytes])

    async def head(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def data(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        self._complete = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def dribble(self, body: bytes, ms: float) -> None:
        """Bytes past the server's own framing, evenly over the time."""
        drops = [body[at : at + DRIBBLE_BYTES] for at in range(0, len(body), DRIBBLE_BYTES)] if ms else [body]
        for drop in drops:
            self._transport.write(drop)
            await self.pause(ms / len(drops))

    async def close(self) -> None:
        """End the connection in mid-response: what was written arrives, nothing more."""
        self._transport.close()
        await self.until_left()

    async def reset(self) -> None:
        peer = self._transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
        await self.until_left()

    @property
    def _transport(self) -> asyncio.Transport:
        transport: asyncio.Transport | None = self._scope.get("extensions", {}).get(TRANSPORT)
        if transport is None:
            raise RuntimeError("this fault needs the sandbox's own server protocol (sandbox.server)")
        return transport

    def release(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
