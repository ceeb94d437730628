"""Which tools the sandbox's model calls, with which arguments, and what it says about their results."""

import hashlib
import json
import re

import msgspec

from sandbox import synthesis
from sandbox.conversation import Json, Question, Tool, ToolCall, Turn

_CALLS_MAX = 16
_DESCRIPTION_WORDS_MIN = 2  # words of a description the text must share, one of the name is enough
_WORD = re.compile(r"[^\W\d_]{3,}")
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_COMMON_WORDS = """
get set the and for with from that this its his her your you can will call use run make tool function return
returns given take takes find fetch look what who when where how are was not all any one two current currently
search about into please tell show give name say data value values string number list
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def choose(question: Question) -> tuple[ToolCall, ...]:
    """The calls to make now: none while results wait to be used, unless a call is demanded."""
    if question.tool_choice == "none" or not question.tools:
        return ()
    if results(question.turns) and question.tool_choice == "auto":
        return ()
    text = _asked(question.turns)
    calls = [(tool, arguments) for tool in _wanted(question, text) for arguments in _arguments(tool, text)]
    chosen = calls[:_CALLS_MAX] if question.parallel else calls[:1]
    stem = msgspec.json.encode(question.turns)
    return tuple(
        ToolCall(_call_id(stem, position), tool.name, json.dumps(arguments, ensure_ascii=False))
        for position, (tool, arguments) in enumerate(chosen)
    )


def results(turns: tuple[Turn, ...]) -> list[str]:
    """A sentence for each tool result that ends the conversation."""
    ending: list[Turn] = []
    for turn in reversed(turns):
        if turn.role != "tool":
            break
        ending.insert(0, turn)
    calls = {call.id: call for turn in turns for call in turn.tool_calls}
    return [_stated(calls.get(turn.tool_call_id), turn.text) for turn in ending]


def _asked(turns: tuple[Turn, ...]) -> str:
    return next((turn.text for turn in reversed(turns) if turn.role == "user"), "")


def _wanted(question: Question, text: str) -> list[Tool]:
    if question.tool_choice not in ("auto", "required"):
        return [tool for tool in question.tools if tool.name == question.tool_choice]
    matching = [tool for tool in question.tools if _matches(tool, text)]
    if question.tool_choice == "required" and not matching:
        return [question.tools[0]]
    return matching


def _matches(tool: Tool, text: str) -> bool:
    said = _words(_WORD.findall(text))
    if said & _words(_NAME_PART.findall(tool.name)):
        return True
    return len(said & _words(_WORD.findall(tool.description))) >= _DESCRIPTION_WORDS_MIN


def _words(found: list[str]) -> set[str]:
    """Comparable words: lower case, without a plural s and common verbs."""
    lowered = {word.lower() for word in found}
    return {word.removesuffix("s") for word in lowered if word not in _COMMON and len(word) >= 3}


def _arguments(tool: Tool, text: str) -> list[dict[str, Json]]:
    """One set of arguments, or one for each name in the text when the tool takes a single string."""
    found = synthesis.names(text)
    if len(found) > 1 and _takes_one_string(tool.parameters):
        return [_filled(tool, synthesis.Hints(text, plain=name)) for name in found]
    return [_filled(tool, synthesis.Hints(text))]


def _filled(tool: Tool, hints: synthesis.Hints) -> dict[str, Json]:
    value = synthesis.value(tool.parameters, hints) if tool.parameters.get("properties") else {}
    return value if isinstance(value, dict) else {}


def _takes_one_string(parameters: dict[str, Json]) -> bool:
    properties = parameters.get("properties") or {}
    wanted = [properties.get(key, {}) for key in parameters.get("required") or properties]
    free = [part for part in wanted if isinstance(part, dict) and part.get("type") == "string" and "enum" not in part]
    return len(free) == 1


def _call_id(stem: bytes, position: int) -> str:
    return "call_" + hashlib.blake2b(stem + bytes([position]), digest_size=12).hexdigest()


def _stated(call: ToolCall | None, result: str) -> str:
    """`get_weather (city: Paris): temp is 18, unit is C.`"""
    label = _label(call) if call else "The tool"
    return f"{label}: {_said(_decoded(result))}."


def _label(call: ToolCall) -> str:
    arguments = _decoded(call.arguments)
    if not isinstance(arguments, dict) or not arguments:
        return call.name
    return f"{call.name} ({', '.join(f'{key}: {_said(value)}' for key, value in arguments.items())})"


def _said(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} is {_said(part)}" for key, part in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(_said(part) for part in value) or "nothing"
    return value.strip().rstrip(".") if isinstance(value, str) else json.dumps(value)


def _decoded(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
