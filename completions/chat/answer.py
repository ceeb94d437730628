"""What a model says in a chat, in the house's words: messages of whole answers, deltas of streams. Pure.

`Choice`s are the payload of a whole answer's Progress, `ChoiceDelta`s of a streamed one's (completions/ask.py).
"""

from typing import Literal

from msgspec import Raw, Struct, field


class FunctionCall(Struct, frozen=True):
    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    id: str
    type: str
    function: FunctionCall


class Message(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The assistant's message as our client sees it. `content` and `refusal` are always there."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning: str | None = None
    reasoning_details: Raw | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    annotations: Raw | None = None
    images: Raw | None = None
    audio: Raw | None = None


class Choice(Struct, frozen=True):
    index: int
    message: Message
    finish_reason: str
    logprobs: Raw


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A fragment of a call: `index`, and id, type and name with the first fragment only."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta


class Delta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one event adds, never an empty string. The role is said by the writer of our stream alone, once."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Raw]] | None = None
    tool_calls: list[ToolCallDelta] | None = None
    annotations: list[dict[str, Raw]] | None = None
    images: list[dict[str, Raw]] | None = None
    audio: Raw | None = None


def no_logprobs() -> Raw:
    return Raw(b"null")


class ChoiceDelta(Struct, frozen=True):
    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: Raw = field(default_factory=no_logprobs)  # not as a value: a JSON schema could not hold it


def message_bytes(message: Message) -> int:
    """UTF-8 bytes of what the model wrote."""
    texts = [message.content, message.reasoning, message.refusal]
    for call in message.tool_calls or ():
        texts += [call.function.name, call.function.arguments]
    return sum(_utf8_bytes(text) for text in texts)


def delta_bytes(delta: Delta) -> int:
    size = _utf8_bytes(delta.content) + _utf8_bytes(delta.reasoning) + _utf8_bytes(delta.refusal)
    for call in delta.tool_calls or ():
        size += _utf8_bytes(call.function.name) + _utf8_bytes(call.function.arguments)
    return size


def _utf8_bytes(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())
