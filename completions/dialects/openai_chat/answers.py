"""What our client reads: completions, chunks and usage as bytes, in the field order of the public API. Pure."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from completions.ask import Progress
from completions.chat.answer import Choice, ChoiceDelta, Delta
from completions.dialects.base import Charge, Head
from completions.errors import GatewayError, error_bytes

DONE_EVENT = b"data: [DONE]\n\n"
KEEPALIVE_EVENT = b": keep-alive\n\n"

_encoder = msgspec.json.Encoder()

# What a stream says when it fails after its first byte; the cause stays with the operator.
STREAM_FAILURE: dict[str, Any] = {
    "error": {
        "message": "The upstream provider failed while answering.",
        "type": "upstream_error",
        "param": None,
        "code": "provider_error",
    }
}
STREAM_FAILURE_EVENT = b"data: " + _encoder.encode(STREAM_FAILURE) + b"\n\n"


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


def usage_view(charge: Charge) -> UsageView:
    usage = charge.usage
    return UsageView(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        credits_used=charge.credits_used,
        credits_remaining=charge.credits_remaining,
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


class CompletionWriter:
    """The whole answer. Its one piece is the JSON of the choices, which the usage does not change."""

    media_type = "application/json"
    keepalive = b""

    def __init__(self, head: Head, written: bytes = b"") -> None:
        self._head = head
        self._choices = written
        self._system_fingerprint = head.system_fingerprint

    def piece(self, progress: Progress) -> bytes:
        """Of a route that failed and of the one that answered then, the last one counts."""
        self._system_fingerprint = progress.system_fingerprint
        self._choices = _encoder.encode(progress.payload)
        return self._choices

    def end(self, charge: Charge) -> bytes:
        head, choices = self._head, Raw(self._choices)
        usage = usage_view(charge)
        return _encoder.encode(
            Completion(head.id, "chat.completion", head.model, choices, usage, head.created, self._system_fingerprint)
        )

    def failed(self, error: GatewayError) -> bytes:
        return error_bytes(error)


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


class ChunkWriter:
    """The stream. Says the role once and first; `usage` is null until the end if it was asked for, else absent."""

    media_type = "text/event-stream; charset=utf-8"
    keepalive = KEEPALIVE_EVENT

    def __init__(self, head: Head, *, include_usage: bool, written: bytes = b"") -> None:
        self._id = head.id
        self._model = head.model
        self._created = head.created
        self._include_usage = include_usage
        self._system_fingerprint: str | UnsetType = head.system_fingerprint or UNSET
        self._written = written
        self._has_begun = False

    def piece(self, progress: Progress) -> bytes:
        if progress.system_fingerprint is not None:
            self._system_fingerprint = progress.system_fingerprint
        choices = progress.payload
        # One event a choice; nearly every chunk has one.
        events = (
            self._event(choices, None)
            if len(choices) == 1
            else b"".join([self._event((each,), None) for each in choices])
        )
        if self._has_begun:
            return events
        self._has_begun = True
        return self._event((_FIRST,), None) + events

    def end(self, charge: Charge) -> bytes:
        """The usage chunk if it was asked for, and the end mark."""
        usage = self._event((), usage_view(charge)) if self._include_usage else b""
        return self._written + usage + DONE_EVENT

    def failed(self, _error: GatewayError) -> bytes:
        return STREAM_FAILURE_EVENT

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
