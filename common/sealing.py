"""Secrets at rest: sealed with keys derived from SECRET_KEY, each purpose with its own.

What SECRET_KEY seals, SECRET_KEY_FALLBACKS still open. A text sealed for one purpose opens for no other.
"""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unreadable(Exception):
    """The sealed text was changed, or another SECRET_KEY or purpose sealed it."""


def seal(secret: bytes, purpose: str) -> str:
    return _fernet(purpose).encrypt(secret).decode()


def unseal(sealed: str, purpose: str) -> bytes:
    try:
        return _fernet(purpose).decrypt(sealed.encode())
    except InvalidToken as error:
        raise Unreadable(f"the stored {purpose} cannot be decrypted with SECRET_KEY or its fallbacks") from error


def _fernet(purpose: str) -> MultiFernet:
    return MultiFernet([Fernet(_key(text, purpose)) for text in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret_key: str, purpose: str) -> bytes:
    derived = HKDF(SHA256(), length=32, salt=None, info=f"quantized {purpose}".encode()).derive(secret_key.encode())
    return urlsafe_b64encode(derived)
