"""uvicorn's HTTP protocol with a bounded head, and our shape of an error for what never becomes a request.

uvicorn reads a request's head without a limit, and answers what is no HTTP in plain text. Both end
here: nothing of it reaches a lane.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from completions.errors import GatewayError, InvalidHttp, RequestHeadTooLarge, error_bytes
from quantized.middleware import HEADER, request_id

HEAD_BYTES_MAX = 64 * 1024
# A connection closed at once, with bytes still coming in, is reset: the client would not read why.
LINGER_S = 1


class Protocol(HttpToolsProtocol):
    _reads_head = False
    _head_bytes = 0
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._reads_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.refuse(RequestHeadTooLarge(HEAD_BYTES_MAX))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reads_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._reads_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX:
            self.refuse(RequestHeadTooLarge(HEAD_BYTES_MAX))
            raise httptools.HttpParserError  # ends the parser's work on these bytes
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._reads_head = False
        self.refuse(InvalidHttp())

    def refuse(self, error: GatewayError) -> None:
        """The last words on this connection; none in the middle of another answer."""
        if self._is_refused:
            return
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.transport.write(answer(error))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def answer(error: GatewayError) -> bytes:
    body = error_bytes(error)
    head = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{HEADER}: {request_id(None)}\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[error.status] + head.encode() + body
