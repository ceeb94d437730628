"""What a dialect is: one inbound wire format at one address. Pure.

A dialect reads requests and writes answers and errors in its clients' words. It never meets a provider: what it reads
becomes an Ask, what it writes was a Progress (completions/ask.py).
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from billing.pricing.money import Usage
from completions.ask import Ask, Progress
from completions.errors import GatewayError


class Head(Struct, frozen=True):
    """What every answer says of itself. `created` is Unix time."""

    id: str
    model: str
    created: int
    system_fingerprint: str | None = None


class Charge(Struct, frozen=True):
    """What a call consumed and cost, as its client is told it. Credits in micro-credits."""

    usage: Usage
    credits_used: int
    credits_remaining: int | None  # None: unlimited


class AnswerWriter(Protocol):
    """One answer in the dialect's words. Pieces go to the client at once if the answer is a stream; of a whole one, and
    of one that may be asked for again by its Idempotency-Key, they are kept, and `end` is what the client gets."""

    media_type: str
    keepalive: bytes  # what a silent stream says now and then; empty: nothing

    def piece(self, progress: Progress) -> bytes:
        """What a Progress with a payload adds."""

    def end(self, charge: Charge) -> bytes:
        """The last words: of a stream usage and end mark, of a whole answer all of it."""

    def failed(self, error: GatewayError) -> bytes:
        """The last words of a stream that failed after its first byte. The cause stays with the operator."""


class Dialect(Protocol):
    """One inbound wire format at one address."""

    path: str  # also the name of the endpoint in books, metrics and receipts
    name: str

    def credentials(self, headers: Mapping[str, str]) -> str | None:
        """The Authorization header's value, or what this dialect's clients send instead; None if there is none. The
        names are Django's: HTTP_AUTHORIZATION."""

    def parse(self, body: bytes) -> Ask:
        """Raises a leaf of `errors.InvalidRequest`, and nothing else, whatever the bytes are."""

    def writer(self, ask: Ask, head: Head, written: bytes = b"") -> AnswerWriter:
        """`written`: the pieces of an answer given before, which is to be given again."""

    def error(self, error: GatewayError) -> bytes:
        """The body of an answer that is none, before the first byte."""
