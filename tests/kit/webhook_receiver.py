"""A tenant's server that takes webhooks, over real sockets, and misbehaves on demand."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Answer = Callable[["Handler"], None]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: "Handler") -> None:
        handler.send_response(code)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def never(handler: "Handler") -> None:
    time.sleep(1.5)


def dripping_head(handler: "Handler") -> None:
    """A byte now and then: no single read ever times out."""
    for byte in b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def endless(handler: "Handler") -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(4_000):
        handler.server.sent_bytes += handler.wfile.write(b"x" * 16_384)


def cut(handler: "Handler") -> None:
    handler.wfile.write(b"HTTP/1.1 ")


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []  # of the next requests; 204 afterwards
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.sent_bytes = 0

    def url(self, path: str = "/hooks?tenant=1") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else status(204)
        answer(self)
        self.close_connection = True

    def do_GET(self) -> None:
        self.server.got.append((f"GET {self.path}", {}, b""))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest's output is for failures."""


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = Receiver()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
