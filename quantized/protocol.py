"""uvicorn's HTTP protocol with a bounded head, and our shape of an error for what never becomes a request.

uvicorn reads a request's head without a limit in size or time, and answers what is no HTTP in plain
text. Both end here: nothing of it reaches a lane.
"""

import asyncio

import httptools
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from completions.errors import (
    GatewayError,
    InvalidHttp,
    RequestHeadTooLarge,
    RequestTimeout,
    ServerStopping,
    error_bytes,
)
from quantized.middleware import HEADER, request_id
from quantized.server import REST_S

HEAD_BYTES_MAX = 64 * 1024
# The interim response that uvicorn sends before our answer's head to a client who asked `Expect: 100-continue`.
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
# A connection closed at once, with bytes still coming in, is reset: the client would not read why.
LINGER_S = 1


class Protocol(HttpToolsProtocol):
    _reads_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _is_refused = False
    _is_last = False  # the server is stopping: no request after this one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        began_before = self._reads_head
        super().data_received(data)
        if not self._reads_head:
            return
        if self._head_timer is None:
            self._wait_for_head()
        self._head_bytes += len(data) if began_before else 0
        if self._head_bytes > HEAD_BYTES_MAX:
            self.refuse(RequestHeadTooLarge(HEAD_BYTES_MAX))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reads_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._reads_head = False
        self._head_came()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX:
            self.refuse(RequestHeadTooLarge(HEAD_BYTES_MAX))
            raise httptools.HttpParserError  # ends the parser's work on these bytes
        super().on_headers_complete()
        if self.cycle is None:
            return
        if self._is_last:
            self.cycle.keep_alive = False
        if self.scope["method"] != "HEAD":  # whose answer is a head alone
            self.cycle.transport = ResponseTransport(self.transport)  # type: ignore[assignment]

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(settings.BODY_TIMEOUT_S, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._reads_head:
            self.refuse(RequestTimeout(settings.BODY_TIMEOUT_S))
        else:
            self.transport.close()  # connected and never asked anything

    # --- the server stops -------------------------------------------------------------------

    def shutdown(self) -> None:
        """A connection closes only after an answer that has said so. One that rests, or whose answer had begun
        before, stays for a moment: its client may just have sent the next request, which would be reset."""
        self._is_last = True
        if self._rests:
            self._close_soon()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_last and not self.transport.is_closing():
            self._close_soon()

    @property
    def _rests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_soon(self) -> None:
        self.loop.call_later(REST_S, self._close_if_resting)

    def _close_if_resting(self) -> None:
        if self._rests and not self._reads_head and not self.transport.is_closing():
            self.transport.close()

    def give_up(self) -> None:
        """What is not answered by now is told so; an answer under way gets what is left of the time."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._rests and not self._reads_head:
            self.transport.close()
        elif self._rests:
            self._end_with(ServerStopping())
        elif not self.cycle.response_started:
            self.cycle.disconnected = True  # its handler ends, and says nothing more
            self.cycle.message_event.set()
            self._end_with(ServerStopping())

    def send_400_response(self, msg: str) -> None:
        self._reads_head = False
        self.refuse(InvalidHttp())

    def refuse(self, error: GatewayError) -> None:
        """The last words on this connection; none in the middle of another answer."""
        if self._is_refused:
            return
        if self._rests:
            self._end_with(error)
        else:
            self._is_refused = True
            self.transport.close()

    def _end_with(self, error: GatewayError) -> None:
        self._is_refused = True
        self.transport.write(answer(error))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


class ResponseTransport:
    """What one answer is written through: its head goes with the first of its body, in one packet. An answer whose
    body may be long in coming sends an empty part of it first (quantized/lean.py)."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is None and data != GO_ON:
            self._head = data
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:  # more of the body, or what comes before the head
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._head:  # its body will not come
            self._transport.write(self._head)
        self._transport.close()


def answer(error: GatewayError) -> bytes:
    body = error_bytes(error)
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{HEADER}: {request_id(None)}\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[error.status] + head.encode() + body
