"""Provider secrets at rest: sealed with a key derived from SECRET_KEY, bound to the origin they were entered for.

A sealed secret opens only for that origin. Whoever changes a base URL, by the admin or by raw SQL,
gets a provider without a secret, never a secret sent to another host.
"""

from urllib.parse import urlsplit

import msgspec

from common import sealing

PURPOSE = "provider secret"
DEFAULT_PORTS = {"https": 443, "http": 80}


class SecretUnreadable(Exception):
    """The sealed text does not open: another SECRET_KEY sealed it, or it was sealed for another origin."""


class SealedSecret(msgspec.Struct, frozen=True):
    origin: str
    secret: str


def origin(base_url: str) -> str:
    """Scheme, host and port, spelled one way: `https://API.example.com/v1` → `https://api.example.com:443`."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 0)}"


def seal(secret: str, base_url: str) -> str:
    """The secret as it is stored, usable with this base URL's origin only."""
    return sealing.seal(msgspec.json.encode(SealedSecret(origin(base_url), secret)), PURPOSE)


def unseal(sealed: str, base_url: str) -> str:
    """The secret again; raises SecretUnreadable for another origin or under another SECRET_KEY."""
    try:
        opened = msgspec.json.decode(sealing.unseal(sealed, PURPOSE), type=SealedSecret)
    except (sealing.Unreadable, msgspec.DecodeError) as error:
        raise SecretUnreadable("the stored secret cannot be decrypted with SECRET_KEY or its fallbacks") from error
    if opened.origin != origin(base_url):
        raise SecretUnreadable(f"the stored secret was saved for {opened.origin}, not for {origin(base_url)}")
    return opened.secret
