"""What OpenAI-compatible providers send: whole answers and chunks of streams, as far as we read them. Pure.

Whatever is optional here has been seen absent or null. Half a tool call is malformed in a whole answer, and
usual in a stream, so tool calls and their functions are two shapes each.
"""

from msgspec import Raw, Struct


class FunctionIn(Struct, frozen=True):
    name: str
    arguments: str | None = None


class ToolCallIn(Struct, frozen=True):
    function: FunctionIn
    id: str | None = None


class FunctionFragmentIn(Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallFragmentIn(Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: FunctionFragmentIn | None = None


class _WordsIn(Struct, frozen=True, kw_only=True):
    """What a message and a piece of one have in common."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # what vLLM, llama.cpp and DeepSeek call it
    audio: Raw = Raw()


class MessageIn(_WordsIn, frozen=True, kw_only=True):
    reasoning_details: Raw = Raw()
    tool_calls: list[ToolCallIn] | None = None
    annotations: Raw = Raw()
    images: list[Raw] | None = None


class DeltaIn(_WordsIn, frozen=True, kw_only=True):
    reasoning_details: list[dict[str, Raw]] | None = None
    tool_calls: list[ToolCallFragmentIn] | None = None
    annotations: list[dict[str, Raw]] | None = None
    images: list[dict[str, Raw]] | None = None


class _EndIn(Struct, frozen=True, kw_only=True):
    """What a choice says beside its words, in a whole answer and in a stream."""

    index: int = 0
    finish_reason: str | None = None
    logprobs: Raw = Raw()
    error: Raw = Raw()


class ChoiceIn(_EndIn, frozen=True, kw_only=True):
    message: MessageIn


class ChoiceDeltaIn(_EndIn, frozen=True, kw_only=True):
    delta: DeltaIn | None = None


class _HeadIn(Struct, frozen=True, kw_only=True):
    """What an answer and a chunk say beside their choices."""

    id: str | None = None
    object: str | None = None
    system_fingerprint: str | None = None
    usage: Raw = Raw()
    error: Raw = Raw()


class AnswerIn(_HeadIn, frozen=True, kw_only=True):
    choices: list[ChoiceIn] | None = None


class ChunkIn(_HeadIn, frozen=True, kw_only=True):
    choices: list[ChoiceDeltaIn] | None = None
