"""The keys that sign access tokens: made when first needed, rotated by a command, published at /.well-known/jwks.json.

The private half is sealed in the database, so every server signs with the same key. A retired key goes on verifying
until the last token that it signed is over.
"""

import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from accounts import tokens
from accounts.models import SigningKey
from common import sealing

logger = logging.getLogger(__name__)

PURPOSE = "signing key"
KID_BYTES = 8
OVERLAP = timedelta(seconds=tokens.LIFE_S + tokens.LEEWAY_S)

# One row for both lanes: `kid` and public half of every key that still verifies, the newest first.
KEYRING_SQL = f"""
SELECT array_agg(ARRAY[kid, public_key] ORDER BY created_at DESC, kid) FROM accounts_signingkey
WHERE retired_at IS NULL OR retired_at > now() - interval '{OVERLAP.total_seconds():.0f} seconds'
"""  # noqa: S608  # a number of ours


def public_keys() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(KEYRING_SQL)
        return public_keys_of(cursor.fetchone())


def public_keys_of(row: Sequence[Any] | None) -> dict[str, str]:
    """`x` by `kid`, from the row of KEYRING_SQL."""
    return dict((row and row[0]) or ())


def jwks() -> dict[str, list[dict[str, str]]]:
    """Never empty: a server that has signed nothing yet shows the key that it will sign with."""
    if not SigningKey.objects.filter(retired_at=None).exists():
        make_first()
    return {"keys": [tokens.jwk(kid, public_key) for kid, public_key in public_keys().items()]}


def active() -> tuple[str, Ed25519PrivateKey]:
    """The key to sign with. One that no SECRET_KEY of ours opens is replaced: it can sign nothing any more."""
    key = SigningKey.objects.filter(retired_at=None).first() or make_first()
    try:
        return key.kid, opened(key)
    except sealing.Unreadable as error:
        logger.warning("signing key %s is replaced: %s", key.kid, error)
        key = rotate()
        return key.kid, opened(key)


def opened(key: SigningKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sealing.unseal(key.private_key_sealed, PURPOSE))


def make_first() -> SigningKey:
    """Whoever comes second takes the key of whoever came first."""
    try:
        with transaction.atomic():
            return make()
    except IntegrityError:
        return SigningKey.objects.get(retired_at=None)


@transaction.atomic
def rotate(*, is_old_refused: bool = False) -> SigningKey:
    """A new key from now on. The tokens of the old ones stay good until they expire, unless those are refused."""
    active_ones = SigningKey.objects.select_for_update().filter(retired_at=None)
    list(active_ones)  # two rotations at once: one after the other
    active_ones.update(retired_at=Now(), private_key_sealed="")
    if is_old_refused:
        SigningKey.objects.all().delete()
    return make()


def make() -> SigningKey:
    private_key = Ed25519PrivateKey.generate()
    return SigningKey.objects.create(
        kid=secrets.token_hex(KID_BYTES),
        public_key=tokens.public_text(private_key),
        private_key_sealed=sealing.seal(private_key.private_bytes_raw(), PURPOSE),
    )
