"""Rules of a conversation: whose turn it is, what a turn may hold, calls and their results, sealed thoughts."""

import base64
import binascii
from itertools import pairwise
from typing import Any

import msgspec

from sandbox import images
from sandbox.anthropic import seal
from sandbox.anthropic.generations import Generation
from sandbox.anthropic.request import (
    Asked,
    Base64Source,
    Block,
    Content,
    Document,
    Image,
    Message,
    RedactedThinking,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    UrlSource,
    invalid,
)

IMAGES_MAX = 100
MARKS_MAX = 4
_OF_ROLE: dict[str, tuple[type, ...]] = {
    "user": (Text, Image, Document, ToolResult),
    "assistant": (Text, ToolUse, Thinking, RedactedThinking),
    "system": (Text,),
}


def check(asked: Asked, generation: Generation, *, thinks: bool, has_budget: bool) -> None:
    for at, message in enumerate(asked.messages):
        _check_turn(message, f"messages.{at}")
    for at, block in enumerate(asked.system_blocks):
        _check_text(block, f"system.{at}")
    _check_order(asked.messages, generation)
    _check_calls(asked.messages)
    _check_marks(asked)
    if sum(isinstance(block, Image) for block in _all_blocks(asked.messages)) > IMAGES_MAX:
        raise invalid(f"messages: Too many images (maximum {IMAGES_MAX})")
    if not asked.tools and any(isinstance(block, ToolUse | ToolResult) for block in _all_blocks(asked.messages)):
        raise invalid("Requires `tools` param to be defined when `tool_use` or `tool_result` blocks are present")
    _check_thoughts(asked, generation, thinks=thinks)
    if has_budget:
        _check_begun_with_thought(asked.messages)


def prefix(asked: Asked, turns: int) -> bytes:
    """What a thought that came after so many turns is bound to; cache marks are no part of it."""
    tools = [
        {name: part for name, part in msgspec.json.decode(tool).items() if name != "cache_control"}
        for tool in asked.tools
    ]
    said = [(message.role, [_bare(block) for block in message.blocks]) for message in asked.messages[:turns]]
    return msgspec.json.encode(([_bare(block) for block in asked.system_blocks], tools, said))


def _bare(block: Content) -> Content:
    return msgspec.structs.replace(block, cache_control=None) if isinstance(block, Block) else block


def _all_blocks(messages: list[Message]) -> list[Content]:
    return [block for message in messages for block in message.blocks]


# --- One turn -------------------------------------------------------------------------------


def _check_turn(message: Message, where: str) -> None:
    if not message.blocks:
        raise invalid(f"{where}: {message.role} messages must have non-empty content")
    for at, block in enumerate(message.blocks):
        place = f"{where}.content.{at}"
        if not isinstance(block, _OF_ROLE[message.role]):
            raise invalid(f"{place}: blocks of this type may not be in a message of role '{message.role}'")
        _check_block(block, place)
    results = [isinstance(block, ToolResult) for block in message.blocks]
    if results != sorted(results, reverse=True):
        raise invalid(f"{where}: tool_result blocks must come before other content")


def _check_block(block: Content, where: str) -> None:
    match block:
        case Text():
            _check_text(block, where)
        case Image() | Document():
            _check_source(block, f"{where}.source")
        case ToolResult(content=list()):
            for at, part in enumerate(block.content):
                _check_block(part, f"{where}.content.{at}")  # type: ignore[arg-type]


def _check_text(block: Text, where: str) -> None:
    if not block.text:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if not block.text.strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")


def _check_source(block: Image | Document, where: str) -> None:
    match block.source:
        case UrlSource(url):
            if not url.startswith("https://"):
                raise invalid(f"{where}.url: Only HTTPS URLs are supported")
        case Base64Source(media_type, data):
            found = _media_type(data, where)
            if found != media_type or (media_type == "application/pdf") != isinstance(block, Document):
                raise invalid(f"{where}.media_type: the data is {found or 'of no known type'}, not {media_type}")


def _media_type(data: str, where: str) -> str:
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{where}.data: invalid base64 data") from error
    if raw.startswith(b"%PDF-"):
        return "application/pdf"
    size = images.measure(raw)
    return size.media_type if size else ""


# --- The order of turns ---------------------------------------------------------------------


