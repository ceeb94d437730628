"""Who is calling: an Authorization header becomes a Principal. The door of this room for readers.

Two ways in, one decision (`principal_of`). Ordinary Django views ask the database (`load_principal`). The async
lane asks its process's `Directory`, which remembers keys for a short while and forgets them all when PostgreSQL
says that some key or organization changed. Neither is the last word on money: the ledger looks at the key again
under the lock of every hold.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from accounts import keys
from accounts.models import ApiKey, Organization

CHANNEL = "quantized"  # what the triggers of migration 0002 notify, with this payload
KEYS_CHANGED = "keys"

KEY_LIFE_S = 30.0  # the safety net under the notification
KEY_LIFE_UNNOTIFIED_S = 1.0  # revocation holds within a second also while nobody listens
UNKNOWN_LIFE_S = 1.0
DIRECTORY_ENTRIES_MAX = 50_000
LAST_USED_RESOLUTION = timedelta(minutes=1)

KEY_SQL = """
SELECT k.id, k.organization_id, k.models, k.expires_at, k.revoked_at, o.status,
       k.requests_per_minute, k.tokens_per_minute, k.concurrency
FROM accounts_apikey k JOIN accounts_organization o ON o.id = k.organization_id
WHERE k.digest = %s
"""

# Rows are locked in one order, so that two processes flushing the same keys cannot block each other.
USED_SQL = """
UPDATE accounts_apikey SET last_used_at = now()
WHERE id IN (SELECT id FROM accounts_apikey WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)
"""


class RateLimits(msgspec.Struct, frozen=True):
    """How fast a key may call; None: as fast as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


NO_LIMITS = RateLimits()


class Principal(msgspec.Struct, frozen=True):
    """Whose credits a call spends, and what the caller may do."""

    organization_id: UUID
    key_id: UUID | None  # None for a member's JWT
    user_id: int | None
    role: str  # "key" or the member's role
    models: frozenset[str] | None  # the allowed model ids; None: all
    rate_limits: RateLimits | None = None  # None: no limit at all

    @property
    def is_authenticated(self) -> bool:
        return True


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


class Unauthenticated(Exception):
    """401. `code`: invalid_api_key, expired_api_key, revoked_api_key, invalid_token, expired_token."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Forbidden(Exception):
    """403. `code`: organization_suspended."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- The header ---------------------------------------------------------------------------------


def authorization(header: str | None) -> str:
    """The bearer token of an Authorization header: a well-formed key, or an error. Asks nobody."""
    scheme, _, token = (header or "").strip().partition(" ")
    if not scheme:
        raise Unauthenticated("invalid_api_key", "No API key was given: send 'Authorization: Bearer <api-key>'.")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("invalid_api_key", "The Authorization header must read 'Bearer <api-key>'.")
    if keys.well_formed(token):
        return token
    if looks_like_jwt(token):
        raise Unauthenticated("invalid_token", "This access token was not issued by this server.")
    raise Unauthenticated(
        "invalid_api_key", "This is not an API key of this server: check for a typo or a cut-off end."
    )


def looks_like_jwt(token: str) -> bool:
    return token.count(".") == 2 and not token.startswith("sk-")


# --- The decision -------------------------------------------------------------------------------


def principal_of(row: KeyRow | None, now: datetime) -> Principal:
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


# --- Ordinary views -----------------------------------------------------------------------------


def load_principal(token: str) -> Principal:
    """By the ORM. The look-up goes by a keyed hash: its timing tells nothing about any key."""
    found = ApiKey.objects.filter(digest=keys.digest(token, settings.KEY_PEPPER))
    fields = found.values_list(
        "id", "organization_id", "models", "expires_at", "revoked_at", "organization__status"
    ).first()
    principal = principal_of(KeyRow(*fields) if fields else None, datetime.now(UTC))
    found.filter(Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USED_RESOLUTION)).update(last_used_at=Now())
    return principal


