"""What our client reads: completions, chunks and usage as bytes, in the field order of the public API. Pure."""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from billing.pricing.money import Usage
from completions.chat.answer import Choice, ChoiceDelta, Chunk, Delta

DONE_EVENT = b"data: [DONE]\n\n"
KEEPALIVE_EVENT = b": keep-alive\n\n"

_encoder = msgspec.json.Encoder()


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    reasoning_tokens: int
    audio_tokens: int


class UsageView(Struct, frozen=True):
    """Usage as clients see it: both details objects always there, with integers. Credits in micro-credits."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    credits_used: int
    credits_remaining: int | None  # None: unlimited
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


def usage_view(usage: Usage, *, credits_used: int, credits_remaining: int | None) -> UsageView:
    return UsageView(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        credits_used=credits_used,
        credits_remaining=credits_remaining,
        prompt_tokens_details=PromptTokensDetails(
            usage.cached_tokens, usage.cache_write_tokens, usage.audio_input_tokens
        ),
        completion_tokens_details=CompletionTokensDetails(usage.reasoning_tokens, usage.audio_output_tokens),
    )


class Completion(Struct, frozen=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    model: str
    choices: tuple[Choice, ...] | Raw
    usage: UsageView
    created: int
    system_fingerprint: str | None


def completion_bytes(
    *,
    id: str,
    model: str,
    choices: tuple[Choice, ...] | Raw,
    usage: UsageView,
    created: int,
    system_fingerprint: str | None,
) -> bytes:
    """The body of a non-streamed answer; its choices may be encoded already."""
    return _encoder.encode(Completion(id, "chat.completion", model, choices, usage, created, system_fingerprint))


class CompletionChunk(Struct, frozen=True):
    """One event of a stream. The last one, if usage was asked for, has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChoiceDelta, ...]
    usage: UsageView | UnsetType | None = UNSET
    system_fingerprint: str | UnsetType = UNSET


_FIRST = ChoiceDelta(0, Delta(role="assistant", content=""))


class StreamWriter:
    """Chunks → the bytes of our own stream. Says the role once and first; `usage` is null until the end
    if the client asked for it, else absent."""

    def __init__(
        self, *, id: str, model: str, created: int, include_usage: bool, system_fingerprint: str | None = None
    ) -> None:
        self._id = id
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._system_fingerprint: str | UnsetType = UNSET if system_fingerprint is None else system_fingerprint
        self._has_begun = False

    def events(self, chunk: Chunk) -> bytes:
        """What a chunk adds to the stream, perhaps nothing."""
        if chunk.system_fingerprint is not None:
            self._system_fingerprint = chunk.system_fingerprint
        events = b"".join(map(self._event_of_choice, chunk.choices))
        if self._has_begun:
            return events
        self._has_begun = True
        return self._event((_FIRST,), None) + events

    def end(self, usage: UsageView) -> bytes:
        """The usage chunk if it was asked for, and the end mark."""
        if not self._include_usage:
            return DONE_EVENT
        return self._event((), usage) + DONE_EVENT

    def _event_of_choice(self, choice: ChoiceDelta) -> bytes:
        return self._event((choice,), None)

    def _event(self, choices: tuple[ChoiceDelta, ...], usage: UsageView | None) -> bytes:
        chunk = CompletionChunk(
            self._id,
            "chat.completion.chunk",
            self._created,
            self._model,
            choices,
            usage if self._include_usage else UNSET,
            self._system_fingerprint,
        )
        return b"data: %b\n\n" % _encoder.encode(chunk)
