"""Calls as clients send them, byte by byte if need be, and what the books say afterwards."""

import http.client
import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from billing.models import Hold, Usage, Wallet
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.live import Server
from tests.kit.tenants import Tenant, wait_closed

PATH = "/v1/chat/completions"
CAPITAL = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
ANSWER = "The capital of France is Paris."
HOLD_MICRO = 24_127  # for CAPITAL and 128 tokens: (61 × 0.40 + 128 × 1.60) / 0.95 × 100, rounded up
CHARGE_MICRO = 2_400  # 25 tokens in, 8 out
TIMEOUT_S = 20

REQUEST_ID = re.compile(r"req-[0-9a-f]{32}")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", (self.headers, self.body)
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        [(name, error)] = self.json.items()
        assert name == "error"
        return error

    @property
    def usage(self) -> dict[str, Any]:
        return self.json["usage"]

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events, decoded; [DONE] as a string."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8", (self.headers, self.body)
        return events_of(self.body)

    @property
    def text(self) -> str:
        """What a stream's choices say."""
        chunks = [event for event in self.events if event != "[DONE]" and "choices" in event]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def shared_server(servers: dict[str, Server], name: str, environment: dict[str, str], factory: Any) -> Server:
    """A server for all tests that want these settings, started by the first one."""
    if name not in servers:
        servers[name] = Server(environment, factory.mktemp(name) / "server.log")
        servers[name].wait_ready()
    return servers[name]


def events_of(body: bytes) -> list[Any]:
    blocks = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block.startswith(b"data: ")]
    return [data.decode() if data == b"[DONE]" else json.loads(data) for data in blocks]


def chat(directive: str = "", **fields: Any) -> dict[str, Any]:
    """A request; the directive tells the sandbox what to do. A field of None is sent as null."""
    told = {"metadata": {"sandbox": directive}} if directive else {}
    return {"model": MODEL, "messages": CAPITAL, "max_tokens": 128, **told, **fields}


def call(
    server: Server,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes | Iterable[bytes] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """One request on a connection of its own. An iterable body is sent in chunks, without a content-length."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout_s)
    try:
        connection.request(method, path, body, headers or {})
        return read_answer(connection.getresponse())
    finally:
        connection.close()


def read_answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def post(
    server: Server,
    tenant: Tenant | None,
    body: Any,
    headers: dict[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """A completion: bytes and iterables go as they are, anything else as JSON."""
    content = json.dumps(body).encode() if isinstance(body, dict | list) else body
    sent = {"content-type": "application/json", **(tenant.headers if tenant else {}), **(headers or {})}
    return call(server, "POST", PATH, sent, content, timeout_s)


def ask(server: Server, tenant: Tenant, directive: str = "", **fields: Any) -> Answer:
    return post(server, tenant, chat(directive, **fields))


def stream(server: Server, tenant: Tenant, directive: str = "", **fields: Any) -> Answer:
    """The whole stream, with the usage asked for."""
    return ask(server, tenant, directive, stream=True, stream_options={"include_usage": True}, **fields)


def head(server: Server, tenant: Tenant | None, length: int, *more: str) -> bytes:
    """A request's first bytes, up to the empty line."""
    lines = [f"POST {PATH} HTTP/1.1", f"host: 127.0.0.1:{server.port}", "content-type: application/json"]
    lines += [f"authorization: Bearer {tenant.api_key}"] if tenant else []
    return "\r\n".join([*lines, f"content-length: {length}", *more, "", ""]).encode()


def open_call(server: Server, tenant: Tenant, directive: str = "", **fields: Any) -> socket.socket:
    """A connection that has sent its request and read nothing."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
    content = json.dumps(chat(directive, **fields)).encode()
    connection.sendall(head(server, tenant, len(content)) + content)
    return connection


def read_answers(connection: socket.socket, count: int) -> list[Answer]:
    """So many answers with a content-length, one after another on one connection."""
    answers, received = [], b""
    while len(answers) < count:
        head, separator, rest = received.partition(b"\r\n\r\n")
        headers = headers_of(head)
        length = int(headers.get("content-length", 0))
        if separator and len(rest) >= length:
            answers.append(Answer(int(head.split(b" ", 2)[1]), headers, rest[:length]))
            received = rest[length:]
        else:
            data = connection.recv(1 << 16)
            assert data, f"the connection ended after {len(answers)} answers: {received!r}"
            received += data
    return answers


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode("latin1").split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    received = b""
    while mark not in received:
        data = connection.recv(1 << 16)
        assert data, f"the connection ended before {mark!r}: {received!r}"
        received += data
    return received


def assert_error(
    answer: Answer,
    status: int,
    kind: str,
    code: str,
    param: str | None = None,
    message: str | None = None,
    *,
    is_call: bool = False,
) -> dict[str, Any]:
    """An error of the contract's shape with a request id; its body. The message None: whatever sentence it is.
    Of a call that reached a provider the answer also tells the id, for its receipt."""
    error = answer.error
    assert (answer.status, error["type"], error["code"], error["param"]) == (status, kind, code, param), answer
    assert message in (None, error["message"]), error
    assert message or error["message"].endswith((".", "?")), error
    assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
    assert ("x-generation-id" in answer.headers) is is_call, answer
    assert set(error) == {"message", "type", "param", "code"} | ({"metadata"} if status == 402 else set())
    return error


def assert_insufficient_credits(
    answer: Answer, required: int, available: int, affordable: int, source: str = "credits"
) -> None:
    """A 402 with these figures, in micro-credits and output tokens; `source` is what did not suffice."""
    error = assert_error(answer, 402, "insufficient_credits", "insufficient_credits", None, answer.error["message"])
    limit = "the credits left" if source == "credits" else "what is left of this key's limit"
    assert error["message"] == (
        f"This request may cost {required} micro-credits, more than {limit}: {available}. "
        f"Affordable output tokens: {affordable}."
    )
    assert error["metadata"] == {
        "limit_source": source,
        "required": required,
        "available": available,
        "affordable_output_tokens": affordable,
    }


@contextmanager
def in_flight(
    server: Server, upstream: SandboxServer, tenant: Tenant, directive: str = "first_ms=400", **fields: Any
) -> Iterator[None]:
    """While the body runs, a call of the tenant is at the provider."""
    before = len(upstream.calls)
    with open_call(server, tenant, directive, **fields) as connection:
        upstream.wait_until(lambda calls: len(calls) > before)
        yield
        connection.recv(1 << 16)
    wait_closed(tenant)


# --- The books --------------------------------------------------------------------------------------


def wallet(tenant: Tenant) -> tuple[int, int]:
    """What is there, and what of it is held."""
    return Wallet.objects.values_list("posted", "held").get(pk=tenant.organization_id)


def holds(tenant: Tenant) -> list[Hold]:
    """Oldest first."""
    return list(Hold.objects.filter(wallet_id=tenant.organization_id).order_by("created_at"))


def usage_of(tenant: Tenant) -> Usage:
    """Of the tenant's only call."""
    return Usage.objects.get(wallet_id=tenant.organization_id)
