"""A checked request → the Question that the brain answers; counted as OpenRouter's face counts the same talk."""

import base64
from typing import Any

import msgspec

from sandbox import images, tokens
from sandbox.anthropic import history, rules
from sandbox.anthropic.cache import CacheMark
from sandbox.anthropic.generations import Generation
from sandbox.anthropic.request import (
    AnyChoice,
    Asked,
    Base64Source,
    Block,
    Body,
    CacheControl,
    Document,
    Enabled,
    Image,
    Message,
    NoChoice,
    Source,
    Text,
    ToolChoice,
    ToolResult,
    ToolUse,
    invalid,
)
from sandbox.conversation import Attachment, Question, Tool, ToolCall, Turn
from sandbox.openrouter.request import EFFORTS

# What the vendor's documentation gives to make a model's thinking come redacted.
REDACTED = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"


class ClaudeQuestion(Question, frozen=True, kw_only=True):
    """`prefix`: what the answer's thoughts are bound to."""

    prefix: bytes
    redacted: bool


def question(body: Body, generation: Generation) -> ClaudeQuestion:
    turns = _turns(body)
    return ClaudeQuestion(
        model=body.model,
        turns=turns,
        tools=_tools(body),
        tool_choice=_tool_choice(body),
        parallel=not getattr(body.tool_choice, "disable_parallel_tool_use", False),
        json_schema=body.output_config.format.schema if body.output_config.format else None,
        reasoning_tokens=_reasoning_tokens(body, generation),
        reasoning_shown=_is_shown(body, generation),
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences),
        searches=1 if body.search and not isinstance(body.tool_choice, NoChoice) else 0,
        stream=body.stream,
        prompt_tokens=_fitting(prompt_tokens(body), generation),
        prefix=history.prefix(body, len(body.messages)),
        redacted=REDACTED in (turns[-1].text if turns else ""),
    )


def prompt_tokens(asked: Asked) -> int:
    return tokens.prompt_tokens(_turns(asked), _tools(asked), _tools_json(asked))


def cache_marks(asked: Asked) -> list[CacheMark]:
    """Every marked place in the order of the prompt (tools, system, messages), with all that leads to it."""
    marks: list[CacheMark] = []
    counted = tokens.prompt_tokens((), _tools(asked), _tools_json(asked)) - tokens.REPLY_PRIMER_TOKENS
    without_system = msgspec.structs.replace(asked, system="")
    _note(marks, without_system, 0, counted, [tool.cache_control for tool in asked.offered])
    counted += sum(map(tokens.turn_tokens, _system_turns(asked)))
    _note(marks, asked, 0, counted, [block.cache_control for block in asked.system_blocks])
    for at, message in enumerate(asked.messages, 1):
        counted += sum(map(tokens.turn_tokens, _turns_of(message)))
        _note(marks, asked, at, counted, [block.cache_control for block in message.blocks if isinstance(block, Block)])
    _note(marks, asked, len(asked.messages), counted, [asked.cache_control])
    return marks


def _note(marks: list[CacheMark], asked: Asked, turns: int, counted: int, given: list[CacheControl | None]) -> None:
    """A mark anywhere in a message counts for all of it."""
    if found := [control for control in given if control is not None]:
        prefix = asked.model.encode() + history.prefix(asked, turns)
        marks.append(CacheMark(prefix, counted, found[-1].ttl == "1h"))


def _fitting(counted: int, generation: Generation) -> int:
    if counted > generation.context_tokens:
        raise invalid(f"prompt is too long: {counted} tokens > {generation.context_tokens} maximum")
    return counted


def _reasoning_tokens(body: Body, generation: Generation) -> int:
    if isinstance(body.thinking, Enabled):
        return min(body.thinking.budget_tokens, EFFORTS["medium"])
    is_adaptive = rules.thinks(body, generation) and rules.kind(body) in ("", "adaptive")
    return EFFORTS[rules.effort(body, generation)] if is_adaptive else 0


def _is_shown(body: Body, generation: Generation) -> bool:
    display = getattr(body.thinking, "display", None)
    return generation.shows_thinking if display is None else display == "summarized"


def _tool_choice(body: Body) -> str:
    match body.tool_choice:
        case ToolChoice():
            return body.tool_choice.name
        case AnyChoice():
            return "required"
        case NoChoice():
            return "none"
    return "auto"


# --- Turns ----------------------------------------------------------------------------------


def _turns(asked: Asked) -> tuple[Turn, ...]:
    return (*_system_turns(asked), *(turn for message in asked.messages for turn in _turns_of(message)))


def _system_turns(asked: Asked) -> tuple[Turn, ...]:
    return tuple(Turn("system", block.text) for block in asked.system_blocks)


def _turns_of(message: Message) -> list[Turn]:
    """Results of tools are turns of their own, the rest of a message is one."""
    results = [block for block in message.blocks if isinstance(block, ToolResult)]
    others = [block for block in message.blocks if not isinstance(block, ToolResult)]
    turns = [Turn("tool", _text(_content(one)), tool_call_id=one.tool_use_id) for one in results]
    if not others:
        return turns
    calls = tuple(_call(block) for block in others if isinstance(block, ToolUse))
    attachments = tuple(_attachment(block) for block in others if isinstance(block, Image | Document))
    return [*turns, Turn(message.role, _text(others), attachments, calls)]


def _content(result: ToolResult) -> list[Any]:
    return [Text(text=result.content)] if isinstance(result.content, str) else list(result.content)


def _text(blocks: list[Any]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, Text))


def _call(block: ToolUse) -> ToolCall:
    arguments = msgspec.json.format(msgspec.json.encode(block.input), indent=0).decode()
    return ToolCall(block.id, block.name, arguments)


def _attachment(block: Image | Document) -> Attachment:
    kind = "image" if isinstance(block, Image) else "file"
    source: Source = block.source
    if not isinstance(source, Base64Source):
        counted = tokens.image_tokens(0, 0, False) if kind == "image" else tokens.file_tokens(0)
        return Attachment(kind, f"{kind}/*", 0, counted, url=source.url)  # type: ignore[arg-type]
    size_bytes = len(source.data) * 3 // 4 - source.data.count("=")
    if kind == "file":
        return Attachment("file", source.media_type, size_bytes, tokens.file_tokens(size_bytes))
    size = images.measure(base64.b64decode(source.data))
    assert size is not None  # history.py has looked
    counted = tokens.image_tokens(size.width, size.height, False)
    return Attachment("image", size.media_type, size_bytes, counted, size.width, size.height)


# --- Tools ----------------------------------------------------------------------------------


def _tools(asked: Asked) -> tuple[Tool, ...]:
    return tuple(Tool(tool.name, tool.description, tool.input_schema) for tool in asked.functions)


def _tools_json(asked: Asked) -> str:
    """As OpenAI writes the same functions, so that they count the same on both faces."""
    told = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or None,
                "parameters": tool.input_schema,
                "strict": tool.strict or None,
            },
        }
        for tool in asked.functions
    ]
    return msgspec.json.encode(told).decode() if told else ""
