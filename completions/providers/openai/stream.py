"""Events of an OpenAI-compatible stream → Progress. Pure; one decoder per stream.

Puts right what providers do and clients break on: repeated roles, repeated or absent
tool-call ids and indexes, finish reasons said twice, `error: null`, lists without indexes, usage in
any chunk. Names the provider's own fields nowhere, so they cannot leak.
"""

import secrets

import msgspec
from msgspec import Raw

from completions.ask import Progress, Reported
from completions.chat.answer import ChoiceDelta, Delta, FunctionDelta, ToolCallDelta, delta_bytes
from completions.chat.request import given
from completions.providers.openai.failure import failure_of_error
from completions.providers.openai.usage import reported
from completions.providers.openai.wire import ChoiceDeltaIn, ChunkIn, DeltaIn, ToolCallFragmentIn
from completions.upstream.failure import UpstreamFailure, cut_off, malformed

DONE = b"[DONE]"
CHOICES_MAX = 128
TOOL_CALLS_MAX = 1_024
FINISH_REASON_CHARS_MAX = 32

_NULL = Raw(b"null")
_EMPTY = Delta()
_SAID_ONCE = {"format", "id"}  # of a reasoning detail; SDKs know that `type` is no text to join


_chunk_decoder = msgspec.json.Decoder(ChunkIn)
_NOTHING = DeltaIn()


class OpenAIStreamDecoder:
    """See `StreamDecoder`. Remembers of every choice what was already said."""

    def __init__(self, context_length: int) -> None:
        self.finished = False
        self._context_length = context_length
        self._choices: dict[int, _ChoiceState] = {}

    def event(self, data: bytes) -> Progress | None:
        if data.strip() == DONE:
            return self._done()
        try:
            said = _chunk_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return Progress(failure=malformed(f"an event that is no chunk: {type(exc).__name__}"))
        failure = _failure(said, data)
        choices = [known for choice in said.choices or () if (known := self._choice(choice, failure)) is not None]
        finish_reason = None
        for choice in choices:
            finish_reason = choice.finish_reason or finish_reason
        return Progress(
            payload=tuple(choices),
            has_output=bool(choices),
            finish_reason=finish_reason,
            reported=self._reported(said.usage),
            failure=failure,
            provider_ref=said.id,
            system_fingerprint=said.system_fingerprint,
            output_bytes=sum([delta_bytes(choice.delta) for choice in choices]),
        )

    def close(self) -> Progress | None:
        if self.finished:
            return None
        self.finished = bool(self._choices) and all(state.finish_reason for state in self._choices.values())
        return None if self.finished else Progress(failure=cut_off())

    def _done(self) -> Progress | None:
        self.finished = True
        if not self._choices:
            return Progress(failure=malformed("a stream without a choice"))
        missing = [(index, state) for index, state in self._choices.items() if state.finish_reason is None]
        ends = [ChoiceDelta(index, _EMPTY, state.finish(state.likely_finish_reason())) for index, state in missing]
        return Progress(payload=tuple(ends), has_output=True, finish_reason=ends[-1].finish_reason) if ends else None

    def _choice(self, said: ChoiceDeltaIn, failure: UpstreamFailure | None) -> ChoiceDelta | None:
        state = self._choices.get(said.index)
        if state is None:
            if not 0 <= said.index < CHOICES_MAX:
                return None
            state = self._choices[said.index] = _ChoiceState()
        delta = state.delta(said.delta or _NOTHING)
        finish_reason = None if failure else state.finish(said.finish_reason)
        logprobs = said.logprobs if given(said.logprobs) else _NULL
        if finish_reason is None and logprobs is _NULL and delta == _EMPTY:
            return None
        return ChoiceDelta(said.index, delta, finish_reason, logprobs)

    def _reported(self, usage: Raw) -> Reported | None:
        if not usage:
            return None
        images = sum(state.images for state in self._choices.values())
        return reported(usage, images=images, context_length=self._context_length)


