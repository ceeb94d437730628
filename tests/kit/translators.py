"""The translators of chat, spoken to with a Chat instead of an Ask, and with one event instead of a packet."""

from collections.abc import Mapping
from typing import Any

import msgspec

from completions.ask import Ask, Progress, Reader, Unsupported
from completions.chat.ask import ask_of
from completions.chat.request import Chat
from completions.providers import kinds
from completions.providers.base import CONTEXT_TOKENS_MAX
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure
from completions.upstream.request import UpstreamRequest
from tests.kit import openrouter_recordings

ENDPOINT = "/v1/chat/completions"
NOTHING_ASKED: Any = None  # readers look at the route alone


class ChatTranslator:
    def __init__(self, kind: str) -> None:
        self._translator = kinds.translator(kind, "chat")
        self._route = openrouter_recordings.route(kind)

    def unsupported(self, chat: Chat, route: Route) -> list[Unsupported]:
        return self._translator.unsupported(ask_of(chat, ENDPOINT), route)

    def output_tokens_min(self, chat: Chat, route: Route) -> int:
        return self._translator.output_tokens_min(ask_of(chat, ENDPOINT), route)

    def request(
        self, chat: Chat, route: Route, *, output_bound: int | None, stream: bool, secret: str
    ) -> UpstreamRequest:
        ask = msgspec.structs.replace(ask_of(chat, ENDPOINT), stream=stream)
        provider = msgspec.structs.replace(route.provider, secret=secret)
        return self._translator.request(ask, msgspec.structs.replace(route, provider=provider), output_bound)

    def answer(self, body: bytes, *, context_length: int = CONTEXT_TOKENS_MAX) -> Progress:
        reader = self._reader(context_length, streamed=False)
        assert list(reader.feed(body)) == []
        progress = reader.close()
        assert progress is not None
        return progress

    def decoder(self, *, context_length: int = CONTEXT_TOKENS_MAX) -> "EventByEvent":
        return EventByEvent(self._reader(context_length, streamed=True))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return self._translator.failure(status, headers, body)

    def _reader(self, context_length: int, *, streamed: bool) -> Reader:
        route: Route = msgspec.structs.replace(self._route, context_length=context_length)
        ask: Ask = NOTHING_ASKED
        return self._translator.reader(ask, route, streamed=streamed)


class EventByEvent:
    """A reader fed with the data of one event at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def finished(self) -> bool:
        return self._reader.finished

    def event(self, data: bytes) -> Progress | None:
        found = list(self._reader.feed(b"".join(b"data: %b\n" % line for line in data.split(b"\n")) + b"\n"))
        assert len(found) <= 1
        return found[0] if found else None

    def close(self) -> Progress | None:
        return self._reader.close()


def adapter(kind: str) -> ChatTranslator:
    return ChatTranslator(kind)
