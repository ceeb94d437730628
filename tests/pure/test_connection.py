"""The client's side of HTTP/1.1, byte by byte: what is an answer, where it ends, and when it is given up."""

import asyncio

import pytest

from completions.upstream.connection import BUFFER_BYTES_MAX, HEAD_BYTES_MAX, Connection, UpstreamError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Generation-Id: gen-1\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
MEASURED = HEAD + b"content-length: 11\r\n\r\nhello world"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nx-sum: 1\r\n\r\n"
UNMEASURED = HEAD + b"\r\nhello world"
HEADERS = [(b"content-type", b"application/json"), (b"x-generation-id", b"gen-1")]
READ_TIMEOUT_S = 0.05


class Wire(asyncio.Transport):
    """The transport as a list of what the connection did to it."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[str] = []
        self.unsent_bytes = 0

    def writelines(self, parts) -> None:
        self.did.append(b"".join(parts).decode())

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")

    def is_closing(self) -> bool:
        return "abort" in self.did

    def abort(self) -> None:
        self.did.append("abort")


def asked(read_timeout_s: float = 60) -> tuple[Connection, Wire]:
    connection, wire = Connection(read_timeout_s), Wire()
    connection.connection_made(wire)
    connection.send(b"POST / HTTP/1.1\r\n\r\n", b"{}")
    return connection, wire


async def whole(connection: Connection) -> bytes:
    await connection.head()
    parts = []
    while (part := await connection.read()) is not None:
        parts.append(part)
    return b"".join(parts)


def heard(pieces: list[bytes], *, ends: bool = False) -> tuple[int, list[tuple[bytes, bytes]], bytes, bool]:
    """Status, headers and body of an answer that comes in these pieces, read as they come; and whether it may go on."""

    async def listen():
        connection, _ = asked()
        reading = asyncio.ensure_future(whole(connection))
        for piece in pieces:
            await asyncio.sleep(0)
            connection.data_received(piece)
        if ends:
            connection.eof_received()
            connection.connection_lost(None)
        body = await reading
        return connection.status, connection.headers, body, connection.is_reusable

    return asyncio.run(listen())


def failed(*pieces: bytes, lost: Exception | None = None, ends: bool = True) -> str:
    """The kind of error that reading ends with."""

    async def listen():
        connection, wire = asked()
        for piece in pieces:
            connection.data_received(piece)
        if ends:
            connection.connection_lost(lost)
        with pytest.raises(UpstreamError) as error:
            await whole(connection)
        assert ends or wire.did[-1] == "abort"
        assert not connection.is_reusable
        return error.value.kind

    return asyncio.run(listen())


@pytest.mark.parametrize("answer", [MEASURED, CHUNKED], ids=["measured", "chunked"])
def test_an_answer_is_the_same_wherever_it_is_cut(answer):
    framing = [(b"content-length", b"11")] if answer is MEASURED else [(b"transfer-encoding", b"chunked")]
    expected = (200, HEADERS + framing, b"hello world", True)
    for cut in range(len(answer) + 1):
        assert heard([answer[:cut], answer[cut:]]) == expected, cut
    assert heard([answer[n : n + 1] for n in range(len(answer))]) == expected


def test_an_answer_without_a_length_ends_with_its_connection():
    for cut in range(len(UNMEASURED) + 1):
        assert heard([UNMEASURED[:cut], UNMEASURED[cut:]], ends=True) == (200, HEADERS, b"hello world", False), cut


def test_hints_before_the_answer_are_not_the_answer():
    for cut in range(len(HINTS) + 1):
        assert heard([HINTS[:cut], HINTS[cut:] + MEASURED])[2:] == (b"hello world", True), cut


def test_an_answer_without_a_body_is_complete():
    assert heard([b"HTTP/1.1 204 No Content\r\n\r\n"]) == (204, [], b"", True)
    assert heard([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])[2:] == (b"", True)


def test_a_connection_that_is_to_be_closed_is_not_used_again():
    assert heard([HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok"])[2:] == (b"ok", False)
    assert heard([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"])[2:] == (b"ok", False)
    assert heard([MEASURED, b"HTTP/1.1 200 OK\r\n"])[2:] == (b"hello world", False)  # an answer nobody asked for
    assert heard([MEASURED], ends=True)[2:] == (b"hello world", False)


def test_an_answer_that_breaks_off_is_broken_wherever_it_does():
    for answer in (MEASURED, CHUNKED):
        for cut in range(len(answer)):
            assert failed(answer[:cut]) == "broken", cut
    for cut in range(UNMEASURED.index(b"\r\n\r\n") + 4):
        assert failed(UNMEASURED[:cut]) == "broken", cut
    assert failed(UNMEASURED, lost=ConnectionResetError()) == "broken"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_broken(nonsense):
    assert failed(nonsense, ends=False) == "broken"


def test_what_came_before_the_end_can_be_read():
    async def listen():
        connection, _ = asked()
        connection.data_received(HEAD + b"content-length: 11\r\n\r\nhello")
        connection.connection_lost(ConnectionResetError())
        await connection.head()
        assert await connection.read() == b"hello"
        with pytest.raises(UpstreamError):
            await connection.read()

    asyncio.run(listen())


def test_a_head_without_end_is_refused():
    flood = b"x-flood: " + b"a" * 1000 + b"\r\n"
    count = HEAD_BYTES_MAX // len(flood) + 1
    assert failed(HEAD, *[flood] * count, ends=False) == "too_large"
    assert failed(HEAD + b"x: ", *[b"a" * 1000] * 66, ends=False) == "too_large"
    assert failed(*[HINTS] * (HEAD_BYTES_MAX // len(HINTS) + 1), ends=False) == "too_large"
    trailers = HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
    assert failed(trailers, *[flood] * count, ends=False) == "too_large"
    assert len(heard([HEAD, *[flood] * (count - 2), b"content-length: 2\r\n\r\nok"])[1]) == 2 + count - 2 + 1


def test_nothing_is_read_that_nobody_takes():
    async def listen():
        connection, wire = asked()
        connection.data_received(HEAD + b"content-length: 1000000\r\n\r\n" + b"a" * BUFFER_BYTES_MAX)
        assert "pause" not in wire.did
        connection.data_received(b"b")
        connection.data_received(b"c")
        assert wire.did[1:] == ["pause"]
        assert len(await connection.read()) == BUFFER_BYTES_MAX + 2
        assert wire.did[1:] == ["pause", "resume"]

    asyncio.run(listen())


def test_silence_is_a_timeout_and_so_is_silence_after_the_head():
    async def listen(*came: bytes) -> str:
        connection, wire = asked(READ_TIMEOUT_S)
        for data in came:
            connection.data_received(data)
        with pytest.raises(UpstreamError) as error:
            await whole(connection)
        assert wire.did[-1] == "abort"
        return error.value.kind

    assert asyncio.run(listen()) == "timeout"
    assert asyncio.run(listen(HEAD)) == "timeout"
    assert asyncio.run(listen(HEAD + b"content-length: 11\r\n\r\nhello")) == "timeout"


def test_an_answer_that_drips_or_waits_for_its_reader_is_not_silent():
    async def listen():
        connection, wire = asked(READ_TIMEOUT_S)
        reading = asyncio.ensure_future(whole(connection))
        for n in range(len(MEASURED) - 10):
            connection.data_received(MEASURED[n : n + 1])
            await asyncio.sleep(READ_TIMEOUT_S / 25)
        connection.data_received(MEASURED[-10:])
        assert await reading == b"hello world"
        connection.send(b"", b"")
        connection.data_received(HEAD + b"content-length: 11\r\n\r\nhello")
        await connection.head()
        await asyncio.sleep(READ_TIMEOUT_S * 2)
        assert await connection.read() == b"hello"
        assert "abort" not in wire.did

    asyncio.run(listen())


def test_a_request_that_is_not_sent_whole_keeps_its_connection_from_another():
    async def listen():
        connection, wire = asked()
        connection.data_received(MEASURED)
        assert await whole(connection) == b"hello world"
        assert connection.is_reusable
        wire.unsent_bytes = 1
        assert not connection.is_reusable

    asyncio.run(listen())


def test_a_resting_connection_ends_when_it_is_old_or_spoken_to_or_left():
    async def rest(life_s: float, *, data: bytes = b"", lost: bool = False) -> tuple[list[str], list[Connection]]:
        connection, wire = asked()
        connection.data_received(MEASURED)
        await whole(connection)
        ended: list[Connection] = []
        connection.rest(life_s, ended.append)
        if data:
            connection.data_received(data)
        if lost:
            connection.connection_lost(None)
        await asyncio.sleep(0.02)
        assert connection.take() is not ("abort" in wire.did or lost)
        if "abort" in wire.did or lost:
            with pytest.raises(UpstreamError):
                connection.send(b"", b"")
        return wire.did[1:], [connection] == ended

    assert asyncio.run(rest(60)) == ([], False)
    assert asyncio.run(rest(0.001)) == (["abort"], False)  # the event loop tells of the loss later
    assert asyncio.run(rest(60, data=b"HTTP/1.1 408 Request Timeout\r\n\r\n")) == (["abort"], False)
    assert asyncio.run(rest(60, lost=True)) == ([], True)
