"""The one place that connects where a tenant says: which URLs and addresses it refuses, and what it survives."""

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from billing.notices import webhook_http
from billing.notices.webhook_http import Failed, Refused, post
from tests.kit import webhook_receiver
from tests.kit.webhook_receiver import Receiver, receiving, status


@pytest.fixture
def private(settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture
def receiver(private: None) -> Iterator[Receiver]:
    with receiving() as server:
        yield server


class Names:
    """Stands in for the resolver, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *args: object, **named: object):
        if host in self.addresses:  # a literal, asked for by create_connection
            return [(family_of(host), socket.SOCK_STREAM, 6, "", (host, port))]
        self.asked.append(host)
        return [(family_of(a), socket.SOCK_STREAM, 6, "", (a, port)) for a in self.addresses]


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def refuse_connections(*args: object, **named: object) -> None:
    raise AssertionError("connected")


# --- URLs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.com/", "must begin with https://"),
        ("ftp://hooks.example.com/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("//hooks.example.com", "must begin with https://"),
        ("", "must begin with https://"),
        ("https://", "must have a host"),
        ("https://user:pass@hooks.example.com/", "must have a host, and neither user"),
        ("https://@hooks.example.com/", "must have a host, and neither user"),
        ("https://hooks.example.com/#there", "nor fragment"),
        ("https://hooks.example.com:25/", "must have port 443, or one from 1024 up"),
        ("https://hooks.example.com:80/", "must have port 443, or one from 1024 up"),
        ("https://hooks.example.com:99999/", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://hooks.example.com/a b", "printable ASCII"),
        ("https://hooks.example.com/\r\nx: y", "printable ASCII"),
        ("https://hooks.example.com\\@evil.example", "printable ASCII"),
        ("https://bücher.example/", "printable ASCII"),
        ("https://hooks.example.com/" + "x" * 2_000, "at most 2000"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::ffff:127.0.0.1]/", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
    ],
)
def test_urls_that_are_refused(url: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        webhook_http.target_of(url)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://hooks.example.com", ("hooks.example.com", 443, "/")),
        ("https://HOOKS.example.com:8443/a/b?c=d", ("hooks.example.com", 8443, "/a/b?c=d")),
        ("https://93.184.215.14/x", ("93.184.215.14", 443, "/x")),
        ("https://[2606:4700::1111]:1024/", ("2606:4700::1111", 1024, "/")),
    ],
)
def test_urls_that_may_be_called(url: str, parts: tuple[str, int, str]) -> None:
    target = webhook_http.target_of(url)
    assert (target.host, target.port, target.path) == parts


# --- Addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",  # CGNAT
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.5",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::808:808",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::1",  # 6to4 of 127.0.0.1
        "3fff::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "fe80::1%eth0",
    ],
)
def test_addresses_that_are_not_public(monkeypatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(address))
    monkeypatch.setattr(socket, "create_connection", refuse_connections)
    with pytest.raises(Refused, match="not public"):
        post("https://hooks.example.com/", b"{}", {})


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1"])
def test_addresses_that_are_public(monkeypatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(address))
    assert webhook_http.resolve(webhook_http.target_of("https://hooks.example.com/")) == [address]


@pytest.mark.parametrize("others", [("10.0.0.1",), ("::1",), ("2606:4700::1111", "169.254.169.254")])
def test_one_private_address_among_public_ones_is_enough(monkeypatch, others: tuple[str, ...]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names("8.8.8.8", *others))
    monkeypatch.setattr(socket, "create_connection", refuse_connections)
    with pytest.raises(Refused, match="not public"):
        post("https://hooks.example.com/", b"{}", {})


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost"])
def test_other_spellings_of_this_machine(monkeypatch, host: str) -> None:
    """The real resolver: whatever it makes of them is looked at."""
    monkeypatch.setattr(socket, "create_connection", refuse_connections)
    with pytest.raises((Refused, Failed), match=r"not public|cannot be resolved"):
        post(f"https://{host}/", b"{}", {})


def test_a_name_that_does_not_exist(monkeypatch) -> None:
    def unknown(*args: object, **named: object) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Failed, match="cannot be resolved"):
        post("https://hooks.example.com/", b"{}", {})


def test_a_name_that_is_too_long_for_dns() -> None:
    with pytest.raises(Failed, match="cannot be resolved"):
        post(f"https://{'a' * 70}.example/", b"{}", {})


# --- The exchange -----------------------------------------------------------------------------------


def test_what_is_sent(receiver: Receiver) -> None:
    assert post(receiver.url(), b'{"a":1}', {"content-type": "application/json", "x-y": "z"}) == 204
    [(path, headers, body)] = receiver.got
    assert (path, body) == ("/hooks?tenant=1", b'{"a":1}')
    assert headers == {
        "host": f"127.0.0.1:{receiver.server_address[1]}",
        "accept-encoding": "identity",
        "content-length": "7",
        "content-type": "application/json",
        "x-y": "z",
    }


def test_the_name_is_resolved_once_and_that_address_called(monkeypatch, receiver: Receiver) -> None:
    names = Names("127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", names)
    port = receiver.server_address[1]
    assert post(f"http://hooks.example.com:{port}/x", b"{}", {}) == 204
    assert names.asked == ["hooks.example.com"]
    assert receiver.got[0][1]["host"] == f"hooks.example.com:{port}"


def test_proxies_of_the_environment_are_not_asked(monkeypatch, receiver: Receiver) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert post(receiver.url(), b"{}", {}) == 204


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, code: int) -> None:
    receiver.answers = [status(code, location=receiver.url("/secret"))]
    assert post(receiver.url(), b"{}", {}) == code
    assert [path for path, *_ in receiver.got] == ["/hooks?tenant=1"]


@pytest.mark.parametrize("answer", [webhook_receiver.never, webhook_receiver.dripping_head])
def test_one_time_out_bounds_all_of_it(monkeypatch, receiver: Receiver, answer: webhook_receiver.Answer) -> None:
    monkeypatch.setattr(webhook_http, "TOTAL_TIMEOUT_S", 0.4)
    receiver.answers = [answer]
    started = time.monotonic()
    with pytest.raises(Failed, match="no answer"):
        post(receiver.url(), b"{}", {})
    assert time.monotonic() - started < 1.4, "the receiver takes longer than that"


def test_a_huge_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.answers = [webhook_receiver.endless]
    assert post(receiver.url(), b"{}", {}) == 200
    assert receiver.sent_bytes < 4_000 * 16_384


def test_half_an_answer(receiver: Receiver) -> None:
    receiver.answers = [webhook_receiver.cut]
    with pytest.raises(Failed, match="no answer"):
        post(receiver.url(), b"{}", {})


def test_nobody_listens(private: None) -> None:
    with receiving() as gone:
        url = gone.url()
    with pytest.raises(Failed, match="no connection"):
        post(url, b"{}", {})


def test_the_next_address_is_tried(monkeypatch, receiver: Receiver) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names("127.0.0.2", "127.0.0.1"))
    assert post(f"http://hooks.example.com:{receiver.server_address[1]}/", b"{}", {}) == 204


# --- TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """For hooks.example.com, signed by itself; the key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def names_asked_for() -> list[str | None]:
    return []


@pytest.fixture
def tls_receiver(private: None, monkeypatch, certificate: Path, names_asked_for) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda connection, name, context: names_asked_for.append(name)
    monkeypatch.setattr(socket, "getaddrinfo", Names("127.0.0.1"))
    with receiving(context) as server:
        yield server


def test_the_certificate_is_checked_for_the_name(monkeypatch, certificate, tls_receiver, names_asked_for) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(webhook_http, "tls", lambda: trusting)
    port = tls_receiver.server_address[1]
    assert post(f"https://hooks.example.com:{port}/", b"{}", {}) == 204
    with pytest.raises(Failed, match="certificate is not valid for its name"):
        post(f"https://other.example.com:{port}/", b"{}", {})
    assert names_asked_for == ["hooks.example.com", "other.example.com"]
    assert len(tls_receiver.got) == 1


def test_a_certificate_that_nobody_vouches_for(tls_receiver: Receiver) -> None:
    with pytest.raises(Failed, match="certificate is not valid"):
        post(f"https://hooks.example.com:{tls_receiver.server_address[1]}/", b"{}", {})
    assert tls_receiver.got == []
