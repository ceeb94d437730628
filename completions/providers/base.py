"""What the translators of every kind of provider share. Pure.

A translator knows no network, no database, no settings. What comes back from an upstream is input: typed, bounded,
never passed on raw.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from billing.pricing.money import Usage, token_counts
from completions.ask import Progress, Unsupported
from completions.chat.needs import needs
from completions.chat.request import Chat
from completions.routes import Route
from completions.upstream.failure import malformed
from completions.upstream.sse import EventTooLarge, SSEDecoder

CONTEXT_TOKENS_MAX = 10_000_000  # no model's context is longer; who knows the route says so
ABSURD_FACTOR = 10


class StreamDecoder(Protocol):
    """One stream's memory. Feed it the data of every event, then `close` it when the body has ended."""

    finished: bool  # the stream has said that it is complete

    def event(self, data: bytes) -> Progress | None:
        """None: nothing for anybody. After a Progress with a failure, stop."""

    def close(self) -> Progress | None:
        """What the end of the body means: a failure if it was cut off, else perhaps a missing finish_reason."""


class EventReader:
    """The `Reader` of a body of server-sent events."""

    finished = False

    def __init__(self, decoder: StreamDecoder) -> None:
        self._sse = SSEDecoder()
        self._decoder = decoder

    def feed(self, data: bytes) -> list[Progress]:
        found: list[Progress] = []
        try:
            found.extend(filter(None, map(self._decoder.event, self._sse.feed(data))))
        except EventTooLarge:
            found.append(Progress(failure=malformed("an event is too large")))
        self.finished = self._decoder.finished
        return found

    def close(self) -> Progress | None:
        last = self._decoder.close()
        self.finished = self._decoder.finished
        return last


class BodyReader:
    """The `Reader` of a whole body, which `read` understands when it is there."""

    finished = False

    def __init__(self, read: Callable[[bytes, int], Progress], context_length: int) -> None:
        self._read = read
        self._context_length = context_length
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterable[Progress]:
        self._parts.append(data)
        return ()

    def close(self) -> Progress:
        progress = self._read(b"".join(self._parts), self._context_length)
        # A whole body stops the clock of the first token, whatever it says.
        return progress if progress.has_output else msgspec.structs.replace(progress, has_output=True)


class Untranslatable(Exception):
    """What a translation stops at: there is no word for it in the provider's language."""

    def __init__(self, field: str, why: str = "") -> None:
        super().__init__(field)
        self.unsupported = Unsupported(field, why)


def unsupported_by(chat: Chat, route: Route) -> list[Unsupported]:
    """The fields that need a capability the route does not have."""
    fields = dict.fromkeys(field for capability, field in needs(chat) if capability not in route.capabilities)
    return [Unsupported(field) for field in fields]


def problem_of(usage: Usage, context_length: int) -> str | None:
    """What cannot be true about figures that came from outside."""
    numbers = [*token_counts(usage), *usage.units.values()]
    if min(numbers) < 0:
        return "negative"
    return "absurd" if max(numbers) > context_length * ABSURD_FACTOR else None
