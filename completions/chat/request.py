"""Body → Chat: the one place where a request is read.

Promises: the top level holds exactly the fields of the public API, every one typed and in range, and
every refusal names its field. Inside messages it is tolerant of what SDKs echo back. What the client
sent is kept byte for byte in `Chat.raw`, so adapters forward it without encoding it again.

The OpenAPI document is derived from these structs (openapi.py). A Raw that may be absent has a factory: as a plain
default it could not be written into a JSON schema.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from common.numbers import BIGINT_MAX, INTEGER_MAX
from completions import errors
from completions.decoding import Refusal

MODEL_CHARS_MAX = 256
MESSAGES_MAX = 100_000
PARTS_MAX = 10_000
TOOLS_MAX = 1_024
OUTPUT_TOKENS_MAX = INTEGER_MAX
FUNCTION_NAME_CHARS_MAX = 64
BIAS_MAX = 100
METADATA_PAIRS_MAX, METADATA_KEY_CHARS_MAX, METADATA_VALUE_CHARS_MAX = 16, 64, 512


# --- Messages: typed as far as we read them, everything else passes -------------------------------

FunctionName = Annotated[str, Meta(min_length=1, max_length=FUNCTION_NAME_CHARS_MAX, pattern=r"\A[a-zA-Z0-9_-]+\Z")]


class TextPart(Struct, frozen=True, tag="text"):
    text: str
    cache_control: Raw = field(default_factory=Raw)


class RefusalPart(Struct, frozen=True, tag="refusal"):
    refusal: str


class ImageUrl(Struct, frozen=True):
    url: Annotated[str, Meta(pattern=r"\A(https?://|data:)")]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Struct, frozen=True, tag="image_url"):
    image_url: ImageUrl
    cache_control: Raw = field(default_factory=Raw)


class InputAudio(Struct, frozen=True):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Struct, frozen=True, tag="input_audio"):
    input_audio: InputAudio


class File(Struct, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    def __post_init__(self) -> None:
        # An id would name a file in our own account upstream, where every tenant's files lie.
        if self.file_id is not None:
            raise Refusal(errors.InvalidRequest, "file_id", "is not supported: send the file in 'file_data'")
        if self.file_data is None:
            raise Refusal(errors.MissingField, "file_data")


class FilePart(Struct, frozen=True, tag="file"):
    file: File
    cache_control: Raw = field(default_factory=Raw)


UserPart = TextPart | ImagePart | AudioPart | FilePart
TextParts = Annotated[list[TextPart], Meta(min_length=1, max_length=PARTS_MAX)]
UserParts = Annotated[list[UserPart], Meta(min_length=1, max_length=PARTS_MAX)]
AssistantParts = Annotated[list[TextPart | RefusalPart], Meta(max_length=PARTS_MAX)]


class CalledFunction(Struct, frozen=True):
    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class SystemMessage(Struct, frozen=True, tag_field="role", tag="system"):
    content: str | TextParts
    name: str | None = None


class DeveloperMessage(Struct, frozen=True, tag_field="role", tag="developer"):
    content: str | TextParts
    name: str | None = None


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    content: str | UserParts
    name: str | None = None


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    """Everything a client may echo of an earlier answer, ours or another server's."""

    content: str | AssistantParts | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: Raw = field(default_factory=Raw)
    audio: Raw = field(default_factory=Raw)
    function_call: Raw = field(default_factory=Raw)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.content is None and not self.tool_calls and not self._says_something_else():
            raise Refusal(errors.MissingField, "content")

    def _says_something_else(self) -> bool:
        spoken = self.refusal is not None or self.reasoning is not None or self.reasoning_content is not None
        return spoken or any(given(raw) for raw in (self.audio, self.function_call, self.reasoning_details))


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    tool_call_id: Annotated[str, Meta(min_length=1)]
    content: str | TextParts


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


# --- The objects of the top level -----------------------------------------------------------------


class Function(Struct, frozen=True):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Raw] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    type: Literal["function"]
    function: Function
    cache_control: Raw = field(default_factory=Raw)


class NamedFunction(Struct, frozen=True):
    name: FunctionName


class NamedTool(Struct, frozen=True):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Struct, frozen=True):
    name: FunctionName
    description: str | None = None
    schema: dict[str, Raw] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def __post_init__(self) -> None:
        if self.type == "json_schema" and self.json_schema is None:
            raise Refusal(errors.MissingField, "json_schema")


class VoiceId(Struct, frozen=True):
    id: str


class AudioOutput(Struct, frozen=True):
    voice: str | VoiceId
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]


class Reasoning(Struct, frozen=True, forbid_unknown_fields=True):
    effort: Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=OUTPUT_TOKENS_MAX)] | None = None
    exclude: bool | None = None
    enabled: bool | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "all_turns", "current_turn"] | None = None

    def __post_init__(self) -> None:
        if self.effort is not None and self.max_tokens is not None:
            raise Refusal(errors.InvalidRequest, "", "takes 'effort' or 'max_tokens', not both")

    @property
    def is_off(self) -> bool:
        """Asks for no reasoning at all, or says nothing about it."""
        if self.enabled is False or self.effort == "none":
            return True
        return not self.enabled and self.effort is None and self.max_tokens is None


class Place(Struct, frozen=True):
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class UserLocation(Struct, frozen=True):
    type: Literal["approximate"]
    approximate: Place


class WebSearchOptions(Struct, frozen=True):
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: UserLocation | None = None


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None

    def __post_init__(self) -> None:
        if self.include_obfuscation:
            raise Refusal(errors.InvalidRequest, "include_obfuscation", "is not offered: leave it out or send false")


OutputTokens = Annotated[int, Meta(ge=1, le=OUTPUT_TOKENS_MAX)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-BIAS_MAX, le=BIAS_MAX)]
TokenId = Annotated[str, Meta(pattern=r"\A[0-9]+\Z")]
MetadataKey = Annotated[str, Meta(max_length=METADATA_KEY_CHARS_MAX)]
MetadataValue = Annotated[str, Meta(max_length=METADATA_VALUE_CHARS_MAX)]


class Fields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The top level of a request, exactly the fields of the public API. Null is the same as absent."""

    model: Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, Meta(ge=0, le=INTEGER_MAX)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=4)] | None = None
    seed: Annotated[int, Meta(ge=-BIGINT_MAX - 1, le=BIGINT_MAX)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text", "audio", "image"]] | None = None
    audio: AudioOutput | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    web_search_options: WebSearchOptions | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=METADATA_PAIRS_MAX)] | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def __post_init__(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise Refusal(errors.InvalidRequest, "stream_options", "is only allowed with 'stream': true")
        if self.top_logprobs and not self.logprobs:
            raise Refusal(errors.InvalidRequest, "top_logprobs", "is only allowed with 'logprobs': true")
        if self.top_k is not None and not self.top_k.is_integer():
            raise Refusal(errors.OutOfRange, "top_k", "must be a whole number, 0 or above")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise Refusal(errors.InvalidRequest, "tool_choice", "is only allowed with 'tools'")


_RAW_NULL = Raw(b"null")


def given(raw: Raw) -> bool:
    """Whether a raw value is there and not null."""
    return bool(raw) and raw != _RAW_NULL


class Chat(Struct, frozen=True):
    """A validated request. `raw` holds the client's own bytes of every top-level field it sent, cut from `body`."""

    fields: Fields
    raw: dict[str, Raw]
    body: bytes

    @property
    def messages(self) -> list[Message]:
        return self.fields.messages

    @property
    def include_usage(self) -> bool:
        options = self.fields.stream_options
        return options is not None and bool(options.include_usage)
