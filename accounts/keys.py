"""API keys as strings: mint, check, digest. Pure.

    sk-quantized-<30 random base62 characters><6 characters of checksum>

The checksum (CRC32 of the random part, as in GitHub's tokens) keeps no secret: it lets a typo, a cut-off paste
or a scanner's guess be refused without a query.
"""

import hmac
import re
import secrets
import string
import zlib

PREFIX = "sk-quantized-"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
BODY_CHARACTERS = 30  # log2(62) × 30 = 178 bits
CHECKSUM_CHARACTERS = 6  # 62^6 > 2^32
DISPLAY_CHARACTERS = len(PREFIX) + 3

_SHAPE = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{BODY_CHARACTERS}}})([0-9A-Za-z]{{{CHECKSUM_CHARACTERS}}})")


def mint() -> str:
    body = "".join(secrets.choice(ALPHABET) for _ in range(BODY_CHARACTERS))
    return f"{PREFIX}{body}{checksum(body)}"


def checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def well_formed(key: str) -> bool:
    shape = _SHAPE.fullmatch(key)
    return shape is not None and checksum(shape[1]) == shape[2]


def digest(key: str, pepper: str) -> bytes:
    """What is stored instead of the key. A fast keyed hash is enough for 178 random bits."""
    return hmac.digest(pepper.encode(), key.encode(), "sha256")


def display(key: str) -> tuple[str, str]:
    """The first and last characters, by which people recognise a key."""
    return key[:DISPLAY_CHARACTERS], key[-4:]