# --- The async lane -----------------------------------------------------------------------------

Fetch = Callable[[bytes], Awaitable[Sequence[Any] | None]]  # digest → the row of KEY_SQL


class Remembered:
    """A bounded memory: entries live `life_s`, and the oldest makes room for the newest."""

    def __init__(self, life_s: float, entries_max: int, clock: Callable[[], float]) -> None:
        self.life_s = life_s
        self._entries_max = entries_max
        self._clock = clock
        self._entries: dict[bytes, tuple[KeyRow | None, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        entry = self._entries.get(key)
        return entry is not None and self._clock() < entry[1]

    def __getitem__(self, key: bytes) -> KeyRow | None:
        return self._entries[key][0]

    def __setitem__(self, key: bytes, row: KeyRow | None) -> None:
        self._entries.pop(key, None)  # a renewed entry is the newest
        while len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = row, self._clock() + self.life_s

    def clear(self) -> None:
        self._entries.clear()


class Directory:
    """The keys this process has met lately, by the SHA-256 of the whole token.

    Belongs to one event loop. Promises: an unknown or wrong token costs at most one query a second, callers who miss
    together share one query, and no row read before `invalidate()` is kept after it. Expiry is checked at every call.
    """

    def __init__(
        self,
        pepper: str,
        *,
        entries_max: int = DIRECTORY_ENTRIES_MAX,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pepper = pepper
        self._now = now
        # Apart, so that a flood of invented keys pushes no real one out.
        self._known = Remembered(KEY_LIFE_UNNOTIFIED_S, entries_max, clock)
        self._unknown = Remembered(UNKNOWN_LIFE_S, entries_max, clock)
        self._pending: dict[bytes, asyncio.Task[KeyRow | None]] = {}
        self._running: set[asyncio.Task[KeyRow | None]] = set()
        self._used: set[UUID] = set()

    async def authenticate(self, header: str | None, fetch: Fetch) -> Principal:
        token = authorization(header)
        principal = principal_of(await self._row(token, fetch), self._now())
        if principal.key_id is not None:
            self._used.add(principal.key_id)
        return principal

    def invalidate(self) -> None:
        """Forget everything, also what is being read right now: it may have been read too early."""
        self._known.clear()
        self._unknown.clear()
        self._pending.clear()

    def listening(self, is_listening: bool) -> None:
        """Say whether notifications arrive: keys live long only while they do. What was missed is forgotten."""
        self._known.life_s = KEY_LIFE_S if is_listening else KEY_LIFE_UNNOTIFIED_S
        self.invalidate()

    def take_used(self) -> list[UUID]:
        """The keys used since the last time, for USED_SQL."""
        used, self._used = self._used, set()
        return list(used)

    async def _row(self, token: str, fetch: Fetch) -> KeyRow | None:
        name = hashlib.sha256(token.encode()).digest()
        for memory in (self._known, self._unknown):
            if name in memory:
                return memory[name]
        task = self._pending.get(name) or self._start(name, token, fetch)
        # A caller who leaves must not cancel a query under way, which others may be waiting for.
        return await asyncio.shield(task)

    def _start(self, name: bytes, token: str, fetch: Fetch) -> asyncio.Task[KeyRow | None]:
        task = asyncio.create_task(self._read(name, token, fetch))
        self._pending[name] = task
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    async def _read(self, name: bytes, token: str, fetch: Fetch) -> KeyRow | None:
        this = asyncio.current_task()
        try:
            fields = await fetch(keys.digest(token, self._pepper))
            row = KeyRow(*fields) if fields is not None else None
            if self._pending.get(name) is this:
                (self._unknown if row is None else self._known)[name] = row
            return row
        finally:
            if self._pending.get(name) is this:
                del self._pending[name]

    def _finished(self, task: asyncio.Task[KeyRow | None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # every waiter got it; when all have left, nobody else will ask
