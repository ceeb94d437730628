"""A provider that answers every request with the same bytes: for what no decent server would say."""

import socketserver
import threading
from collections.abc import Iterable


class CannedProvider:
    """`with CannedProvider() as provider: provider.reply = b"HTTP/1.1 ..."`. An iterable is sent piece by piece, until
    the client leaves; then the connection is closed. `requests` holds the heads that came."""

    def __init__(self) -> None:
        self.reply: bytes | Iterable[bytes] = b""
        self.requests: list[bytes] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "CannedProvider":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        provider = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b"".join(iter(self.rfile.readline, b"\r\n"))
                provider.requests.append(head)
                self.rfile.read(length_of(head))
                pieces = [provider.reply] if isinstance(provider.reply, bytes) else provider.reply
                try:
                    for piece in pieces:
                        self.wfile.write(piece)
                except OSError:
                    return  # the client has heard enough

        return Handler


def length_of(head: bytes) -> int:
    """Of the body that follows; a GET has none."""
    lengths = [line.split(b":")[1] for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    return int(lengths[0]) if lengths else 0


def response(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
