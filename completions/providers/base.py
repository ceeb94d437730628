"""What every provider's adapter promises, and the structs that cross its border. Pure.

An adapter translates: a Chat and a Route into an upstream request, the upstream's answer into an
Answer, its events into Chunks, its failures into one of our errors. It knows no network, no
database, no settings. What comes back from an upstream is input: typed, bounded, never passed on raw.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec
from msgspec import Struct

from billing.pricing.money import Usage
from completions.chat.answer import Answer, Chunk
from completions.chat.needs import needs
from completions.chat.request import Chat
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure
from completions.upstream.request import UpstreamRequest

CONTEXT_TOKENS_MAX = 10_000_000  # no model's context is longer; who knows the route says so
ABSURD_FACTOR = 10


class StreamDecoder(Protocol):
    """One stream's memory. Feed it the data of every event, then `close` it when the body has ended."""

    finished: bool  # the stream has said that it is complete

    def event(self, data: bytes) -> Chunk | None:
        """None: nothing for anybody. After a Chunk with a failure, stop."""

    def close(self) -> Chunk | None:
        """What the end of the body means: a failure if it was cut off, else perhaps a missing finish_reason."""


class Unsupported(Struct, frozen=True):
    """A field, or a place in one, that a route cannot honour; `why` is for where the field's name does not say it."""

    field: str
    why: str = ""


class Untranslatable(Exception):
    """What a translation stops at: there is no word for it in the provider's language."""

    def __init__(self, field: str, why: str = "") -> None:
        super().__init__(field)
        self.unsupported = Unsupported(field, why)


class Adapter(Protocol):
    """A provider kind. Stateless: one instance serves every call."""

    def unsupported(self, chat: Chat, route: Route) -> list[Unsupported]:
        """The fields this route cannot honour; empty when it can take the request."""

    def output_tokens_min(self, chat: Chat, route: Route) -> int:
        """The least output bound with which the provider takes the request; 1 for most."""

    def request(
        self, chat: Chat, route: Route, *, output_bound: int | None, stream: bool, secret: str
    ) -> UpstreamRequest:
        """The upstream request. Call `unsupported` first: this one drops nothing that asks for something."""

    def answer(self, body: bytes, *, context_length: int = CONTEXT_TOKENS_MAX) -> Answer:
        """The meaning of a 200's whole body. Never raises: nonsense is a failure too."""

    def decoder(self, *, context_length: int = CONTEXT_TOKENS_MAX) -> StreamDecoder: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """The meaning of any other status. Header names in lower case; the body may be cut."""


def unsupported_by(chat: Chat, route: Route) -> list[Unsupported]:
    """The fields that need a capability the route does not have."""
    fields = dict.fromkeys(field for capability, field in needs(chat) if capability not in route.capabilities)
    return [Unsupported(field) for field in fields]


def problem_of(usage: Usage, context_length: int) -> str | None:
    """What cannot be true about figures that came from outside."""
    numbers = msgspec.structs.astuple(usage)
    if min(numbers) < 0:
        return "negative"
    return "absurd" if max(numbers) > context_length * ABSURD_FACTOR else None