def _check_order(messages: list[Message], generation: Generation) -> None:
    """Strictly one turn after the other, as older versions of the API want it."""
    if messages[0].role != "user":
        raise invalid('messages: first message must use the "user" role')
    for at, (before, message) in enumerate(pairwise(messages), 1):
        if message.role == "system":
            _check_system_turn(before, messages[at + 1 : at + 2], generation, at)
        elif before.role == message.role:
            raise invalid(f'messages.{at}: roles must alternate between "user" and "assistant"')
    if messages[-1].role == "assistant":
        _check_prefill(messages[-1], generation)


def _check_system_turn(before: Message, after: list[Message], generation: Generation, at: int) -> None:
    if not generation.system_turns:
        raise invalid(f"messages.{at}: role 'system' is not supported on this model")
    if before.role != "user" or any(message.role != "assistant" for message in after):
        raise invalid(
            f"messages.{at}: a system message must follow a user message and be last or before an assistant's"
        )


def _check_prefill(message: Message, generation: Generation) -> None:
    if not generation.prefill:
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    last = message.blocks[-1]
    if isinstance(last, Text) and last.text != last.text.rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")


# --- Calls and results ----------------------------------------------------------------------


def _check_calls(messages: list[Message]) -> None:
    known: set[str] = set()
    for at, message in enumerate(messages):
        calls = [block.id for block in message.blocks if isinstance(block, ToolUse)]
        if len({*calls}) < len(calls) or known & {*calls}:
            raise invalid(f"messages.{at}: `tool_use` ids must be unique")
        known |= {*calls}
        if calls:
            _check_answered(calls, messages[at + 1 : at + 2], at)
        _check_known([block for block in message.blocks if isinstance(block, ToolResult)], messages[max(0, at - 1)], at)


def _check_answered(calls: list[str], following: list[Message], at: int) -> None:
    answered = {block.tool_use_id for message in following for block in message.blocks if isinstance(block, ToolResult)}
    if missing := [call for call in calls if call not in answered]:
        ids = ", ".join(missing)
        raise invalid(f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}")


def _check_known(results: list[ToolResult], before: Message, at: int) -> None:
    ids = [result.tool_use_id for result in results]
    called = {block.id for block in before.blocks if isinstance(block, ToolUse)}
    if unknown := [one for one in ids if one not in called]:
        raise invalid(f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(unknown)}")
    if len({*ids}) < len(ids):
        raise invalid(f"messages.{at}: each tool_use must have a single result")


def _check_marks(asked: Asked) -> None:
    marked: list[Any] = [*asked.offered, *asked.system_blocks, *_all_blocks(asked.messages)]
    found = sum(getattr(one, "cache_control", None) is not None for one in marked) + (asked.cache_control is not None)
    if found > MARKS_MAX:
        raise invalid(f"A maximum of {MARKS_MAX} blocks with cache_control may be provided. Found {found}.")


# --- Thoughts -------------------------------------------------------------------------------


def _check_thoughts(asked: Asked, generation: Generation, *, thinks: bool) -> None:
    for at, message in enumerate(asked.messages):
        for k, block in enumerate(message.blocks):
            if isinstance(block, Thinking | RedactedThinking):
                if not thinks and not generation.takes_idle_thoughts:
                    raise invalid(
                        f"messages.{at}.content.{k}: thinking blocks may not be sent when thinking is disabled"
                    )
                _check_seal(block, asked, generation, at, k)


def _check_seal(block: Thinking | RedactedThinking, asked: Asked, generation: Generation, at: int, k: int) -> None:
    kind = "thinking" if isinstance(block, Thinking) else "redacted_thinking"
    where = f"messages.{at}.content.{k}: Invalid `signature` in `{kind}` block"
    signature, text = (block.signature, block.thinking) if isinstance(block, Thinking) else (block.data, "")
    if not seal.is_genuine(signature, text):
        raise invalid(where)
    if generation.binds_thoughts and not seal.is_bound_to(signature, prefix(asked, at)):
        raise invalid(
            f"{where}. The block is bound to a different conversation. Remove the block, or set "
            '`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
        )


def _check_begun_with_thought(messages: list[Message]) -> None:
    """With a budget, the answer whose calls are being answered must have been thought about."""
    turns = [message for message in messages if message.role != "system"]
    if not any(isinstance(block, ToolResult) for block in turns[-1].blocks):
        return
    at = messages.index(turns[-2])
    first = messages[at].blocks[0]
    if not isinstance(first, Thinking | RedactedThinking):
        found = "tool_use" if isinstance(first, ToolUse) else "text"
        raise invalid(
            f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block."
        )
