"""The request: bytes → Question, or the refusal OpenRouter would answer with.

Unknown top-level fields and parameters a model does not know are ignored, as OpenRouter does.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sandbox import images, tokens
from sandbox.cards import Card
from sandbox.conversation import Attachment, Question, Refusal, Tool, ToolCall, Turn

# Tokens spent on reasoning by effort; a budget in tokens is used up to MEDIUM.
EFFORTS = {"none": 0, "minimal": 8, "low": 16, "medium": 32, "high": 64, "xhigh": 96, "max": 128}
SPOKEN_FORMATS = ("wav", "pcm16")

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Tokens = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Some = Annotated[str, Meta(min_length=1)]


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(Struct, frozen=True):
    url: Some
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class InputAudio(Struct, frozen=True):
    data: Some
    format: Some


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    input_audio: InputAudio


class FileSource(Struct, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    file: FileSource


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    refusal: str


class FunctionCall(Struct, frozen=True):
    name: Some
    arguments: str


class MadeCall(Struct, frozen=True):
    id: Some
    function: FunctionCall
    type: Literal["function"] = "function"


class SystemMessage(Struct, frozen=True, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(Struct, frozen=True, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart | AudioPart | FilePart]
    name: str | None = None


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    tool_calls: list[MadeCall] | None = None
    name: str | None = None


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    content: str | list[TextPart | ImagePart]
    tool_call_id: Some


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(Struct, frozen=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolOffer(Struct, frozen=True):
    type: Literal["function"]
    function: Function


class FunctionName(Struct, frozen=True):
    name: Name


class NamedTool(Struct, frozen=True):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Struct, frozen=True):
    name: Name
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Reasoning(Struct, frozen=True):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    max_tokens: Tokens | None = None
    exclude: bool | None = None
    enabled: bool | None = None


class Voice(Struct, frozen=True):
    voice: str | dict[str, Any]
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]


class Request(Struct, frozen=True):
    model: Some
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Share | None = None
    top_a: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    stop: str | Annotated[list[str], Meta(min_length=1, max_length=4)] | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[list[Literal["text", "audio", "image"]], Meta(min_length=1)] | None = None
    audio: Voice | None = None
    tools: list[ToolOffer] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    web_search_options: dict[str, Any] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16),
        ]
        | None
    ) = None
    user: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    @property
    def bound(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def question(self, card: Card) -> Question:
        return question(self, card)


_DECODER = msgspec.json.Decoder(Request)


def decode(body: bytes) -> Request:
    """Raises Refusal with the field that is wrong."""
    try:
        request = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"Input validation error: {error}", {"error_type": "invalid_request"}) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "Request body is not valid JSON", {"error_type": "invalid_request"}) from error
    _check(request)
    return request


def question(request: Request, card: Card) -> Question:
    """What is asked of this model. Raises Refusal for what it cannot do."""
    turns = tuple(_turn(message) for message in request.messages)
    tools = tuple(_tool(offer.function) for offer in request.tools or ())
    _check_abilities(request, turns, card)
    tools_json = msgspec.json.encode(request.tools).decode() if tools else ""
    asked = Question(
        model=request.model,
        turns=turns,
        tools=tools,
        tool_choice=_tool_choice(request),
        parallel=request.parallel_tool_calls is not False,
        json_schema=_json_schema(request.response_format, card),
        reasoning_tokens=_reasoning_tokens(request.reasoning) if "reasoning" in card.capabilities else 0,
        reasoning_shown=not (request.reasoning and request.reasoning.exclude),
        max_tokens=request.bound,
        stop=_stops(request.stop),
        seed=request.seed,
        searches=1 if request.web_search_options is not None and "web_search" in card.capabilities else 0,
        speech=request.audio.format if request.audio and "audio" in (request.modalities or ()) else "",
        pictures=1 if "image" in (request.modalities or ()) else 0,
        stream=bool(request.stream),
        top_logprobs=_top_logprobs(request) if "logprobs" in card.capabilities else None,
        prompt_tokens=tokens.prompt_tokens(turns, tools, tools_json),
    )
    _check_context(asked, card)
    return asked


# --- Rules between fields -------------------------------------------------------------------


def _invalid(message: str) -> Refusal:
    return Refusal(400, message, {"error_type": "invalid_request"})


def _check(request: Request) -> None:
    for at, message in enumerate(request.messages):
        _check_message(message, f"messages[{at}]")
    _check_tool_order(request.messages)
    _check_tool_choice(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise _invalid("top_logprobs requires logprobs to be true")
    if request.stream_options is not None and not request.stream:
        raise _invalid("stream_options is only allowed when stream is true")
    if request.reasoning and request.reasoning.effort and request.reasoning.max_tokens:
        raise _invalid('Only one of "reasoning.effort" and "reasoning.max_tokens" can be specified')
    if request.response_format and request.response_format.type == "json_schema":
        _check_schema(request.response_format)
    _check_speech(request)


def _check_message(message: Message, where: str) -> None:
    if isinstance(message, AssistantMessage) and message.tool_calls:
        return
    if isinstance(message, ToolMessage):
        return
    if not message.content or not any(_is_something(part) for part in message.content):
        raise _invalid(f"{where}.content must not be empty")


def _is_something(part: Any) -> bool:
    return bool(part.text) if isinstance(part, TextPart) else True


def _check_tool_order(messages: list[Message]) -> None:
    """Every tool result answers a call of the assistant message before it, and every call is answered."""
    waiting: set[str] = set()
    for at, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                raise _invalid(f"messages[{at}]: tool_call_id {message.tool_call_id!r} answers no preceding tool call")
            waiting.discard(message.tool_call_id)
            continue
        if waiting:
            raise _invalid(f"messages[{at}]: tool calls without a tool message before it: {', '.join(sorted(waiting))}")
        if isinstance(message, AssistantMessage):
            waiting = {call.id for call in message.tool_calls or ()}
    if waiting:
        raise _invalid(f"messages: tool calls without a tool message: {', '.join(sorted(waiting))}")


def _check_tool_choice(request: Request) -> None:
    offered = {offer.function.name for offer in request.tools or ()}
    if isinstance(request.tool_choice, NamedTool) and request.tool_choice.function.name not in offered:
        raise _invalid(f"tool_choice names {request.tool_choice.function.name!r}, which is not in tools")
    if request.tool_choice == "required" and not offered:
        raise _invalid("tool_choice is only allowed when tools are specified")


def _check_schema(response_format: ResponseFormat) -> None:
    if response_format.json_schema is None:
        raise _invalid("response_format.json_schema is required when response_format.type is json_schema")


def _check_speech(request: Request) -> None:
    if "audio" not in (request.modalities or ()):
        return
    if request.audio is None:
        raise _invalid("audio is required when modalities contain audio")
    if request.audio.format not in SPOKEN_FORMATS:
        raise _invalid(f"audio.format: this model speaks {' and '.join(SPOKEN_FORMATS)}")


def _check_abilities(request: Request, turns: tuple[Turn, ...], card: Card) -> None:
    """OpenRouter finds no endpoint for inputs, outputs and tools that no provider of the model takes."""
    kinds = {attachment.kind for turn in turns for attachment in turn.attachments}
    needed = [f"{kind}_input" for kind in sorted(kinds)]
    needed += [f"{word}_output" for word in request.modalities or () if word != "text"]
    for ability in needed:
        if ability not in card.capabilities:
            raise Refusal(404, f"No endpoints found that support {ability.replace('_', ' ')}")
    if request.tools and "tools" not in card.capabilities:
        raise Refusal(404, "No endpoints found that support tool use")


def _check_context(asked: Question, card: Card) -> None:
    wanted = asked.prompt_tokens + (asked.max_tokens or 0)
    if wanted > card.context_length or asked.prompt_tokens >= card.context_length:
        message = (
            f"This endpoint's maximum context length is {card.context_length} tokens. However, you requested about "
            f"{wanted} tokens ({asked.prompt_tokens} of text input, {asked.max_tokens or 0} in the output). Please "
            "reduce the length of either one, or use the context-compression plugin."
        )
        raise Refusal(400, message, {"error_type": "context_length_exceeded"})


# --- Fields of the question -----------------------------------------------------------------


def _turn(message: Message) -> Turn:
    if isinstance(message, AssistantMessage):
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ())
        return Turn("assistant", _text(message.content), tool_calls=calls, name=message.name or "")
    attachments = tuple(_attachment(part) for part in message.content if not isinstance(part, str | TextPart))
    if isinstance(message, ToolMessage):
        return Turn("tool", _text(message.content), attachments, tool_call_id=message.tool_call_id)
    return Turn(_role(message), _text(message.content), attachments, name=message.name or "")


def _role(message: SystemMessage | DeveloperMessage | UserMessage) -> str:
    return "user" if isinstance(message, UserMessage) else "system"


def _text(content: str | list[Any] | None) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, TextPart) else "" for part in content or ()).strip("\n")


def _attachment(part: ImagePart | AudioPart | FilePart) -> Attachment:
    return _ATTACHED[type(part)](part)


def _image(part: ImagePart) -> Attachment:
    url, low = part.image_url.url, part.image_url.detail == "low"
    if url.startswith(("https://", "http://")):
        return Attachment("image", "image/*", 0, tokens.image_tokens(0, 0, low), url=url)
    data = _data_url(url, "invalid_image")
    size = images.measure(data)
    if size is None:
        raise Refusal(400, "The image is not a PNG, JPEG, GIF or WebP", {"error_type": "unsupported_image_format"})
    counted = tokens.image_tokens(size.width, size.height, low)
    return Attachment("image", size.media_type, len(data), counted, size.width, size.height)


def _audio(part: AudioPart) -> Attachment:
    data = _from_base64(part.input_audio.data, "invalid_request")
    return Attachment("audio", f"audio/{part.input_audio.format}", len(data), tokens.audio_tokens(len(data)))


def _file(part: FilePart) -> Attachment:
    given = part.file.file_data or part.file.file_id
    if not given:
        raise _invalid("file needs file_data or file_id")
    if part.file.file_data is None or given.startswith(("https://", "http://")):
        return Attachment("file", "application/octet-stream", 0, tokens.file_tokens(0), url=given)
    data = _data_url(given, "invalid_request")
    media_type = given.removeprefix("data:").partition(";")[0]
    return Attachment("file", media_type, len(data), tokens.file_tokens(len(data)))


_ATTACHED: dict[type, Callable[[Any], Attachment]] = {ImagePart: _image, AudioPart: _audio, FilePart: _file}


def _data_url(url: str, error_type: str) -> bytes:
    head, comma, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma:
        raise Refusal(400, "A URL must be http(s) or a base64 data URL", {"error_type": error_type})
    return _from_base64(data, error_type)


def _from_base64(data: str, error_type: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "The data is not valid base64", {"error_type": error_type}) from error


def _tool(function: Function) -> Tool:
    return Tool(function.name, function.description or "", function.parameters or {})


def _tool_choice(request: Request) -> str:
    if isinstance(request.tool_choice, NamedTool):
        return request.tool_choice.function.name
    return request.tool_choice or "auto"


def _json_schema(response_format: ResponseFormat | None, card: Card) -> dict[str, Any] | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return {} if "json_mode" in card.capabilities else None
    schema = response_format.json_schema.schema if response_format.json_schema else None
    return schema or {} if "structured_outputs" in card.capabilities else None


def _reasoning_tokens(reasoning: Reasoning | None) -> int:
    if reasoning is None or reasoning.enabled is False:
        return 0
    if reasoning.max_tokens is not None:
        return min(reasoning.max_tokens, EFFORTS["medium"])
    if reasoning.effort is None:
        return EFFORTS["medium"] if reasoning.enabled else 0
    return EFFORTS[reasoning.effort]


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    given = [stop] if isinstance(stop, str) else stop or []
    return tuple(one for one in given if one)


def _top_logprobs(request: Request) -> int | None:
    return (request.top_logprobs or 0) if request.logprobs else None
