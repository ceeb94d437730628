"""The only HTTP client that talks to providers: a pool of connections (connection.py), and how to get one.

No redirects, no proxies from the environment, no cookies: a secret goes to the host it was saved
for and nowhere else. Whatever a provider sends is bounded in size and time. Leaving the `async with`
closes the connection unless the answer was read to its end; cancelling does so at once, before the
provider's head as well as after it.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import certifi

from completions.upstream.connection import Connection, UpstreamError
from completions.upstream.request import UpstreamRequest

USER_AGENT = "quantized/1"
ANSWER_BYTES_MAX = 128 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
IDLE_CONNECTIONS_MAX = 256  # of one origin
IDLE_LIFE_S = 60.0
# A provider that closes a resting connection at the moment we use it says so within a round trip.
STALE_WITHIN_S = 1.0


class Origin(NamedTuple):
    """Where a base URL leads. `head` is what every request to it has in common."""

    host: str
    port: int
    is_tls: bool
    path: str
    head: str


class UpstreamAnswer:
    """One provider's answer: status and headers now, the body when asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = connection.status

    def header(self, name: str) -> str | None:
        wanted = name.encode()
        return next((value.decode("latin1") for key, value in self._connection.headers if key == wanted), None)

    @property
    def media_type(self) -> str:
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    async def chunks(self, bytes_max: int | None = None) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamError when it is larger than `bytes_max`; None: of any size."""
        size = 0
        while (chunk := await self._connection.read()) is not None:
            if bytes_max is not None:
                size += len(chunk)
                if size > bytes_max:
                    raise UpstreamError("too_large", f"the answer is larger than {bytes_max} bytes")
            yield chunk

    async def body(self) -> bytes:
        """The whole body, of at most ANSWER_BYTES_MAX bytes. Raises UpstreamError."""
        return b"".join([chunk async for chunk in self.chunks(ANSWER_BYTES_MAX)])

    async def error_body(self) -> bytes:
        """The first ERROR_BYTES_MAX bytes of an error's body, which may be an HTML page of any size. Raises
        UpstreamError."""
        parts, size = [], 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size >= ERROR_BYTES_MAX:
                break
        return b"".join(parts)[:ERROR_BYTES_MAX]


class Upstream:
    """A pool of connections, shared by every call of the process. `connect_timeout_s` covers name, TCP and TLS;
    `read_timeout_s` is how long a provider may send nothing. `authorities` is what TLS trusts; None: the public
    ones."""

    def __init__(
        self, *, connect_timeout_s: float, read_timeout_s: float, authorities: ssl.SSLContext | None = None
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._authorities = authorities or public_authorities()
        self._resting: dict[Origin, list[Connection]] = {}
        self._is_closed = False

    @asynccontextmanager
    async def open(self, base_url: str, request: UpstreamRequest) -> AsyncIterator[UpstreamAnswer]:
        """Send a request; yields once the headers are there. Raises UpstreamError."""
        origin = origin_of(base_url)
        connection = await self._asked(origin, head_of(origin, request), request.body)
        try:
            yield UpstreamAnswer(connection)
        finally:
            self._give_back(origin, connection)

    async def close(self) -> None:
        self._is_closed = True
        for connection in [connection for resting in self._resting.values() for connection in resting]:
            connection.abort()
        await asyncio.sleep(0)  # the loop closes the sockets

    # --- one request ------------------------------------------------------------------------

    async def _asked(self, origin: Origin, head: bytes, body: bytes) -> Connection:
        """A connection with the answer's head. A request is sent a second time only if its connection had
        rested and ended at once without a byte: the provider hung up before it saw the request. After any
        other end it may have been worked on, and paid for."""
        if (rested := self._rested(origin)) is not None:
            sent_s = asyncio.get_running_loop().time()
            try:
                return await self._exchange(rested, head, body)
            except UpstreamError as error:
                waited_s = asyncio.get_running_loop().time() - sent_s
                if error.kind != "broken" or rested.has_begun or waited_s > STALE_WITHIN_S:
                    raise
        return await self._exchange(await self._connect(origin), head, body)

    @staticmethod
    async def _exchange(connection: Connection, head: bytes, body: bytes) -> Connection:
        try:
            connection.send(head, body)
            await connection.head()
        except BaseException:
            connection.abort()
            raise
        return connection

    # --- the pool ---------------------------------------------------------------------------

    def _rested(self, origin: Origin) -> Connection | None:
        """The one that rested last; the others come of age and go."""
        resting = self._resting.get(origin)
        while resting:
            if (connection := resting.pop()).take():
                return connection
        return None

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        resting = self._resting.setdefault(origin, [])
        if self._is_closed or not connection.is_reusable or len(resting) >= IDLE_CONNECTIONS_MAX:
            connection.abort()
            return
        resting.append(connection)
        connection.rest(IDLE_LIFE_S, resting.remove)

    async def _connect(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._first_of(await self._addresses(origin), origin)
        except (OSError, UnicodeError) as error:  # OSError has time-outs and TLS; UnicodeError: no host name
            raise UpstreamError("connect", type(error).__name__) from error

    async def _addresses(self, origin: Origin) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _first_of(self, addresses: list[str], origin: Origin) -> Connection:
        """Each gets its share of the time: one that swallows everything must not use it up."""
        for address in addresses[:-1]:
            with suppress(OSError):
                async with asyncio.timeout(self._connect_timeout_s / len(addresses)):
                    return await self._connect_to(address, origin)
        return await self._connect_to(addresses[-1], origin)

    async def _connect_to(self, address: str, origin: Origin) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._read_timeout_s),
            address,
            origin.port,
            ssl=self._authorities if origin.is_tls else None,
            server_hostname=origin.host if origin.is_tls else None,
        )
        return connection


def public_authorities() -> ssl.SSLContext:
    """The machine's authorities, and certifi's for a container that has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@lru_cache(maxsize=1024)
def origin_of(base_url: str) -> Origin:
    parts = urlsplit(base_url)
    is_tls = parts.scheme == "https"
    host = parts.hostname or ""
    named = f"[{host}]" if ":" in host else host
    authority = f"{named}:{parts.port}" if parts.port else named
    head = f"host: {authority}\r\nuser-agent: {USER_AGENT}\r\naccept-encoding: identity\r\n"
    return Origin(host, parts.port or (443 if is_tls else 80), is_tls, parts.path, head)


def head_of(origin: Origin, request: UpstreamRequest) -> bytes:
    headers = "".join([f"{name}: {value}\r\n" for name, value in request.headers])
    if headers.count("\n") != len(request.headers) or headers.count("\r") != len(request.headers):
        raise ValueError("a header for a provider is more than one line: look at its secret")
    start = f"POST {origin.path}{request.path} HTTP/1.1\r\n{origin.head}"
    return f"{start}{headers}content-length: {len(request.body)}\r\n\r\n".encode("latin1")
