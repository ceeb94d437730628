"""The client that talks to providers, over real sockets: which connection a request goes on, and when one ends."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from completions.upstream.client import Upstream, origin_of, public_authorities
from completions.upstream.connection import UpstreamError
from completions.upstream.request import UpstreamRequest
from quantized.devstack.processes import free_port

REQUEST = UpstreamRequest("/chat", (("authorization", "Bearer sk"), ("content-type", "application/json")), b'{"a":1}')
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection as the provider sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number, self.reader, self.writer = number, reader, writer
        self.left = asyncio.get_running_loop().create_future()  # the client has gone

    async def head(self) -> None:
        self.last_head = await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> None:
        await self.head()
        await self.reader.readexactly(len(REQUEST.body))

    def reset(self) -> None:
        self.writer.transport.abort()


class Provider:
    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.peers: list[Peer] = []
        self.requests = 0

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        try:
            await self.talk(peer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            peer.left.set_result(None)
            writer.close()


@asynccontextmanager
async def provided(talk: Talk, tls: ssl.SSLContext | None = None, **settings):
    """A provider, its base URL and a client."""
    provider = Provider(talk)
    server = await asyncio.start_server(provider.met, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    upstream = Upstream(**{"connect_timeout_s": 5, "read_timeout_s": 5, **settings})
    try:
        yield provider, f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1", upstream
    finally:
        await upstream.close()
        server.close()


async def asked(upstream: Upstream, base_url: str) -> bytes:
    async with upstream.open(base_url, REQUEST) as answer:
        assert answer.status == 200
        return await answer.body()


async def answering(peer: Peer) -> None:
    while True:
        await peer.request()
        peer.writer.write(ANSWER)


def run(story: Callable[[], Awaitable[None]]) -> None:
    """On the event loop that the server runs on."""

    async def bounded():
        async with asyncio.timeout(20):
            await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@contextmanager
def mute_port():
    """Connections come through to it, and nobody ever says a word on them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_request_goes_out_as_it_is_and_says_who_asks():
    async def story():
        async with provided(answering) as (provider, base_url, upstream):
            assert await asked(upstream, base_url) == b"ok"
            authority = base_url.removeprefix("http://").removesuffix("/v1")
            assert provider.peers[0].last_head.decode().split("\r\n") == [
                "POST /v1/chat HTTP/1.1",
                f"host: {authority}",
                "user-agent: quantized/1",
                "accept-encoding: identity",
                "authorization: Bearer sk",
                "content-type: application/json",
                "content-length: 7",
                "",
                "",
            ]

    run(story)


def test_a_header_of_two_lines_is_never_sent():
    async def story():
        async with provided(answering) as (provider, base_url, upstream):
            for value in ("Bearer sk\r\nx-evil: 1", "Bearer\nsk", "Bearer\rsk"):
                with pytest.raises(ValueError, match="more than one line"):
                    async with upstream.open(base_url, UpstreamRequest("/chat", (("authorization", value),), b"")):
                        pass
            assert provider.peers == []

    run(story)


def test_calls_one_after_another_share_a_connection_and_calls_at_once_do_not():
    async def story():
        async with provided(answering) as (provider, base_url, upstream):
            for _ in range(3):
                await asked(upstream, base_url)
            assert len(provider.peers) == 1
            await asyncio.gather(*(asked(upstream, base_url) for _ in range(3)))
            assert len(provider.peers) == 3
            await asyncio.gather(*(asked(upstream, base_url) for _ in range(3)))
            assert len(provider.peers) == 3
            await upstream.close()
            await asyncio.gather(*(peer.left for peer in provider.peers))

    run(story)


def test_a_connection_whose_answer_was_not_read_is_closed():
    async def story():
        async def halfway(peer: Peer) -> None:
            await peer.request()
            peer.writer.write(ANSWER[:-1])

        async with provided(halfway) as (provider, base_url, upstream):
            async with upstream.open(base_url, REQUEST) as answer:
                assert answer.status == 200
            await provider.peers[0].left

    run(story)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", ANSWER[:-1]], ids=["nothing", "half a head", "a head"])
def test_cancelling_closes_the_connection_at_once_whatever_was_said(said):
    async def story():
        has_asked = asyncio.Event()

        async def slow(peer: Peer) -> None:
            await peer.request()
            peer.writer.write(said)
            has_asked.set()

        async with provided(slow) as (provider, base_url, upstream):
            call = asyncio.ensure_future(asked(upstream, base_url))
            await has_asked.wait()
            await asyncio.sleep(0.02)
            call.cancel()
            async with asyncio.timeout(1):
                await provider.peers[0].left
            assert call.cancelled()

    run(story)


