"""Access tokens (JWT) and refresh tokens as strings: make, verify. Pure.

An access token is signed with Ed25519. There is one algorithm and one spelling of the header for each of our keys:

    {"alg":"EdDSA","kid":"<of the key>","typ":"at+jwt"}

so a keyring is looked up by the header itself, encoded. A token that says anything else there - another algorithm or
type, no or an unknown `kid`, a key of its own (`jwk`, `jku`, `x5u`), something critical (`crit`) - has a header that
nobody knows, and nothing of it is decoded. The payload is read once its signature holds.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import InvalidTokenError, PyJWS
from jwt.utils import base64url_decode, base64url_encode

ALGORITHM = "EdDSA"
TYPE = "at+jwt"  # RFC 9068
AUDIENCE = "quantized-api"
LIFE_S = 15 * 60
LEEWAY_S = 30  # between our clocks
TOKEN_CHARACTERS_MAX = 2048
REFRESH_PREFIX = "rt-quantized-"
REFRESH_BYTES = 32

_SHAPE = re.compile(r"([\w-]+)\.[\w-]+\.[\w-]+", re.ASCII)
_REFRESH_SHAPE = re.compile(rf"{REFRESH_PREFIX}[\w-]{{43}}", re.ASCII)

_jws = PyJWS(algorithms=[ALGORITHM])

Keyring = Mapping[str, Ed25519PublicKey]  # by the encoded header of the tokens that the key signs


class Invalid(Exception):
    """Not a token of ours. What is wrong with it is nobody's business."""


class Expired(Exception):
    """Was one, until its time was over."""


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    iss: str
    aud: str
    sub: Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,17}\Z")]  # the user's id
    org: UUID
    role: str  # when it was issued: for the client to see, never for us to trust
    sid: UUID  # the family of refresh tokens it belongs to
    jti: UUID
    iat: int
    exp: int
    nbf: int = 0  # we give none, and honour one

    @property
    def user_id(self) -> int:
        return int(self.sub)

    @property
    def over_at(self) -> datetime:
        return datetime.fromtimestamp(self.exp + LEEWAY_S, UTC)


# --- Keys -----------------------------------------------------------------------------------------


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half as a JWK's `x`."""
    return base64url_encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def jwk(kid: str, public_key: str) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": public_key, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def keyring(public_keys: Mapping[str, str]) -> Keyring:
    """From `x` by `kid`."""
    return {
        header(kid): Ed25519PublicKey.from_public_bytes(base64url_decode(public_key))
        for kid, public_key in public_keys.items()
    }


def header(kid: str) -> str:
    return base64url_encode(msgspec.json.encode({"alg": ALGORITHM, "kid": kid, "typ": TYPE})).decode()


# --- Access tokens --------------------------------------------------------------------------------


def sign(claims: Claims, kid: str, key: Ed25519PrivateKey) -> str:
    return _jws.encode(msgspec.json.encode(claims), key, ALGORITHM, headers={"kid": kid, "typ": TYPE})


def verify(token: str, keys: Keyring, issuer: str, now: datetime) -> Claims:
    """The claims of a token that one of these keys signed for us and that counts now, or Invalid or Expired."""
    shape = _SHAPE.fullmatch(token) if len(token) <= TOKEN_CHARACTERS_MAX else None
    key = keys.get(shape[1]) if shape else None
    if key is None:
        raise Invalid
    try:
        claims = msgspec.json.decode(_jws.decode(token, key, [ALGORITHM]), type=Claims)
    except (InvalidTokenError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid from error
    now_s = now.timestamp()
    if not plausible(claims, issuer, now_s):
        raise Invalid
    if claims.exp + LEEWAY_S <= now_s:
        raise Expired
    return claims


def plausible(claims: Claims, issuer: str, now_s: float) -> bool:
    """Ours, for this API, begun, and not for longer than any token of ours."""
    begins_s = max(claims.iat, claims.nbf)
    is_ours = claims.iss == issuer and claims.aud == AUDIENCE
    return is_ours and begins_s <= now_s + LEEWAY_S and claims.exp <= claims.iat + LIFE_S


# --- Refresh tokens -------------------------------------------------------------------------------


def mint_refresh() -> str:
    return f"{REFRESH_PREFIX}{secrets.token_urlsafe(REFRESH_BYTES)}"


def refresh_well_formed(token: str) -> bool:
    return _REFRESH_SHAPE.fullmatch(token) is not None
