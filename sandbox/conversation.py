"""What a request asks and what is answered, without any provider's wire format.

A dialect (`openrouter.py`) turns bytes into a `Question`, the brain turns it into an `Answer`,
the dialect turns that into bytes again.
"""

from typing import Any, Literal

import msgspec

Json = Any  # a decoded JSON value: its shape is the schema's business
AttachmentKind = Literal["image", "audio", "file"]


class Refusal(Exception):
    """A request the provider does not answer; the dialect gives it its body."""

    def __init__(self, status: int, message: str, metadata: dict[str, Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.metadata = metadata


class Attachment(msgspec.Struct, frozen=True):
    """An image, a sound or a file in a message. `url` is empty when the bytes came with the message."""

    kind: AttachmentKind
    media_type: str
    size_bytes: int
    tokens: int
    width: int = 0
    height: int = 0
    url: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class Turn(msgspec.Struct, frozen=True):
    role: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


class Tool(msgspec.Struct, frozen=True):
    name: str
    description: str
    parameters: dict[str, Json]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request, validated. `json_schema` is None when plain text is wanted, {} for any object."""

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"  # auto, none, required, or the name of a tool
    parallel: bool = True
    json_schema: dict[str, Json] | None = None
    reasoning_tokens: int = 0
    reasoning_shown: bool = True
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    searches: int = 0
    speech: str = ""  # audio format of a spoken answer, or empty
    pictures: int = 0  # images to be made
    stream: bool = False
    top_logprobs: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(attachment for turn in self.turns for attachment in turn.attachments)

    def attached_tokens(self, kind: AttachmentKind) -> int:
        return sum(attachment.tokens for attachment in self.attachments if attachment.kind == kind)


class CallPieces(msgspec.Struct, frozen=True):
    """A tool call to be made, its arguments cut into tokens."""

    id: str
    name: str
    pieces: tuple[str, ...]
    tokens: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says, cut into tokens. `tokens` counts everything, the end token included."""

    pieces: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[CallPieces, ...] = ()
    finish: str = "stop"
    tokens: int = 0
