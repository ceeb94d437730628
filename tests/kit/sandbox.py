"""For tests of the sandbox: requests as a provider's client sends them, answers byte by byte."""

import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from sandbox.server import SandboxServer
from tests.kit import MODEL

CAPITAL = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
READ_TIMEOUT_S = 5


class Raw(NamedTuple):
    """A response as it came over the socket. `end` says how: complete, eof (cut short), reset or silence."""

    status: int | None
    headers: dict[str, str]
    body: bytes
    end: str


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def chat(directive: str = "", **fields: Any) -> dict[str, Any]:
    told = {"metadata": {"sandbox": directive}} if directive else {}
    return {"model": MODEL, "messages": CAPITAL, **told, **fields}


def client(server: SandboxServer) -> httpx.Client:
    return httpx.Client(base_url=server.base_url, headers={"authorization": "Bearer sk-or-test"})


def ask(server: SandboxServer, directive: str = "", **fields: Any) -> dict[str, Any]:
    """The body of a call that is answered with 200."""
    with client(server) as http:
        response = http.post("/chat/completions", json=chat(directive, **fields))
    assert response.status_code == 200, response.text
    return json.loads(response.content)


def refused(server: SandboxServer, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    with client(server) as http:
        response = http.post("/chat/completions", content=content, headers=sent)
    return response.status_code, response.json()


def stream(server: SandboxServer, directive: str = "", **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream; comments and `[DONE]` left out."""
    return chunks(stream_text(server, directive, **fields))


def stream_text(server: SandboxServer, directive: str = "", **fields: Any) -> str:
    with client(server) as http:
        response = http.post("/chat/completions", json=chat(directive, stream=True, **fields))
    assert response.status_code == 200, response.text
    return response.text


def chunks(text: str) -> list[dict[str, Any]]:
    events = [block.removeprefix("data: ") for block in text.split("\n\n") if block.startswith("data: ")]
    return [json.loads(event) for event in events if event != "[DONE]"]


def said(parts: list[dict[str, Any]], key: str = "content") -> str:
    return "".join(part["choices"][0]["delta"].get(key) or "" for part in parts if part["choices"])


def connect(server: SandboxServer, body: dict[str, Any]) -> socket.socket:
    """A connection that has sent its request and read nothing."""
    parts = urlsplit(server.origin)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=READ_TIMEOUT_S)
    content = json.dumps(body).encode()
    head = (
        f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer sk-or-test\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def raw(server: SandboxServer, directive: str, *, streamed: bool, silence_s: float = 0.3, **fields: Any) -> Raw:
    """The response read from the socket until it is complete, the connection ends, or nothing comes any more."""
    with connect(server, chat(directive, stream=streamed, **fields)) as connection:
        connection.settimeout(silence_s)
        received, end = b"", "eof"
        while not _is_complete(received):
            try:
                data = connection.recv(1 << 20)
            except ConnectionResetError:
                end = "reset"
                break
            except TimeoutError:
                end = "silence"
                break
            if not data:
                break
            received += data
    return _parsed(received, "complete" if _is_complete(received) else end)


def _is_complete(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    headers = _headers(head)
    if "content-length" in headers:
        return len(body) >= int(headers["content-length"])
    return headers.get("transfer-encoding") == "chunked" and body.endswith(b"0\r\n\r\n")


def _parsed(received: bytes, end: str) -> Raw:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return Raw(None, {}, received, end)
    headers = _headers(head)
    plain = _unchunked(body) if headers.get("transfer-encoding") == "chunked" else body
    return Raw(int(head.split(b" ", 2)[1]), headers, plain, end)


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def _unchunked(body: bytes) -> bytes:
    plain = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        plain, body = plain + rest[:length], rest[length + 2 :]
    return plain
