"""Signatures of thinking blocks: they hold for the block's text and, on newer models, for all that was before it."""

import base64
import binascii
import hashlib

_KEY = b"the sandbox's own"
_VERSION = b"\x12"
_PREFIX_BYTES = 16
_MAC_BYTES = 24


def sealed(text: str, prefix: bytes) -> str:
    """The signature of a block that showed this text after that prefix."""
    digest = hashlib.blake2b(prefix, digest_size=_PREFIX_BYTES).digest()
    return base64.b64encode(_VERSION + digest + _mac(text, digest)).decode()


def is_genuine(signature: str, text: str) -> bool:
    raw = _decoded(signature)
    digest = raw[1 : 1 + _PREFIX_BYTES]
    return raw == _VERSION + digest + _mac(text, digest)


def is_bound_to(signature: str, prefix: bytes) -> bool:
    return _decoded(signature)[1 : 1 + _PREFIX_BYTES] == hashlib.blake2b(prefix, digest_size=_PREFIX_BYTES).digest()


def _mac(text: str, digest: bytes) -> bytes:
    return hashlib.blake2b(digest + text.encode(), key=_KEY, digest_size=_MAC_BYTES).digest()


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""
