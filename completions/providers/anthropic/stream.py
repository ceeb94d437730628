"""Events of the Messages API → Progress. Pure; one decoder per stream.

Blocks are numbered over all kinds, our tool calls over calls alone. Events, blocks and deltas of kinds
we do not know are passed over, as Anthropic asks of its clients. A stream is whole with `message_stop`.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from completions.ask import Progress
from completions.chat.answer import ChoiceDelta, Delta, FunctionDelta, ToolCallDelta, delta_bytes
from completions.providers.anthropic.answer import (
    Citation,
    ContentBlock,
    StopDetails,
    annotation,
    detail,
    finish_reason,
    refusal_text,
)
from completions.providers.anthropic.failure import failure_of_event
from completions.providers.anthropic.usage import StreamUsage
from completions.upstream.failure import cut_off, malformed

BLOCKS_MAX = 10_000

_encoder = msgspec.json.Encoder()


class _Event(Struct, frozen=True):
    type: str
    index: Raw = Raw()
    message: Raw = Raw()
    content_block: Raw = Raw()
    delta: Raw = Raw()
    usage: Raw = Raw()


class _MessageIn(Struct, frozen=True):
    id: str | None = None
    usage: Raw = Raw()


class _DeltaIn(Struct, frozen=True):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Citation | None = None


class _EndIn(Struct, frozen=True):
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


_event_decoder = msgspec.json.Decoder(_Event)
_message_decoder = msgspec.json.Decoder(_MessageIn)
_block_decoder = msgspec.json.Decoder(ContentBlock)
_delta_decoder = msgspec.json.Decoder(_DeltaIn)
_end_decoder = msgspec.json.Decoder(_EndIn)


class _Open:
    """A block that is being told. `number` is ours: of the tool call, or of the reasoning detail."""

    def __init__(self, kind: str, number: int, start: int) -> None:
        self.kind = kind
        self.number = number
        self.start = start  # characters of text before it
        self.is_begun = False  # something of it was passed on
        self.citations: list[Citation] = []


class AnthropicStreamDecoder:
    """See `StreamDecoder`."""

    def __init__(self, context_length: int) -> None:
        self.finished = False
        self._usage = StreamUsage(context_length)
        self._open: dict[bytes, _Open] = {}
        self._calls = 0
        self._details = 0
        self._annotations = 0
        self._text_chars = 0
        self._is_ended = False

    def event(self, data: bytes) -> Progress | None:
        try:
            return self._meaning(_event_decoder.decode(data), data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Progress(failure=malformed(f"an event that is none: {type(error).__name__}"))

    def close(self) -> Progress | None:
        return None if self.finished else Progress(failure=cut_off())

    def _meaning(self, event: _Event, data: bytes) -> Progress | None:
        match event.type:
            case "content_block_delta":
                return _progress(self._delta(event))
            case "content_block_start":
                return _progress(self._start(event))
            case "content_block_stop":
                return _progress(self._stop(event))
            case "message_start":
                return self._begin(event)
            case "message_delta":
                return self._end(event)
            case "message_stop":
                return self._finish()
            case "error":
                return Progress(failure=failure_of_event(data))
        return None

    # --- the message --------------------------------------------------------------------------

    def _begin(self, event: _Event) -> Progress:
        said = _message_decoder.decode(event.message)
        return Progress(provider_ref=said.id, reported=self._usage.told(said.usage, is_partial=True))

    def _end(self, event: _Event) -> Progress:
        said = _end_decoder.decode(event.delta)
        reported = self._usage.told(event.usage, is_partial=False)
        if said.stop_reason is None or self._is_ended:
            return Progress(reported=reported)
        self._is_ended = True
        refusal = Delta(refusal=refusal_text(said.stop_reason, said.stop_details))
        finish = finish_reason(said.stop_reason, has_calls=bool(self._calls))
        choice = ChoiceDelta(0, refusal, finish)
        return Progress(
            payload=(choice,),
            has_output=True,
            output_bytes=delta_bytes(refusal),
            finish_reason=finish,
            reported=reported,
        )

    def _finish(self) -> Progress | None:
        self.finished = True
        if self._is_ended:
            return None
        finish = finish_reason(None, has_calls=bool(self._calls))
        return Progress(payload=(ChoiceDelta(0, Delta(), finish),), has_output=True, finish_reason=finish)

    # --- its blocks ---------------------------------------------------------------------------

    def _start(self, event: _Event) -> Delta | None:
        block = _block_decoder.decode(event.content_block)
        if len(self._open) >= BLOCKS_MAX:
            return None
        opened = self._open[bytes(event.index)] = _Open(block.type, 0, self._text_chars)
        match block.type:
            case "text":
                return self._text(block.text or "")
            case "tool_use":
                opened.number, self._calls = self._calls, self._calls + 1
                function = FunctionDelta(block.name or "", "")
                call = ToolCallDelta(index=opened.number, id=block.id or "", type="function", function=function)
                return Delta(tool_calls=[call])
            case "thinking":
                return self._thinking(opened, block.thinking or "") if block.thinking else None
            case "redacted_thinking":
                return Delta(
                    reasoning_details=[self._detail(opened, type="reasoning.encrypted", data=block.data or "")]
                )
        return None

    def _delta(self, event: _Event) -> Delta | None:
        opened = self._open.get(bytes(event.index))
        said = _delta_decoder.decode(event.delta)
        if opened is None:
            return None
        match (opened.kind, said.type):
            case ("text", "text_delta"):
                return self._text(said.text or "")
            case ("text", "citations_delta"):
                opened.citations += [said.citation] if said.citation and said.citation.url else []
            case ("thinking", "thinking_delta") if said.thinking:
                return self._thinking(opened, said.thinking)
            case ("thinking", "signature_delta") if said.signature:
                return self._signature(opened, said.signature)
            case ("tool_use", "input_json_delta") if said.partial_json:
                return self._input(opened, said.partial_json)
        return None

    def _stop(self, event: _Event) -> Delta | None:
        opened = self._open.pop(bytes(event.index), None)
        if opened is None:
            return None
        if opened.kind == "tool_use" and not opened.is_begun:
            return self._input(opened, "{}")
        return (
            Delta(annotations=[self._annotation(one, opened) for one in opened.citations]) if opened.citations else None
        )

    def _text(self, text: str) -> Delta | None:
        self._text_chars += len(text)
        return Delta(content=text) if text else None

    def _input(self, opened: _Open, piece: str) -> Delta:
        opened.is_begun = True
        return Delta(tool_calls=[ToolCallDelta(index=opened.number, function=FunctionDelta(arguments=piece))])

    def _thinking(self, opened: _Open, text: str) -> Delta:
        return Delta(reasoning=text, reasoning_details=[self._detail(opened, type="reasoning.text", text=text)])

    def _signature(self, opened: _Open, signature: str) -> Delta:
        text = {} if opened.is_begun else {"text": ""}  # all there is when the thinking is not shown
        return Delta(reasoning_details=[self._detail(opened, type="reasoning.text", **text, signature=signature)])

    def _detail(self, opened: _Open, **parts: str) -> dict[str, Raw]:
        """A fragment; what clients join as text is said once, with the first."""
        if opened.is_begun:
            return _raw({**parts, "index": opened.number})
        opened.is_begun = True
        opened.number, self._details = self._details, self._details + 1
        return _raw(detail(opened.number, bool(self._text_chars) + self._calls, **parts))

    def _annotation(self, citation: Citation, opened: _Open) -> dict[str, Raw]:
        told = annotation(citation, opened.start, self._text_chars)
        self._annotations += 1
        return _raw({**told, "index": self._annotations - 1})


def _progress(delta: Delta | None) -> Progress | None:
    if delta is None:
        return None
    return Progress(payload=(ChoiceDelta(0, delta),), has_output=True, output_bytes=delta_bytes(delta))


def _raw(told: dict[str, Any]) -> dict[str, Raw]:
    return {name: Raw(_encoder.encode(value)) for name, value in told.items()}
