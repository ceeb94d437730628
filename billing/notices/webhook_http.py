"""The one place that connects to an address a tenant chose (docs/adr/0019).

https on port 443 or from 1024 up, no redirects, no proxies. We resolve the host; if one of its addresses is not a
public one, nothing is sent; the connection goes to an address that was checked, and nobody resolves the name a second
time. One time-out bounds all of it, the answer is read up to a bound, and only its status leaves this file.
WEBHOOK_ALLOW_PRIVATE lifts the rules about scheme, port and address, for development.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

import certifi
import msgspec
from django.conf import settings

URL_CHARACTERS_MAX = 2_000
CONNECT_TIMEOUT_S = 4.0
TOTAL_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
ADDRESSES_TRIED_MAX = 3
PORT_MIN = 1024  # below it only 443: no mail, name or file server is spoken to

# Networks that lead to other addresses, or are nobody's on the internet, whatever ipaddress thinks of them.
REFUSED_V4 = tuple(map(ip_network, ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "240.0.0.0/4")))
GLOBAL_V6 = ip_network("2000::/3")
REFUSED_V6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))  # Teredo, 6to4, docs


class Refused(ValueError):
    """This URL or address is not one we connect to; says why."""


class Failed(Exception):
    """No whole answer came; says how it went wrong, and nothing that the other side said."""


class Target(msgspec.Struct, frozen=True):
    scheme: str
    host: str
    port: int
    path: str  # with the query


def target_of(url: str) -> Target:
    """The parts of a URL that may be called; raises Refused. Whether its host may be is known when it is resolved."""
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Refused(f"must be a URL of at most {URL_CHARACTERS_MAX} printable ASCII characters")
    parts, port = split(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.WEBHOOK_ALLOW_PRIVATE):
        raise Refused("must begin with https://")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise Refused("must have a host, and neither user, password nor fragment")
    port = port or (443 if parts.scheme == "https" else 80)
    if port != 443 and port < PORT_MIN and not settings.WEBHOOK_ALLOW_PRIVATE:
        raise Refused(f"must have port 443, or one from {PORT_MIN} up")
    refuse_literal(parts.hostname)
    return Target(parts.scheme, parts.hostname, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise Refused("is not a URL") from None


def refuse_literal(host: str) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        return  # a name
    check_address(str(address))


def check_address(text: str) -> None:
    """Raises Refused unless this is a public address of one host."""
    if settings.WEBHOOK_ALLOW_PRIVATE:
        return
    if not is_public(ip_address(text)):
        raise Refused("leads to an address that is not public")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in REFUSED_V4)
    # Outside of 2000::/3 lie mapped and NAT64 addresses, which are IPv4 ones in disguise.
    return address in GLOBAL_V6 and not any(address in network for network in REFUSED_V6)


def resolve(target: Target) -> list[str]:
    """The host's addresses; raises Refused if a single one of them is not public."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Failed("the host name cannot be resolved") from None
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    for address in addresses:
        check_address(address)
    return addresses


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send it once; the answer's status, whatever it is."""
    target = target_of(url)
    addresses = resolve(target)
    try:
        return exchange(target, addresses, body, headers)
    except ssl.SSLCertVerificationError:
        raise Failed("the server's certificate is not valid for its name") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failed(f"no answer: {type(error).__name__}") from None


def exchange(target: Target, addresses: list[str], body: bytes, headers: Mapping[str, str]) -> int:
    with cut_off_in_time(connect(addresses, target.port)) as connected:
        connection = Pinned(target, connected)
        try:
            connection.request("POST", target.path, body, dict(headers))
            with connection.getresponse() as answer:
                # Hung up on in the middle of their answer, some servers cry; what it says is nobody's business.
                with suppress(OSError, http.client.HTTPException):
                    answer.read(ANSWER_BYTES_MAX)
                return answer.status
        finally:
            connection.close()


def connect(addresses: list[str], port: int) -> socket.socket:
    for address in addresses[:ADDRESSES_TRIED_MAX]:
        with suppress(OSError):
            return socket.create_connection((address, port), CONNECT_TIMEOUT_S)
    raise Failed("no connection")


@contextmanager
def cut_off_in_time(connected: socket.socket) -> Iterator[socket.socket]:
    """A time-out of each read would let a server that sends a byte now and then keep us for ever."""
    # A duplicate: wrapping a socket in TLS detaches the one that was given.
    handle = connected.dup()
    timer = threading.Timer(TOTAL_TIMEOUT_S, shut, [handle])
    timer.daemon = True
    timer.start()
    try:
        connected.settimeout(TOTAL_TIMEOUT_S)
        yield connected
    finally:
        timer.cancel()
        timer.join()
        handle.close()
        connected.close()


def shut(connected: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connected.shutdown(socket.SHUT_RDWR)


class Pinned(http.client.HTTPConnection):
    """Speaks over a connection that is there, whatever the name resolves to by now."""

    def __init__(self, target: Target, connected: socket.socket) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.scheme == "https" else 80  # what the Host header leaves out
        self._target = target
        self._connected = connected

    def connect(self) -> None:
        if self._target.scheme == "https":
            self.sock = tls().wrap_socket(self._connected, server_hostname=self._target.host)
        else:
            self.sock = self._connected


@cache
def tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())
