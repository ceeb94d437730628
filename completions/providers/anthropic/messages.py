"""OpenAI's messages → Anthropic's `system` and turns. Pure.

    system, developer   the leading ones are `system`; later ones keep their place (after the user's turn)
                        where the model's rules permit it, else they join `system`
    user                one turn for everything between two answers: tool results first, then the rest
    assistant           thinking blocks, text, tool calls; consecutive ones are one turn
    tool                `tool_result` blocks of the user's turn

The same messages always become the same bytes: prompt caches and the signatures of newer models'
thinking blocks hold for exactly what came before them. Messages that say nothing are left out.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from completions.chat.request import (
    AssistantMessage,
    DeveloperMessage,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    given,
)
from completions.providers.anthropic.parts import Block, blocks, cache_mark, text_blocks
from completions.providers.anthropic.reasoning import Thinking, thoughts, with_thoughts
from completions.providers.anthropic.rules import Rules
from completions.providers.anthropic.tools import CallIds, call_name
from completions.providers.base import Untranslatable


class Conversation(Struct, frozen=True):
    """`called` names the functions whose calls are in it."""

    system: str | list[Block] | None
    messages: list[Block]
    called: list[str]


class _Turn:
    """Of one role. `results` are the tool results, which come before everything else of a user's turn."""

    def __init__(self, role: str, at: int) -> None:
        self.role = role
        self.at = at  # the message that began it
        self.results: list[Block] = []
        self.blocks: list[Block] = []

    @property
    def calls_tools(self) -> bool:
        return any(block["type"] == "tool_use" for block in self.blocks)

    @property
    def begins_with_thought(self) -> bool:
        return self.blocks[0]["type"] in ("thinking", "redacted_thinking")

    def told(self) -> Block:
        return {"role": self.role, "content": _plain([*self.results, *self.blocks])}


def conversation(messages: list[Message], rules: Rules, thinking: Thinking) -> Conversation:
    """Raises Untranslatable, with the place of what cannot be said."""
    told = _Translation(rules, thinking)
    for at, message in enumerate(messages):
        told.add(message, at)
    return told.end(len(messages) - 1)


class _Translation:
    def __init__(self, rules: Rules, thinking: Thinking) -> None:
        self._rules = rules
        self._thinking = thinking
        self._ids = CallIds()
        self._system: list[Block] = []
        self._turns: list[_Turn] = []
        self._later_system: list[Block] = []  # of the user's turn that is being gathered
        self._called: list[str] = []

    def add(self, message: Message, at: int) -> None:
        match message:
            case SystemMessage() | DeveloperMessage():
                told = blocks(message.content, f"messages[{at}].content")
                if self._turns:
                    self._later_system += told
                else:
                    self._system += told
            case UserMessage():
                if told := blocks(message.content, f"messages[{at}].content"):
                    self._turn("user", at).blocks += told
            case ToolMessage():
                self._turn("user", at).results.append(self._result(message, f"messages[{at}]"))
            case AssistantMessage():
                self._answer(message, at)

    def end(self, last: int) -> Conversation:
        self._place_later_system(last)
        turns = self._turns
        if not turns or turns[0].role != "user":
            raise Untranslatable(f"messages[{turns[0].at}]" if turns else "messages", "the user must speak first")
        self._check_end(turns)
        system = _plain(self._system) if self._system else None
        return Conversation(system, [turn.told() for turn in turns], self._called)

    # --- turns --------------------------------------------------------------------------------

    def _turn(self, role: str, at: int) -> _Turn:
        """The turn that goes on, or a new one."""
        if not self._turns or self._turns[-1].role != role:
            self._turns.append(_Turn(role, at))
        return self._turns[-1]

    def _place_later_system(self, at: int) -> None:
        """At the end of what was said to the model since its last answer. Instructions that follow an
        answer with nothing of the user's have no place of their own: they are the user's turn."""
        told, self._later_system = self._later_system, []
        if not told:
            return
        if self._turns[-1].role != "user":
            self._turn("user", at).blocks += told
        elif self._rules.later_system:
            self._turn("system", at).blocks += told
        else:
            self._system += told

    def _check_end(self, turns: list[_Turn]) -> None:
        if turns[-1].role == "assistant":
            self._prefill(turns[-1])
        if self._thinking.budget_tokens:
            _check_sealed_calls(turns)

    def _prefill(self, turn: _Turn) -> None:
        if not self._rules.prefill:
            raise Untranslatable(f"messages[{turn.at}]", "the last word must not be the assistant's")
        last = turn.blocks[-1]
        if last["type"] == "text":
            last["text"] = last["text"].rstrip()

    # --- the assistant's and the tools' messages ----------------------------------------------

    def _answer(self, message: AssistantMessage, at: int) -> None:
        where = f"messages[{at}]"
        for name in ("audio", "function_call"):
            if given(getattr(message, name)):
                raise Untranslatable(f"{where}.{name}")
        text = blocks(message.content, f"{where}.content") + text_blocks(message.refusal or "")
        calls = [[self._call(call, f"{where}.tool_calls[{k}]")] for k, call in enumerate(message.tool_calls or ())]
        if not text and not calls:
            return
        found = thoughts(message.reasoning_details) if self._thinking.is_on else []
        self._place_later_system(at)
        self._turn("assistant", at).blocks += with_thoughts([text, *calls] if text else calls, found)

    def _call(self, call: ToolCall, where: str) -> Block:
        name = call_name(call.function.name)
        self._called.append(name)
        arguments = _arguments(call.function.arguments, f"{where}.function.arguments")
        return {"type": "tool_use", "id": self._ids.of_call(call.id), "name": name, "input": arguments}

    def _result(self, message: ToolMessage, where: str) -> Block:
        result: Block = {"type": "tool_result", "tool_use_id": self._ids.of_result(message.tool_call_id)}
        if isinstance(message.content, str):
            return {**result, "content": message.content}
        told = [block for part in message.content for block in text_blocks(part.text)]
        return {**result, "content": told or "", **_last_mark(message.content, f"{where}.content")}


def _check_sealed_calls(turns: list[_Turn]) -> None:
    """With a budget, a tool loop goes on only from an answer that has its thinking blocks."""
    last = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    if last is not None and turns[-1].results and last.calls_tools and not last.begins_with_thought:
        why = "while the model thinks, its tool calls must come back with their reasoning_details"
        raise Untranslatable(f"messages[{last.at}].reasoning_details", why)


def _last_mark(parts: list[TextPart], where: str) -> Block:
    """A cache mark on any part of a tool's result counts for all of it."""
    marks = [cache_mark(part.cache_control, f"{where}[{at}]") for at, part in enumerate(parts)]
    return next((mark for mark in reversed(marks) if mark), {})


def _arguments(arguments: str, where: str) -> Raw | dict[str, Any]:
    """The JSON object of a call, without its blanks; OpenAI's clients may send anything."""
    if not arguments.strip():
        return {}
    try:
        msgspec.json.decode(arguments, type=dict[str, Raw])
        return Raw(msgspec.json.format(arguments.encode(), indent=-1))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Untranslatable(where, "it must be a JSON object") from error


def _plain(told: list[Block]) -> str | list[Block]:
    """One bare text is a string, as short as the same thing can be said."""
    if len(told) == 1 and told[0].keys() == {"type", "text"}:
        text: str = told[0]["text"]
        return text
    return told
