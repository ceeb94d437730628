"""`Idempotency-Key`: one provider call, one charge, and the same answer again for a day.

A request with a key claims its row before anything else. When the provider has answered, the answer
is stored, sealed, together with the command that settles it, and only then settled: whoever asks
again gets the answer and that same settlement, which books it if a crash came in between, and else
tells what was booked. A call that failed gives its claim back. Two requests cannot hold one claim; a
claim whose process died is free again when its hold would have expired.

The stored answer, sealed and deleted after a day, is the only text of a conversation that Quantized keeps.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

import msgspec

from billing.ledger.commands import Settle
from common import sealing
from completions.errors import IdempotencyInProgress, IdempotencyKeyReused, OutOfRange

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
KEY_CHARS_MAX = 255
ANSWER_BYTES_MAX = 16 * 1024 * 1024
PURPOSE = "stored answer"

# Safe to send again after a connection was lost before its answer came: a row with this claim's own token is this
# claim's.
CLAIM = """
INSERT INTO completions_idempotentcall AS c (organization_id, key, fingerprint, claim, lease_until, expires_at, answer)
VALUES (%s, %s, %s, %s, now() + make_interval(secs => %s), now() + interval '24 hours', '')
ON CONFLICT (organization_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, claim = excluded.claim,
    lease_until = excluded.lease_until, expires_at = excluded.expires_at, answer = ''
WHERE c.expires_at < now() OR (c.answer = '' AND (c.lease_until < now() OR c.claim = excluded.claim))
RETURNING 1
"""
FIND = "SELECT fingerprint, answer FROM completions_idempotentcall WHERE organization_id = %s AND key = %s"
STORE = "UPDATE completions_idempotentcall SET answer = %s WHERE organization_id = %s AND key = %s AND claim = %s"
DROP = """
DELETE FROM completions_idempotentcall WHERE organization_id = %s AND key = %s AND claim = %s AND answer = ''
"""


class StoredAnswer(msgspec.Struct, frozen=True):
    """What a retry gets, but for the credits, which only the settlement knows. `created` is Unix time; `body` is the
    JSON of the choices, or, `streamed`, the events."""

    provider: str
    model: str
    created: int
    system_fingerprint: str | None
    streamed: bool
    body: bytes
    settle: Settle


class Database(Protocol):
    async def fetch_one(self, sql: str, params: Sequence[Any]) -> tuple[Any, ...] | None: ...
    async def execute(self, sql: str, params: Sequence[Any]) -> None: ...


class Claim:
    """The right to make the one call of an Idempotency-Key. Ends with `store` or with `drop`; both raise
    DatabaseUnavailable when the database is away."""

    def __init__(self, database: Database, organization_id: UUID, key: str) -> None:
        self._database = database
        self._row = (organization_id, key)
        self.token = uuid4()

    async def store(self, answer: StoredAnswer) -> None:
        sealed = sealing.seal(msgspec.msgpack.encode(answer), PURPOSE)
        await self._database.execute(STORE, (sealed, *self._row, self.token))

    async def drop(self) -> None:
        await self._database.execute(DROP, (*self._row, self.token))


class Idempotency:
    def __init__(self, database: Database, *, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s

    async def claim(self, organization_id: UUID, key: str, fingerprint: bytes) -> Claim | StoredAnswer:
        """A claim for a new request, the stored answer for one made before. `fingerprint` is the SHA-256 of the
        request.

        Raises OutOfRange for a key that is none, IdempotencyInProgress while the first request still runs,
        IdempotencyKeyReused for another request under the same key, DatabaseUnavailable without a database."""
        if not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
            raise OutOfRange(f"'{HEADER}' must be 1 to {KEY_CHARS_MAX} printable characters.", param=HEADER)
        claim = Claim(self._database, organization_id, key)
        row = (organization_id, key, fingerprint, claim.token, self._lease_s)
        if await self._database.fetch_one(CLAIM, row):
            return claim
        return self._known(await self._database.fetch_one(FIND, (organization_id, key)), fingerprint)

    def _known(self, row: tuple[Any, ...] | None, fingerprint: bytes) -> StoredAnswer:
        if row is not None and bytes(row[0]) != fingerprint:
            raise IdempotencyKeyReused
        if row is None or not row[1]:
            raise IdempotencyInProgress("A request with this Idempotency-Key is still running.", retry_after_s=1)
        return msgspec.msgpack.decode(sealing.unseal(row[1], PURPOSE), type=StoredAnswer)
