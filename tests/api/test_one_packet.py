"""An answer's head goes out with the first of its body: one write to the socket, one packet for the client to read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from quantized.protocol import Protocol
from tests.kit.transport import Client

Send = Callable[[dict[str, Any]], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
UNSIZED = {"type": "http.response.start", "status": 200, "headers": []}


def answered(app: Callable[[Send], Awaitable[None]], request: bytes = b"GET / HTTP/1.1\r\n\r\n") -> Client:
    async def asgi(_scope: Any, receive: Any, send: Send) -> None:
        await receive()
        await app(send)

    async def run() -> Client:
        config = uvicorn.Config(asgi, access_log=False, log_config=None)
        config.load()
        client = Client()
        protocol = Protocol(config=config, server_state=ServerState(), app_state={})
        protocol.connection_made(client)
        protocol.data_received(request)
        await asyncio.wait(protocol.tasks)
        protocol.connection_lost(None)
        return client

    return asyncio.run(run())


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def whole(send: Send) -> None:
    await send(START)
    await send(body(b"hello"))


def test_a_whole_answer_is_one_write() -> None:
    (only,) = answered(whole).writes
    assert only.startswith(b"HTTP/1.1 200 OK\r\n")
    assert only.endswith(b"\r\n\r\nhello")


def test_an_answer_to_head_is_its_head() -> None:
    (only,) = answered(whole, b"HEAD / HTTP/1.1\r\n\r\n").writes
    assert only.endswith(b"content-length: 5\r\n\r\n")


def test_go_on_is_said_at_once() -> None:
    asked = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"

    async def app(send: Send) -> None:
        await whole(send)

    first, second = answered(app, asked + b"{}").writes
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second.endswith(b"\r\n\r\nhello")


def test_an_empty_part_sends_the_head_before_the_body() -> None:
    async def app(send: Send) -> None:
        await send(UNSIZED)
        await send(body(b"", more=True))
        await send(body(b"one", more=True))
        await send(body(b"two"))

    head, *parts = answered(app).writes
    assert head.endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert parts == [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


def test_an_answer_that_breaks_off_has_its_head_and_the_end_of_the_connection() -> None:
    async def app(send: Send) -> None:
        await send(START)
        raise ValueError("no body")

    client = answered(app)
    (only,) = client.writes
    assert only.endswith(b"content-length: 5\r\n\r\n")
    assert client.is_closed
