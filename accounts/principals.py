"""Who is calling: an Authorization header becomes a Principal. The door of this room for readers.

Two kinds of callers, API keys and members with an access token; two ways in, one decision (`principal_of`). Ordinary
Django views ask the database (`load_principal`). The async lane asks its process's `Directory`, which remembers callers
for a short while and forgets them all when PostgreSQL says that something changed that a decision stands on. A token's
signature says who asks; what they may do is always the database's word. Neither is the last word on money: the ledger
looks at the key again under the lock of every hold.

A caller who is turned away is an Unauthenticated or a Forbidden of accounts/callers.py, wherever it is found out.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from accounts import keys, tokens
from accounts.callers import NO_LIMITS, Forbidden, Principal, RateLimits, Unauthenticated
from accounts.models import ApiKey, Membership, Organization
from accounts.signing_keys import KEYRING_SQL, public_keys, public_keys_of

CHANNEL = "quantized"  # what the triggers of migrations 0002 and 0004 notify, with this payload
KEYS_CHANGED = "keys"

KEY_LIFE_S = 30.0  # the safety net under the notification
KEY_LIFE_UNNOTIFIED_S = 1.0  # revocation holds within a second also while nobody listens
UNKNOWN_LIFE_S = 1.0
KEYRING_LIFE_S = 1.0  # short, because a token of a key that is not in it costs no query
KEYRING = b"keyring"
DIRECTORY_ENTRIES_MAX = 50_000
LAST_USED_RESOLUTION = timedelta(minutes=1)

KEY_SQL = """
SELECT k.id, k.organization_id, k.models, k.expires_at, k.revoked_at, o.status,
       k.requests_per_minute, k.tokens_per_minute, k.concurrency
FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
WHERE k.digest = %s
"""

# No row: the family was revoked, the user may not log in any more, or is no member any more.
MEMBER_SQL = """
SELECT m.role, o.status
FROM accounts_tokenfamily f
JOIN accounts_user u ON u.id = f.user_id AND u.is_active
JOIN accounts_membership m ON m.user_id = f.user_id AND m.organization_id = f.organization_id
JOIN accounts_organization o ON o.id = f.organization_id
WHERE f.id = %s AND f.user_id = %s AND f.organization_id = %s AND f.revoked_at IS NULL
"""

# Rows are locked in one order, so that two processes flushing the same keys cannot block each other.
USED_SQL = """
UPDATE accounts_apikey SET last_used_at = now()
WHERE id IN (SELECT id FROM accounts_apikey WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)
"""


KEY_MANAGERS = frozenset({Membership.Role.OWNER, Membership.Role.ADMIN})

NOT_OURS = "This access token was not issued by this server."
EXPIRED = "This access token has expired."
ENDED = "This session has ended: log in again."


class KeyRow(msgspec.Struct, frozen=True):
    """What a key's row and its organization's say about a call, in the order of KEY_SQL."""

    id: UUID
    organization_id: UUID
    models: Sequence[str] | None
    expires_at: datetime | None
    revoked_at: datetime | None
    organization_status: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def rate_limits(self) -> RateLimits | None:
        limits = RateLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrency)
        return None if limits == NO_LIMITS else limits


class MemberRow(msgspec.Struct, frozen=True):
    """What an access token says of its holder, and what the database does; no role: not a member any more."""

    organization_id: UUID
    user_id: int
    over_at: datetime
    role: str | None = None
    organization_status: str | None = None


Row = KeyRow | MemberRow


# --- The header ---------------------------------------------------------------------------------


def authorization(header: str | None) -> str:
    """The bearer token of an Authorization header: a well-formed key, or what looks like a JWT. Asks nobody."""
    token = bearer_token(header)
    require_well_formed(token)
    return token


def bearer_token(header: str | None) -> str:
    """Whatever follows `Bearer`, well-formed or not."""
    scheme, _, token = (header or "").strip().partition(" ")
    if not scheme:
        raise Unauthenticated("invalid_api_key", "No API key was given: send 'Authorization: Bearer <api-key>'.")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("invalid_api_key", "The Authorization header must read 'Bearer <api-key>'.")
    return token


def require_well_formed(token: str) -> None:
    if not keys.well_formed(token) and not looks_like_jwt(token):
        raise Unauthenticated(
            "invalid_api_key", "This is not an API key of this server: check for a typo or a cut-off end."
        )


def looks_like_jwt(token: str) -> bool:
    """Also a broken JWT does: its sender shall hear that the token is wrong, not that there is no such key."""
    return token.startswith("eyJ") or (token.count(".") == 2 and not token.startswith("sk-"))


# --- The decision -------------------------------------------------------------------------------


def principal_of(row: Row | None, now: datetime) -> Principal:
    """None: no such key. Raises what the caller is to hear."""
    return member_principal(row, now) if isinstance(row, MemberRow) else key_principal(row, now)


def key_principal(row: KeyRow | None, now: datetime) -> Principal:
    if row is None:
        raise Unauthenticated("invalid_api_key", "This API key does not exist.")
    if row.revoked_at is not None:
        raise Unauthenticated("revoked_api_key", "This API key has been revoked.")
    if row.expires_at is not None and row.expires_at <= now:
        raise Unauthenticated("expired_api_key", "This API key has expired.")
    if row.organization_status != Organization.Status.ACTIVE:
        raise Forbidden("organization_suspended", "This organization is suspended.")
    models = None if row.models is None else frozenset(row.models)
    return Principal(row.organization_id, row.id, None, "key", models, row.rate_limits)


def member_principal(row: MemberRow, now: datetime) -> Principal:
    if row.over_at <= now:
        raise Unauthenticated("expired_token", EXPIRED)
    if row.role is None:
        raise Unauthenticated("invalid_token", ENDED)
    if row.organization_status != Organization.Status.ACTIVE:
        raise Forbidden("organization_suspended", "This organization is suspended.")
    return Principal(row.organization_id, None, row.user_id, row.role, None)


def claims_of(token: str, keyring: tokens.Keyring, issuer: str, now: datetime) -> tokens.Claims:
    """What an access token says, once its signature and its time are found to be good."""
    try:
        return tokens.verify(token, keyring, issuer, now)
    except tokens.Expired:
        raise Unauthenticated("expired_token", EXPIRED) from None
    except tokens.Invalid:
        raise Unauthenticated("invalid_token", NOT_OURS) from None


def holder(claims: tokens.Claims) -> tuple[UUID, int, UUID]:
    """The parameters of MEMBER_SQL."""
    return claims.sid, claims.user_id, claims.org


def member_row(claims: tokens.Claims, fields: Sequence[Any] | None) -> MemberRow:
    return MemberRow(claims.org, claims.user_id, claims.over_at, *(fields or ()))


# --- Ordinary views -----------------------------------------------------------------------------


def load_principal(token: str) -> Principal:
    """Of what `authorization` returned. Two queries; a key is noted as used."""
    return load_member(token) if looks_like_jwt(token) else load_key(token)


def load_member(token: str) -> Principal:
    now = datetime.now(UTC)
    claims = claims_of(token, tokens.keyring(public_keys()), settings.PUBLIC_URL, now)
    with connection.cursor() as cursor:
        cursor.execute(MEMBER_SQL, holder(claims))
        return principal_of(member_row(claims, cursor.fetchone()), now)


def load_key(token: str) -> Principal:
    """The look-up goes by a keyed hash: its timing tells nothing about any key."""
    found = ApiKey.objects.filter(digest=keys.digest(token, settings.KEY_PEPPER))
    fields = found.values_list(
        "id", "organization_id", "models", "expires_at", "revoked_at", "organization__status"
    ).first()
    principal = principal_of(KeyRow(*fields) if fields else None, datetime.now(UTC))
    found.filter(Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USED_RESOLUTION)).update(last_used_at=Now())
    return principal


# --- The async lane -----------------------------------------------------------------------------

Fetch = Callable[[str, Sequence[Any]], Awaitable[Sequence[Any] | None]]  # a statement, its parameters → one row


class Memory:
    """Of bounded size: entries live `life_s`, and the oldest makes room for the newest."""

    def __init__(self, life_s: float, entries_max: int, clock: Callable[[], float]) -> None:
        self.life_s = life_s
        self._entries_max = entries_max
        self._clock = clock
        self._entries: dict[bytes, tuple[Any, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        entry = self._entries.get(key)
        return entry is not None and self._clock() < entry[1]

    def __getitem__(self, key: bytes) -> Any:
        return self._entries[key][0]

    def __setitem__(self, key: bytes, value: Any) -> None:
        self._entries.pop(key, None)  # a renewed entry is the newest
        while len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = value, self._clock() + self.life_s

    def clear(self) -> None:
        self._entries.clear()


Read = Callable[[], Awaitable[tuple[Any, Memory]]]  # → a value, and where it is remembered


class Directory:
    """The callers this process has met lately, by the SHA-256 of the whole token.

    Belongs to one event loop. Promises: an unknown key costs at most one query a second and a forged access token none
    of its own, callers who miss together share one query, and no row read before `invalidate()` is kept after it.
    Expiry is checked at every call.
    """

    def __init__(
        self,
        pepper: str,
        issuer: str,
        *,
        entries_max: int = DIRECTORY_ENTRIES_MAX,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pepper = pepper
        self._issuer = issuer
        self._now = now
        # Unknown tokens are remembered apart, so that a flood of invented keys pushes no real one out.
        self._known = Memory(KEY_LIFE_UNNOTIFIED_S, entries_max, clock)
        self._unknown = Memory(UNKNOWN_LIFE_S, entries_max, clock)
        self._keyrings = Memory(KEYRING_LIFE_S, 1, clock)
        self._pending: dict[bytes, asyncio.Task[Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._used: set[UUID] = set()

    async def authenticate(self, header: str | None, fetch: Fetch) -> Principal:
        """`fetch` reads a row when the caller is not remembered; what it raises comes through."""
        principal = principal_of(await self._row(bearer_token(header), fetch), self._now())
        if principal.key_id is not None:
            self._used.add(principal.key_id)
        return principal

    def invalidate(self) -> None:
        """Forget everything, also what is being read right now: it may have been read too early."""
        for memory in (self._known, self._unknown, self._keyrings):
            memory.clear()
        self._pending.clear()

    def listening(self, is_listening: bool) -> None:
        """Say whether notifications arrive: keys are remembered long only while they do. Forgets everything, as a
        notification may have been missed."""
        self._known.life_s = KEY_LIFE_S if is_listening else KEY_LIFE_UNNOTIFIED_S
        self.invalidate()

    def take_used(self) -> list[UUID]:
        """The keys used since the last time, for USED_SQL."""
        used, self._used = self._used, set()
        return list(used)

    async def _row(self, token: str, fetch: Fetch) -> Row | None:
        name = hashlib.sha256(token.encode()).digest()
        for memory in (self._known, self._unknown):
            if name in memory:
                return cast(Row | None, memory[name])
        require_well_formed(token)  # only well-formed tokens are ever remembered
        read = self._read_member if looks_like_jwt(token) else self._read_key
        row: Row | None = await self._read_once(name, partial(read, token, fetch))
        return row

    async def _read_key(self, token: str, fetch: Fetch) -> tuple[KeyRow | None, Memory]:
        fields = await fetch(KEY_SQL, (keys.digest(token, self._pepper),))
        return (KeyRow(*fields), self._known) if fields is not None else (None, self._unknown)

    async def _read_member(self, token: str, fetch: Fetch) -> tuple[MemberRow, Memory]:
        claims = claims_of(token, await self._keyring(fetch), self._issuer, self._now())
        return member_row(claims, await fetch(MEMBER_SQL, holder(claims))), self._known

    async def _keyring(self, fetch: Fetch) -> tokens.Keyring:
        if KEYRING in self._keyrings:
            return cast(tokens.Keyring, self._keyrings[KEYRING])
        return cast(tokens.Keyring, await self._read_once(KEYRING, partial(self._read_keyring, fetch)))

    async def _read_keyring(self, fetch: Fetch) -> tuple[tokens.Keyring, Memory]:
        return tokens.keyring(public_keys_of(await fetch(KEYRING_SQL, ()))), self._keyrings

    async def _read_once(self, name: bytes, read: Read) -> Any:
        task = self._pending.get(name) or self._start(name, read)
        # A caller who leaves must not cancel a query under way, which others may be waiting for.
        return await asyncio.shield(task)

    def _start(self, name: bytes, read: Read) -> asyncio.Task[Any]:
        task = asyncio.create_task(self._read(name, read))
        self._pending[name] = task
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    async def _read(self, name: bytes, read: Read) -> Any:
        this = asyncio.current_task()
        try:
            value, memory = await read()
            if self._pending.get(name) is this:
                memory[name] = value
            return value
        finally:
            if self._pending.get(name) is this:
                del self._pending[name]

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved: those who waited have it, and they may all have left
