from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from billing.pricing.money import Usage
from completions import errors
from completions.ask import Ask, Progress, Reader, Reported, Unsupported
from completions.chat.answer import Choice, ChoiceDelta, Delta, Message, delta_bytes
from completions.chat.needs import effective_fields
from completions.chat.request import Chat, TextPart
from completions.providers.base import problem_of, unsupported_by
from completions.providers.fields import refused
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure, cut_off, malformed
from completions.upstream.request import UpstreamRequest
from tests.kit.telepathy.fields import FIELDS

LINES = "application/x-thoughts"
NEVER = refused(FIELDS)
_FINISH = {"enough": "stop", "tired": "length"}


class Telepathy:
    """See `Translator`: of chat."""

    def unsupported(self, ask: Ask, route: Route) -> list[Unsupported]:
        chat: Chat = ask.content
        found = [*unsupported_by(chat, route), *map(Unsupported, sorted(effective_fields(chat) & NEVER))]
        silent = [at for at, message in enumerate(chat.messages) if text_of(message.content) is None]
        return found + [Unsupported(f"messages[{at}].content", "a thought is text") for at in silent]

    def output_tokens_min(self, _ask: Ask, _route: Route) -> int:
        return 2  # it says "well" first

    def request(self, ask: Ask, route: Route, output_bound: int | None) -> UpstreamRequest:
        chat: Chat = ask.content
        body: dict[str, Any] = {
            "to": route.upstream_model,
            "thoughts": [(message.__struct_config__.tag, text_of(message.content)) for message in chat.messages],
        }
        if output_bound is not None:
            body["words_max"] = output_bound
        if chat.fields.temperature is not None:
            body["temperature"] = chat.fields.temperature
        headers = (("x-handshake", route.provider.secret), ("content-type", "application/json"))
        return UpstreamRequest("/think", headers, msgspec.json.encode(body))

    def reader(self, _ask: Ask, route: Route, *, streamed: bool) -> Reader:
        return LineReader(route.context_length) if streamed else WholeReader(route.context_length)

    def failure(self, status: int, _headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        detail = f"status {status}"
        if status == 400:
            return UpstreamFailure("refused", errors.InvalidRequest(f"The mind refused: {lost(body)}."), detail, status)
        kind = "provider_auth" if status == 401 else "unavailable"
        return UpstreamFailure(kind, errors.ProviderUnavailable(), detail, status)


class Line(Struct, frozen=True):
    mind: str | None = None
    word: str | None = None
    end: str | None = None
    heard: int = 0
    said: int = 0
    lost: str | None = None


_line_decoder = msgspec.json.Decoder(Line)


class LineReader:
    """The `Reader` of a stream: a line may come in pieces."""

    def __init__(self, context_length: int) -> None:
        self.finished = False
        self._context_length = context_length
        self._rest = b""

    def feed(self, data: bytes) -> list[Progress]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [self._progress(line) for line in lines if line]

    def close(self) -> Progress | None:
        return None if self.finished else Progress(failure=cut_off())

    def _progress(self, data: bytes) -> Progress:
        try:
            line = _line_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Progress(failure=malformed("a line that is no thought"))
        if line.lost is not None:
            return Progress(failure=UpstreamFailure("unavailable", errors.ProviderUnavailable(), "a thought was lost"))
        if line.end is not None:
            self.finished = True
            finish = _FINISH.get(line.end, "stop")
            end = ChoiceDelta(0, Delta(), finish)
            return Progress(payload=(end,), has_output=True, finish_reason=finish, reported=self._reported(line))
        if not line.word:
            return Progress(provider_ref=line.mind)
        delta = Delta(content=line.word)
        return Progress(payload=(ChoiceDelta(0, delta),), has_output=True, output_bytes=delta_bytes(delta))

    def _reported(self, line: Line) -> Reported:
        usage = Usage(prompt_tokens=line.heard, completion_tokens=line.said)
        problem = problem_of(usage, self._context_length)
        return Reported(None if problem else usage, None, problem)


class WholeReader:
    """The `Reader` of a whole body, which is what a stream would have said."""

    finished = False

    def __init__(self, context_length: int) -> None:
        self._lines = LineReader(context_length)
        self._told: list[Progress] = []

    def feed(self, data: bytes) -> list[Progress]:
        self._told += self._lines.feed(data)
        return []

    def close(self) -> Progress:
        failures = [told.failure for told in self._told if told.failure is not None]
        last = self._lines.close()
        if failures or last is not None or not self._told:
            return Progress(failure=failures[0] if failures else cut_off())
        deltas = [choice.delta for told in self._told for choice in told.payload]
        end = self._told[-1]
        words = "".join(delta.content or "" for delta in deltas)
        message = Message(role="assistant", content=words, refusal=None)
        return Progress(
            payload=(Choice(0, message, end.finish_reason or "stop", Raw(b"null")),),
            has_output=True,
            finish_reason=end.finish_reason,
            reported=end.reported,
            provider_ref=next((told.provider_ref for told in self._told if told.provider_ref), None),
            output_bytes=sum(map(delta_bytes, deltas)),
        )


def text_of(content: Any) -> str | None:
    """None of what is no text, or not only text."""
    if isinstance(content, list) and all(isinstance(part, TextPart) for part in content):
        return "".join(part.text for part in content)
    return content if isinstance(content, str) else None


def lost(body: bytes) -> str:
    try:
        return _line_decoder.decode(body).lost or "it said nothing"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "it said nothing"