class _ChoiceState:
    """What of a choice was already said."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.images = 0
        self._calls: list[_CallState] = []
        self._named_calls = 0
        self._annotations = 0
        self._detail_types: dict[bytes, int] = {}
        self._said: set[tuple[bytes, str]] = set()

    def finish(self, reason: str | None) -> str | None:
        """The finish reason if it is new: providers say it on two chunks in a row."""
        if not reason or self.finish_reason is not None:
            return None
        self.finish_reason = reason[:FINISH_REASON_CHARS_MAX]
        return self.finish_reason

    def likely_finish_reason(self) -> str:
        return "tool_calls" if self._named_calls else "stop"

    def delta(self, said: DeltaIn) -> Delta:
        return Delta(
            content=said.content or None,
            refusal=said.refusal or None,
            reasoning=said.reasoning or said.reasoning_content or None,
            reasoning_details=self._details(said.reasoning_details) if said.reasoning_details else None,
            tool_calls=self._fragments(said.tool_calls) if said.tool_calls else None,
            annotations=self._with_annotation_indexes(said.annotations) if said.annotations else None,
            images=self._with_image_indexes(said.images) if said.images else None,
            audio=said.audio if given(said.audio) else None,
        )

    # An SDK that merges deltas needs an integer index on every object of a list, and joins the
    # strings of those with the same index: what is said again would be doubled.

    def _details(self, details: list[dict[str, Raw]]) -> list[dict[str, Raw]]:
        for detail in details:
            if not _has_index(detail):
                kind = bytes(detail.get("type", _NULL))
                detail["index"] = _raw(self._detail_types.setdefault(kind, len(self._detail_types)))
            for name in _SAID_ONCE & detail.keys():
                self._say_once(detail, name)
        return details

    def _say_once(self, detail: dict[str, Raw], name: str) -> None:
        said = (bytes(detail["index"]), name)
        if said in self._said:
            del detail[name]
        else:
            self._said.add(said)

    def _with_annotation_indexes(self, annotations: list[dict[str, Raw]]) -> list[dict[str, Raw]]:
        for annotation in annotations:
            if not _has_index(annotation):
                annotation["index"] = _raw(self._annotations)
            self._annotations += 1
        return annotations

    def _with_image_indexes(self, images: list[dict[str, Raw]]) -> list[dict[str, Raw]]:
        for image in images:
            if not _has_index(image):
                image["index"] = _raw(self.images)
            self.images += 1
        return images

    def _fragments(self, said: list[ToolCallFragmentIn]) -> list[ToolCallDelta] | None:
        fragments = (self._fragment(call) for call in said)
        return [fragment for fragment in fragments if fragment is not None] or None

    def _fragment(self, said: ToolCallFragmentIn) -> ToolCallDelta | None:
        call = self._call(said)
        if call is None:
            return None
        name, arguments = _function(said)
        if call.index is not None:
            return ToolCallDelta(index=call.index, function=FunctionDelta(arguments=arguments)) if arguments else None
        if not name:
            call.early_arguments += arguments  # clients need the name first
            return None
        call.index, self._named_calls = self._named_calls, self._named_calls + 1
        function = FunctionDelta(name, call.early_arguments + arguments)
        return ToolCallDelta(index=call.index, id=call.id, type="function", function=function)

    def _call(self, said: ToolCallFragmentIn) -> "_CallState | None":
        """The call a fragment belongs to; None beyond the limit."""
        for call in reversed(self._calls):
            if call.continues_with(said):
                return call
        if len(self._calls) >= TOOL_CALLS_MAX:
            return None
        call = _CallState(said.id or new_call_id(), said.index)
        self._calls.append(call)
        return call


class _CallState:
    """One tool call. `index` is ours, contiguous from 0, given with the name; id, type and name are said once."""

    def __init__(self, call_id: str, upstream_index: int | None) -> None:
        self.id = call_id
        self.index: int | None = None
        self.early_arguments = ""
        self._upstream_index = upstream_index

    def continues_with(self, said: ToolCallFragmentIn) -> bool:
        """Some servers number every call 0 and tell them apart by id, some give every fragment a new id, and
        some send whole calls without a number: a new call is what comes with a name and no known id."""
        if said.id == self.id:
            return True
        name, _ = _function(said)
        if said.index is None:
            return not name
        return said.index == self._upstream_index and not (said.id and name)


def new_call_id() -> str:
    """For servers that give their calls none; a result can only be sent back to an id."""
    return f"call_{secrets.token_hex(12)}"


def _failure(said: ChunkIn, data: bytes) -> UpstreamFailure | None:
    if (said.error and given(said.error)) or said.object == "error":
        return failure_of_error(data)
    for choice in said.choices or ():
        if (choice.error and given(choice.error)) or choice.finish_reason == "error":
            return failure_of_error(bytes(choice.error))
    if said.choices is None and not given(said.usage):
        return malformed("an event without choices")
    return None


def _function(said: ToolCallFragmentIn) -> tuple[str, str]:
    function = said.function
    return ((function.name or ""), (function.arguments or "")) if function else ("", "")


def _has_index(item: dict[str, Raw]) -> bool:
    return bytes(item.get("index", _NULL)).isdigit()


def _raw(number: int) -> Raw:
    return Raw(b"%d" % number)
