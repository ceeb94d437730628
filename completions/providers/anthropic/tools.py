"""Functions, tool choice and web search → Anthropic's tools. Pure."""

import re
from typing import Any

import msgspec

from completions.chat.request import Fields, Function, NamedTool, Tool, WebSearchOptions
from completions.providers.anthropic.parts import Block, cache_mark
from completions.providers.anthropic.rules import Rules
from completions.providers.anthropic.schema import closed_schema
from completions.providers.base import Untranslatable

NAME_CHARS_MAX = 128
WEB_SEARCH = "web_search"
_SEARCHES_MAX = {"low": 1, "medium": 5, "high": 10}

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_NO_PARAMETERS: Block = {"type": "object", "properties": {}}


def tools(fields: Fields, called: list[str]) -> list[Block]:
    """`called` are the functions that the conversation has used: Anthropic refuses their calls and
    results where no tool is offered, so without `tools` they are declared, and forbidden by `tool_choice`."""
    offered = (
        [] if _is_search_alone(fields) else [_tool(tool, f"tools[{at}]") for at, tool in enumerate(fields.tools or ())]
    )
    if fields.web_search_options is not None:
        _refuse_taken_name(fields)
        offered.append(_web_search(fields.web_search_options))
    return offered or [{"name": name, "input_schema": _NO_PARAMETERS} for name in dict.fromkeys(called)]


def tool_choice(fields: Fields, called: list[str], rules: Rules, *, has_budget: bool) -> Block | None:
    """Raises Untranslatable for a forced call where the model, or thinking with a budget, has none."""
    if not fields.tools or _is_search_alone(fields):
        return {"type": "none"} if called and fields.web_search_options is None else None
    wanted = _choice(fields)
    if wanted is not None and wanted["type"] in ("any", "tool"):
        if not rules.forced_tools:
            raise Untranslatable("tool_choice", "this model takes 'auto' and 'none'")
        if has_budget:
            raise Untranslatable("tool_choice", "it must be 'auto' or 'none' while the model thinks")
    if fields.parallel_tool_calls is False and fields.tool_choice != "none":
        return {**(wanted or {"type": "auto"}), "disable_parallel_tool_use": True}
    return wanted


def call_name(name: str) -> str:
    """The name of an earlier call, which other models may have written in other letters."""
    return _FOREIGN.sub("_", name)[:NAME_CHARS_MAX] or "_"


class CallIds:
    """The ids of calls and their results in one conversation: in Anthropic's letters, and each only once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._newest: dict[str, str] = {}

    def of_call(self, call_id: str) -> str:
        plain = chosen = _FOREIGN.sub("_", call_id) or "_"
        turn = 1
        while chosen in self._taken:
            turn += 1
            chosen = f"{plain}_{turn}"
        self._taken.add(chosen)
        self._newest[call_id] = chosen
        return chosen

    def of_result(self, call_id: str) -> str:
        """That of the newest call of this id."""
        return self._newest.get(call_id) or _FOREIGN.sub("_", call_id)


def _is_search_alone(fields: Fields) -> bool:
    """Functions are forbidden and a search is wanted: Anthropic's `none` would forbid both."""
    return fields.tool_choice == "none" and fields.web_search_options is not None


def _choice(fields: Fields) -> Block | None:
    match fields.tool_choice:
        case None:
            return None
        case NamedTool():
            return {"type": "tool", "name": fields.tool_choice.function.name}
        case word:
            return {"type": "any" if word == "required" else word}


def _tool(tool: Tool, where: str) -> Block:
    function = tool.function
    told: Block = {"name": function.name}
    if function.description is not None:
        told["description"] = function.description
    told["input_schema"] = _input_schema(function, f"{where}.function.parameters")
    if function.strict:
        told["strict"] = True
    return told | cache_mark(tool.cache_control, where)


def _input_schema(function: Function, where: str) -> Block:
    if not function.parameters:
        return _NO_PARAMETERS if not function.strict else {**_NO_PARAMETERS, "additionalProperties": False}
    if "type" in function.parameters and bytes(function.parameters["type"]) != b'"object"':
        raise Untranslatable(f"{where}.type", "it must be 'object'")
    schema: Block = {"type": "object"} | dict(function.parameters)
    return closed_schema(decoded({**schema}, where), where) if function.strict else schema


def decoded(schema: dict[str, Any], where: str) -> Any:
    """A schema that was kept as it came, read to its end."""
    try:
        return msgspec.json.decode(msgspec.json.encode(schema))
    except RecursionError as error:
        raise Untranslatable(where, "it is nested too deeply") from error


def _refuse_taken_name(fields: Fields) -> None:
    for at, tool in enumerate(fields.tools or ()):
        if tool.function.name == WEB_SEARCH:
            raise Untranslatable(f"tools[{at}].function.name", "the web search has this name")


def _web_search(options: WebSearchOptions) -> Block:
    uses = _SEARCHES_MAX[options.search_context_size or "medium"]
    told: Block = {"type": "web_search_20250305", "name": WEB_SEARCH, "max_uses": uses}
    if options.user_location is not None:
        place = msgspec.structs.asdict(options.user_location.approximate)
        told["user_location"] = {"type": "approximate"} | {name: one for name, one in place.items() if one is not None}
    return told
