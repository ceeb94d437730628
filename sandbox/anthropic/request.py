"""The body of a Messages request: bytes → typed, or the refusal Anthropic answers with. Unknown keys are refused."""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from sandbox.conversation import Refusal

VERSIONS = ("2023-06-01", "2026-10-21")
_MESSAGES_MAX = 100_000

Some = Annotated[str, Meta(min_length=1)]
Id = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+$")]
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
Share = Annotated[float, Meta(ge=0, le=1)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class CacheControl(Strict, frozen=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class Base64Source(Strict, frozen=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf"]
    data: Some


class UrlSource(Strict, frozen=True, tag_field="type", tag="url"):
    url: Some


Source = Base64Source | UrlSource


class Block(Strict, frozen=True, kw_only=True, tag_field="type"):
    cache_control: CacheControl | None = None


class Text(Block, frozen=True, kw_only=True, tag="text"):
    text: str


class Image(Block, frozen=True, kw_only=True, tag="image"):
    source: Source


class Document(Block, frozen=True, kw_only=True, tag="document"):
    source: Source
    title: str = ""


class ToolUse(Block, frozen=True, kw_only=True, tag="tool_use"):
    id: Id
    name: ToolName
    input: dict[str, Any]


class ToolResult(Block, frozen=True, kw_only=True, tag="tool_result"):
    tool_use_id: Id
    content: "str | list[Text | Image | Document]" = ""
    is_error: bool = False


class Thinking(Strict, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: Some


class RedactedThinking(Strict, frozen=True, tag_field="type", tag="redacted_thinking"):
    data: Some


Content = Text | Image | Document | ToolUse | ToolResult | Thinking | RedactedThinking


class Message(Strict, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Content]

    @property
    def blocks(self) -> list[Content]:
        return [Text(text=self.content)] if isinstance(self.content, str) else self.content


class Tool(Strict, frozen=True, kw_only=True):
    name: ToolName
    description: str = ""
    input_schema: dict[str, Any]
    type: Literal["custom"] = "custom"
    strict: bool = False
    cache_control: CacheControl | None = None


class Place(Strict, frozen=True, kw_only=True):
    type: Literal["approximate"]
    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class WebSearch(Strict, frozen=True, kw_only=True):
    type: Literal["web_search_20250305", "web_search_20260209", "web_search_20260318"]
    name: Literal["web_search"]
    max_uses: Annotated[int, Meta(ge=1)] = 1
    user_location: Place | None = None
    cache_control: CacheControl | None = None


class AutoChoice(Strict, frozen=True, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool = False


class AnyChoice(Strict, frozen=True, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool = False


class ToolChoice(Strict, frozen=True, kw_only=True, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool = False


class NoChoice(Strict, frozen=True, tag_field="type", tag="none"):
    pass


class Adaptive(Strict, frozen=True, tag_field="type", tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None


class Enabled(Strict, frozen=True, kw_only=True, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1024)]
    display: Literal["summarized", "omitted"] | None = None


class Disabled(Strict, frozen=True, tag_field="type", tag="disabled"):
    pass


class BetweenTools(Strict, frozen=True, tag_field="type", tag="between_tools"):
    pass


class Format(Strict, frozen=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Strict, frozen=True, kw_only=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Metadata(Strict, frozen=True):
    user_id: Annotated[str, Meta(max_length=512)] | None = None


class Asked(Strict, frozen=True, kw_only=True):
    """What counting tokens and answering have in common."""

    model: Some
    messages: Annotated[list[Message], Meta(min_length=1, max_length=_MESSAGES_MAX)]
    system: str | list[Text] = ""
    tools: list[Raw] = []
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoChoice | None = None
    thinking: Adaptive | Enabled | Disabled | BetweenTools | None = None
    output_config: OutputConfig = OutputConfig()
    cache_control: CacheControl | None = None

    @property
    def functions(self) -> list[Tool]:
        return [tool for tool in self.offered if isinstance(tool, Tool)]

    @property
    def search(self) -> WebSearch | None:
        return next((tool for tool in self.offered if isinstance(tool, WebSearch)), None)

    @property
    def offered(self) -> list[Tool | WebSearch]:
        """Anthropic tells tools apart by a type that may be absent."""
        return [_tool(raw, at) for at, raw in enumerate(self.tools)]

    @property
    def system_blocks(self) -> list[Text]:
        return [Text(text=self.system)] if isinstance(self.system, str) and self.system else list(self.system)  # type: ignore[arg-type]


class Body(Asked, frozen=True, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1)]
    stop_sequences: list[str] = []
    stream: bool = False
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    metadata: Metadata = Metadata()
    service_tier: Literal["auto", "standard_only"] = "auto"


class _Kind(Struct, frozen=True):
    type: str = "custom"


_body_decoder = msgspec.json.Decoder(Body)
_asked_decoder = msgspec.json.Decoder(Asked)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`\Z")


def decode_body(body: bytes) -> Body:
    return _decoded(_body_decoder, body)


def decode_asked(body: bytes) -> Asked:
    return _decoded(_asked_decoder, body)


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(_told(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("The request body is not valid JSON") from error


def _tool(raw: Raw, at: int) -> Tool | WebSearch:
    try:
        kind = msgspec.json.decode(raw, type=_Kind).type
        return msgspec.json.decode(raw, type=Tool if kind == "custom" else WebSearch)  # type: ignore[return-value]
    except msgspec.ValidationError as error:
        raise invalid(_told(str(error), f"tools.{at}")) from error


def _told(text: str, root: str = "") -> str:
    """`messages.0.content.1.text: Extra inputs are not permitted`"""
    place = _PLACE.search(text)
    path = [root, *re.split(r"\.|\[|\]\.?", place[1])] if place else [root]
    said = text[: place.start()] if place else text
    for pattern, meaning in ((_UNKNOWN, "Extra inputs are not permitted"), (_MISSING, "Field required")):
        if found := pattern.match(said):
            path, said = [*path, found[1]], meaning
    where = ".".join(part for part in path if part)
    return f"{where}: {said}" if where else said
