"""`reasoning` → `thinking` and effort by a model's rules; thinking blocks → `reasoning_details` and back. Pure.

A thinking block carries a signature, and Anthropic wants it back unchanged and in its place when a
tool loop goes on. We keep nothing: the client gets each block as an entry of `reasoning_details` (the
convention OpenRouter's clients know) and returns it. A block that did not come first in its answer
says so in `id`, as `after-N`: N counts the text (as one) and the tool calls before it.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from completions.chat.request import Reasoning, given
from completions.providers.anthropic.parts import Block
from completions.providers.anthropic.rules import Rules
from completions.providers.base import Untranslatable

FORMAT = "anthropic-claude-v1"
BUDGET_TOKENS_MIN = 1024
# Where a model takes only budgets, an effort is a share of the output bound (as at OpenRouter).
_BUDGET_PERCENT = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
_EFFORT_UNSAID = "medium"  # `enabled: true` alone
_PLACE = re.compile(r"after-(\d{1,6})\Z")


class Thinking(Struct, frozen=True):
    """What a request says about thinking. `is_on`: blocks of earlier turns belong into it."""

    is_on: bool
    parameter: Block | None = None
    effort: str | None = None

    @property
    def budget_tokens(self) -> int:
        return self.parameter.get("budget_tokens", 0) if self.parameter else 0


def thinking(reasoning: Reasoning | None, rules: Rules, output_bound: int) -> Thinking:
    """Raises Untranslatable for what the model's rules do not permit."""
    if reasoning is None:
        return Thinking(rules.thinks_unasked)
    for name in ("summary", "context"):
        if getattr(reasoning, name) not in (None, "auto"):
            raise Untranslatable(f"reasoning.{name}")
    if reasoning.enabled is False or reasoning.effort == "none":
        return _off(reasoning, rules)
    if reasoning.is_off:
        return Thinking(rules.thinks_unasked)
    if reasoning.max_tokens is not None:
        return _budgeted(reasoning.max_tokens, reasoning, rules, output_bound)
    return _at_effort(reasoning.effort or _EFFORT_UNSAID, reasoning, rules, output_bound)


def output_tokens_min(reasoning: Reasoning | None, rules: Rules) -> int:
    """The least output bound a request can be sent with: a budget must leave room for an answer."""
    if reasoning is None or reasoning.is_off:
        return 1
    if reasoning.max_tokens is not None:
        return reasoning.max_tokens + 1
    return 1 if "adaptive" in rules.thinking else BUDGET_TOKENS_MIN + 1


def _off(reasoning: Reasoning, rules: Rules) -> Thinking:
    if not rules.thinks_unasked:
        return Thinking(False)
    if "disabled" in rules.thinking:
        return Thinking(False, {"type": "disabled"})
    if "between_tools" in rules.thinking:  # the least a model of this kind does
        return Thinking(True, {"type": "between_tools"})
    field = "effort" if reasoning.effort == "none" else "enabled"
    raise Untranslatable(f"reasoning.{field}", "this model always thinks")


def _at_effort(effort: str, reasoning: Reasoning, rules: Rules, output_bound: int) -> Thinking:
    if "adaptive" not in rules.thinking:
        return _budgeted(
            max(BUDGET_TOKENS_MIN, output_bound * _BUDGET_PERCENT[effort] // 100), reasoning, rules, output_bound
        )
    level = "low" if effort == "minimal" else effort
    if level not in rules.efforts:
        raise Untranslatable("reasoning.effort", f"this model knows {', '.join(rules.efforts)}")
    display = "omitted" if reasoning.exclude else "summarized"  # newer models show nothing unless told to
    return Thinking(True, {"type": "adaptive", "display": display}, level)


def _budgeted(budget_tokens: int, reasoning: Reasoning, rules: Rules, output_bound: int) -> Thinking:
    field = "reasoning" if reasoning.max_tokens is None else "reasoning.max_tokens"
    if "enabled" not in rules.thinking:
        raise Untranslatable(field, "give an effort instead" if rules.efforts else "")
    if budget_tokens < BUDGET_TOKENS_MIN:
        raise Untranslatable(field, f"it must be at least {BUDGET_TOKENS_MIN}")
    if budget_tokens >= output_bound:
        raise Untranslatable(
            field, f"thinking takes {budget_tokens} tokens, and at most {output_bound} may be answered"
        )
    parameter: Block = {"type": "enabled", "budget_tokens": budget_tokens}
    return Thinking(True, parameter | ({"display": "omitted"} if reasoning.exclude else {}))


# --- Thinking blocks as reasoning_details ------------------------------------------------------------


class Thought(Struct, frozen=True):
    """A thinking block and how many of the other parts of its message come before it."""

    block: Block
    after: int = 0


class _Detail(Struct, frozen=True):
    type: str
    index: int | None = None
    text: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None


_details_decoder = msgspec.json.Decoder(list[_Detail])


def thoughts(details: Raw) -> list[Thought]:
    """The blocks that can go back: Claude's own, sealed. What is no such list holds none."""
    if not given(details):
        return []
    try:
        entries = _details_decoder.decode(details)
    except (msgspec.DecodeError, RecursionError):
        return []
    found = (_thought(entry) for entry in _gathered(entries))
    return [thought for thought in found if thought is not None]


def _gathered(entries: list[_Detail]) -> list[_Detail]:
    """One entry per index: clients may keep a stream's fragments as they came."""
    whole: dict[Any, _Detail] = {}
    for at, entry in enumerate(entries):
        key = (entry.type, at if entry.index is None else entry.index, entry.index is None)
        whole[key] = _joined(whole[key], entry) if key in whole else entry
    return list(whole.values())


def _joined(first: _Detail, more: _Detail) -> _Detail:
    parts = {
        name: (getattr(first, name) or "") + (getattr(more, name) or "") or None
        for name in ("text", "signature", "data")
    }
    return msgspec.structs.replace(first, format=first.format or more.format, id=first.id or more.id, **parts)


def _thought(detail: _Detail) -> Thought | None:
    if detail.format not in (None, FORMAT):
        return None
    place = _PLACE.match(detail.id or "")
    after = int(place[1]) if place else 0
    if detail.type == "reasoning.text" and detail.signature:
        return Thought({"type": "thinking", "thinking": detail.text or "", "signature": detail.signature}, after)
    if detail.type == "reasoning.encrypted" and detail.data:
        return Thought({"type": "redacted_thinking", "data": detail.data}, after)
    return None


def with_thoughts(parts: list[list[Block]], thoughts: list[Thought]) -> list[Block]:
    """The blocks of a message with each thinking block where it was."""
    told: list[Block] = []
    for at, part in enumerate([*parts, []]):
        is_last = at == len(parts)
        told += [one.block for one in thoughts if one.after == at or (is_last and one.after > at)]
        told += part
    return told


def place(after: int) -> str | None:
    """The `id` that says where a block was; none for one that came first."""
    return f"after-{after}" if after else None
