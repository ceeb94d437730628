"""Provider secrets at rest: sealed with a key derived from SECRET_KEY, bound to the origin they were entered for.

A sealed secret opens only for that origin. Whoever changes a base URL, by the admin or by raw SQL,
gets a provider without a secret, never a secret sent to another host.
"""

from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

DEFAULT_PORTS = {"https": 443, "http": 80}


class SecretUnreadable(Exception):
    """The sealed text does not open: another SECRET_KEY sealed it, or it was sealed for another origin."""


class Sealed(msgspec.Struct, frozen=True):
    origin: str
    secret: str


def origin(base_url: str) -> str:
    """Scheme, host and port, spelled one way: `https://API.example.com/v1` → `https://api.example.com:443`."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 0)}"


def seal(secret: str, base_url: str) -> str:
    """The secret as it is stored, usable with this base URL's origin only."""
    return _fernet().encrypt(msgspec.json.encode(Sealed(origin(base_url), secret))).decode()


def unseal(sealed: str, base_url: str) -> str:
    """The secret again; raises SecretUnreadable for another origin or under another SECRET_KEY."""
    try:
        opened = msgspec.json.decode(_fernet().decrypt(sealed.encode()), type=Sealed)
    except (InvalidToken, msgspec.DecodeError) as error:
        raise SecretUnreadable("the stored secret cannot be decrypted with SECRET_KEY or its fallbacks") from error
    if opened.origin != origin(base_url):
        raise SecretUnreadable(f"the stored secret was saved for {opened.origin}, not for {origin(base_url)}")
    return opened.secret


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(_key(text)) for text in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret_key: str) -> bytes:
    derived = HKDF(SHA256(), length=32, salt=None, info=b"quantized provider secret").derive(secret_key.encode())
    return urlsafe_b64encode(derived)