def test_cancelling_ends_a_handshake():
    async def story():
        with mute_port() as port:
            upstream = Upstream(connect_timeout_s=5, read_timeout_s=5)
            call = asyncio.ensure_future(asked(upstream, f"https://127.0.0.1:{port}"))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    run(story)


def test_a_resting_connection_that_the_provider_closed_is_not_used():
    async def story():
        async def once(peer: Peer) -> None:
            await peer.request()
            peer.writer.write(ANSWER)
            peer.writer.close()

        async with provided(once) as (provider, base_url, upstream):
            assert await asked(upstream, base_url) == b"ok"
            await provider.peers[0].left
            await asyncio.sleep(0.02)
            assert await asked(upstream, base_url) == b"ok"
            assert len(provider.peers) == 2

    run(story)


def test_a_request_that_met_the_end_of_a_resting_connection_is_sent_once_more():
    async def story():
        async def hangs_up_at_the_second(peer: Peer) -> None:
            await peer.request()
            peer.writer.write(ANSWER)
            await peer.head()
            peer.reset()

        async with provided(hangs_up_at_the_second) as (provider, base_url, upstream):
            assert await asked(upstream, base_url) == b"ok"
            assert await asked(upstream, base_url) == b"ok"
            assert len(provider.peers) == 2

    run(story)


@pytest.mark.parametrize(
    ("has_rested", "said", "wait_s"),
    [(False, b"", 0), (True, b"H", 0.02), (True, b"", 1.1)],
    ids=["on a fresh connection", "after a byte", "after a while"],
)
def test_a_request_that_may_have_been_worked_on_is_not_sent_again(has_rested, said, wait_s):
    async def story():
        async def hangs_up(peer: Peer) -> None:
            if has_rested:
                await peer.request()
                peer.writer.write(ANSWER)
            await peer.request()
            peer.writer.write(said)
            await asyncio.sleep(wait_s)
            peer.reset()

        async with provided(hangs_up) as (provider, base_url, upstream):
            if has_rested:
                assert await asked(upstream, base_url) == b"ok"
            with pytest.raises(UpstreamError) as error:
                await asked(upstream, base_url)
            assert (error.value.kind, len(provider.peers)) == ("broken", 1)

    run(story)


def test_nobody_there_and_nobody_answering_are_not_reached():
    async def story():
        upstream = Upstream(connect_timeout_s=0.3, read_timeout_s=5)
        with mute_port() as port:
            nowhere = (f"http://127.0.0.1:{free_port()}", "http://nobody.invalid", "http://..")
            for base_url in (*nowhere, f"https://127.0.0.1:{port}"):
                with pytest.raises(UpstreamError) as error:
                    await asked(upstream, base_url)
                assert error.value.kind == "connect", base_url

    run(story)


def test_an_address_that_answers_is_found_behind_one_that_does_not():
    async def story():
        async with provided(answering) as (_, base_url, upstream):
            port = int(base_url.split(":")[2].removesuffix("/v1"))
            origin = origin_of(f"http://two.example:{port}")
            connection = await upstream._first_of(["127.0.0.2", "127.0.0.1"], origin)  # nobody listens on the first
            assert connection.take()
            connection.abort()

    run(story)


def certified(name: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS, and a client's that trusts it and nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return server_side(pem, secret), ssl.create_default_context(cadata=pem.decode())


def server_side(pem: bytes, secret: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def test_tls_is_spoken_to_a_provider_that_can_prove_its_name():
    async def story():
        tls, authorities = certified()
        async with provided(answering, tls, authorities=authorities) as (provider, base_url, upstream):
            assert await asked(upstream, base_url) == b"ok"
            assert await asked(upstream, base_url) == b"ok"
            assert len(provider.peers) == 1

    run(story)


def test_a_provider_that_cannot_prove_its_name_hears_nothing():
    async def story():
        stranger, _ = certified()
        other_name, trusted = certified("127.0.0.9")
        for tls, authorities in ((stranger, public_authorities()), (other_name, trusted)):
            async with provided(answering, tls, authorities=authorities) as (provider, base_url, upstream):
                with pytest.raises(UpstreamError) as error:
                    await asked(upstream, base_url)
                assert error.value.kind == "connect"
                assert provider.peers == []

    run(story)


def test_cancelling_ends_a_tls_connection_at_once():
    async def story():
        tls, authorities = certified()
        has_asked = asyncio.Event()

        async def mute(peer: Peer) -> None:
            await peer.request()
            has_asked.set()

        async with provided(mute, tls, authorities=authorities) as (provider, base_url, upstream):
            call = asyncio.ensure_future(asked(upstream, base_url))
            await has_asked.wait()
            call.cancel()
            async with asyncio.timeout(1):
                await provider.peers[0].left

    run(story)
