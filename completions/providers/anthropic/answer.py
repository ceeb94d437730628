"""A whole answer of the Messages API → Progress. Pure.

Server tools (web search) are Anthropic's own business: their blocks are no calls of our client's, what
they found comes as annotations of the text. A refusal is a 200, with or without words.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from completions.ask import Progress
from completions.chat.answer import Choice, FunctionCall, Message, ToolCall, message_bytes
from completions.providers.anthropic.failure import failure_of_event
from completions.providers.anthropic.reasoning import FORMAT, place
from completions.providers.anthropic.usage import reported
from completions.upstream.failure import malformed

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",  # a long search that the client may take up by sending the answer back
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "compaction": "length",
    "refusal": "content_filter",
}

_NULL = Raw(b"null")
_encoder = msgspec.json.Encoder()


class Citation(Struct, frozen=True):
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None


class ContentBlock(Struct, frozen=True):
    type: str
    text: str | None = None
    citations: list[Citation] | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()


class StopDetails(Struct, frozen=True):
    explanation: str | None = None


class _AnswerIn(Struct, frozen=True):
    type: str | None = None
    id: str | None = None
    content: list[ContentBlock] | None = None
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: Raw = Raw()


_answer_decoder = msgspec.json.Decoder(_AnswerIn)


def answer(body: bytes, context_length: int) -> Progress:
    try:
        said = _answer_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Progress(failure=malformed(f"a body that is no message: {type(error).__name__}"))
    if said.type == "error":
        return Progress(failure=failure_of_event(body))
    if said.content is None:
        return Progress(failure=malformed("a message without content"), provider_ref=said.id)
    message = _message(said.content, said)
    finish = finish_reason(said.stop_reason, has_calls=bool(message.tool_calls))
    return Progress(
        payload=(Choice(0, message, finish, _NULL),),
        has_output=True,
        finish_reason=finish,
        reported=reported(said.usage, context_length),
        provider_ref=said.id,
        output_bytes=message_bytes(message),
    )


def finish_reason(stop_reason: str | None, *, has_calls: bool) -> str:
    if stop_reason is None:
        return "tool_calls" if has_calls else "stop"
    return _FINISH.get(stop_reason, "stop")


def refusal_text(stop_reason: str | None, details: StopDetails | None) -> str | None:
    """Why the model would not answer, in its vendor's words for it."""
    return details.explanation or None if stop_reason == "refusal" and details is not None else None


def detail(index: int, after: int = 0, **parts: Any) -> dict[str, Any]:
    """A thinking block as an entry of `reasoning_details`."""
    where = {"id": place(after)} if after else {}
    return {**parts, "format": FORMAT, "index": index, **where}


def annotation(citation: Citation, start: int, end: int) -> dict[str, Any]:
    """What a piece of the text is taken from."""
    cited = {"start_index": start, "end_index": end, "url": citation.url, "title": citation.title or citation.url}
    return {"type": "url_citation", "url_citation": {**cited, "content": citation.cited_text or ""}}


def _message(blocks: list[ContentBlock], said: _AnswerIn) -> Message:
    read = _Reader()
    for block in blocks:
        read.block(block)
    return Message(
        role="assistant",
        content=read.text or None,
        refusal=refusal_text(said.stop_reason, said.stop_details),
        reasoning=read.reasoning or None,
        reasoning_details=Raw(_encoder.encode(read.details)) if read.details else None,
        tool_calls=tuple(read.calls) or None,
        annotations=Raw(_encoder.encode(read.annotations)) if read.annotations else None,
    )


class _Reader:
    """Block after block of one message."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.details: list[dict[str, Any]] = []
        self.calls: list[ToolCall] = []
        self.annotations: list[dict[str, Any]] = []

    def block(self, block: ContentBlock) -> None:
        match block.type:
            case "text":
                self._text(block)
            case "thinking":
                self._thinking(block)
            case "redacted_thinking":
                self._detail(type="reasoning.encrypted", data=block.data or "")
            case "tool_use":
                arguments = _arguments(block.input)
                self.calls.append(ToolCall(block.id or "", "function", FunctionCall(block.name or "", arguments)))

    def _text(self, block: ContentBlock) -> None:
        start = len(self.text)
        self.text += block.text or ""
        found = (annotation(one, start, len(self.text)) for one in block.citations or () if one.url)
        self.annotations += found

    def _thinking(self, block: ContentBlock) -> None:
        self.reasoning += block.thinking or ""
        sealed = {"signature": block.signature} if block.signature else {}
        if block.thinking or sealed:
            self._detail(type="reasoning.text", text=block.thinking or "", **sealed)

    def _detail(self, **parts: str) -> None:
        self.details.append(detail(len(self.details), bool(self.text) + len(self.calls), **parts))


def _arguments(given: Raw) -> str:
    """The JSON text of a call's input, with blanks as streams have them."""
    return msgspec.json.format(given, indent=0).decode() if given else "{}"
