"""What each Claude takes, by the catalog's rules and by the vendor's own table: nothing that is refused is sent,
and nothing that is taken is refused.

The rules of catalog.toml and the generations of the sandbox are written apart; here they are held against each other.
"""

from typing import Any

import msgspec
import pytest

from completions.chat.ask import ask_of
from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat
from completions.providers.anthropic.rules import Rules
from sandbox.anthropic import rules as sandbox_rules
from sandbox.anthropic.generations import EFFORTS, MODELS
from sandbox.anthropic.request import VERSIONS, decode_body
from sandbox.conversation import Refusal
from tests.kit.claude_routes import CLAUDES, route
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
HELLO = {"role": "user", "content": "Hello!"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "look"}}

# What each of Claude's models permits, by the rules of its route: [thinking unasked, a budget, off, efforts, sampling,
# forced tools, prefill]
NO, OK = False, True
OLD_EFFORTS, ALL_EFFORTS = ("low", "medium", "high", "max"), EFFORTS
TABLE: dict[str, tuple[Any, ...]] = {
    "claude-haiku-4-5": (NO, OK, OK, (), OK, OK, OK),
    "claude-opus-4-6": (NO, OK, OK, OLD_EFFORTS, OK, OK, NO),
    "claude-sonnet-4-6": (NO, OK, OK, OLD_EFFORTS, OK, OK, NO),
    "claude-opus-4-7": (NO, NO, OK, ALL_EFFORTS, NO, OK, NO),
    "claude-opus-4-8": (NO, NO, OK, ALL_EFFORTS, NO, OK, NO),
    "claude-sonnet-5": (OK, NO, OK, ALL_EFFORTS, NO, OK, NO),
    "claude-opus-5": (OK, NO, OK, ALL_EFFORTS, NO, OK, NO),
    "claude-haiku-5-5": (OK, NO, OK, ALL_EFFORTS, NO, OK, NO),
    "claude-sonnet-5-5": (OK, NO, OK, ALL_EFFORTS, NO, NO, NO),  # off is `between_tools`
    "claude-opus-5-5": (OK, NO, NO, ALL_EFFORTS, NO, NO, NO),
    "claude-fable-5-1": (OK, NO, NO, ALL_EFFORTS, NO, NO, NO),
}


def chat(*messages: Any, **fields: Any) -> Chat:
    return parse_chat(msgspec.json.encode({"model": "a/b", "messages": messages or [HELLO], **fields}))


def refused(model: str, *messages: Any, **fields: Any) -> str | None:
    """The field that is refused for this model, if one is; what is not refused is taken by the strict sandbox."""
    given = chat(*messages, **fields)
    found = [one.field for one in ANTHROPIC.unsupported(given, route(model))]
    if found:
        return found[0]
    bound = ask_of(given, "/").demand.output_tokens or 8192
    sent = ANTHROPIC.request(given, route(model), output_bound=bound, stream=False, secret="k")
    body = decode_body(sent.body)
    sandbox_rules.check(body, MODELS[body.model], dict(sent.headers)["anthropic-version"])
    return None


def sandbox_takes(model: str, **fields: Any) -> bool:
    """Whether the vendor's own table permits it, said in Anthropic's words."""
    body = {"model": model, "max_tokens": 8192, "messages": [HELLO], **fields}
    try:
        sandbox_rules.check(decode_body(msgspec.json.encode(body)), MODELS[model], VERSIONS[0])
    except Refusal:
        return False
    return True


def test_the_table_is_about_every_claude_we_sell() -> None:
    assert set(TABLE) == set(CLAUDES) == set(MODELS)


@pytest.mark.parametrize("model", TABLE)
def test_what_a_model_refuses_is_refused_by_name_and_what_it_takes_is_sent(model: str) -> None:
    thinks, budget, off, efforts, sampling, forced, prefill = TABLE[model]
    assert refused(model, reasoning={"max_tokens": 2048}) == (None if budget else "reasoning.max_tokens")
    assert refused(model, reasoning={"enabled": False}) == (None if off else "reasoning.enabled")
    assert refused(model, reasoning={"effort": "none"}) == (None if off else "reasoning.effort")
    for name, value in (("temperature", 0.5), ("top_p", 0.5), ("top_k", 5)):
        assert refused(model, **{name: value}) == (None if sampling else name)
    for choice in ("required", NAMED):
        assert refused(model, tools=[TOOL], tool_choice=choice) == (None if forced else "tool_choice")
    for choice in ("auto", "none"):
        assert refused(model, tools=[TOOL], tool_choice=choice) is None
    assert refused(model, HELLO, {"role": "assistant", "content": "Hi"}) == (None if prefill else "messages[1]")
    for effort in EFFORTS:
        taken = effort in efforts or (budget and not efforts)
        assert refused(model, reasoning={"effort": effort}) == (None if taken else "reasoning.effort")
    assert refused(model, reasoning={"effort": "minimal"}) is None
    assert refused(model, reasoning={"enabled": True}) is None
    assert refused(model) is None
    assert route(model).rules.thinks_unasked is thinks


@pytest.mark.parametrize("model", TABLE)
def test_the_sandboxs_own_table_says_the_same(model: str) -> None:
    thinks, budget, off, efforts, sampling, forced, prefill = TABLE[model]
    rules = route(model).rules
    kinds = {"enabled": {"budget_tokens": 1024}, "adaptive": {}, "disabled": {}, "between_tools": {}}
    taken = [kind for kind, more in kinds.items() if sandbox_takes(model, thinking={"type": kind, **more})]
    assert sorted(taken) == sorted(rules.thinking)
    assert ("enabled" in taken, bool({"disabled", "between_tools"} & {*taken})) == (budget, off)
    assert tuple(level for level in EFFORTS if sandbox_takes(model, output_config={"effort": level})) == efforts
    assert rules.efforts == efforts
    assert sandbox_takes(model, temperature=0.5) is sampling is rules.sampling
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    assert sandbox_takes(model, tools=tools, tool_choice={"type": "any"}) is forced is rules.forced_tools
    beginning = [HELLO, {"role": "assistant", "content": "Hi"}]
    assert sandbox_takes(model, messages=beginning) is prefill is rules.prefill
    system = [HELLO, {"role": "system", "content": "Be brief."}]
    assert sandbox_takes(model, messages=system) is rules.later_system
    assert bool(MODELS[model].effort_unsaid) is thinks


@pytest.mark.parametrize("model", TABLE)
def test_limits_of_catalog_and_sandbox_are_the_same(model: str) -> None:
    limits = MODELS[model].context_tokens, MODELS[model].output_tokens_max
    assert (route(model).context_length, route(model).max_output_tokens) == limits


def test_sampling_is_refused_while_the_model_thinks() -> None:
    assert refused("claude-sonnet-4-6", temperature=0.5, reasoning={"effort": "low"}) == "temperature"
    assert refused("claude-sonnet-4-6", top_k=5, reasoning={"max_tokens": 2048}) == "top_k"
    assert refused("claude-sonnet-4-6", temperature=1, top_p=1, reasoning={"effort": "low"}) is None


def test_a_forced_tool_is_refused_beside_a_budget_alone() -> None:
    forced = {"tools": [TOOL], "tool_choice": "required"}
    assert refused("claude-sonnet-4-6", reasoning={"max_tokens": 2048}, **forced) == "tool_choice"
    assert refused("claude-sonnet-4-6", reasoning={"effort": "low"}, **forced) is None
    assert refused("claude-haiku-4-5", reasoning={"effort": "low"}, **forced) == "tool_choice"


def test_a_route_without_rules_permits_nothing_special() -> None:
    bare = msgspec.structs.replace(route("claude-sonnet-4-6"), rules=Rules())
    assert ANTHROPIC.unsupported(chat(), bare) == []
    for fields in (
        {"temperature": 0.5},
        {"reasoning": {"effort": "low"}},
        {"tools": [TOOL], "tool_choice": "required"},
    ):
        assert ANTHROPIC.unsupported(chat(**fields), bare) != []
    assert ANTHROPIC.unsupported(chat(reasoning={"enabled": False}), bare) == []


# --- The words ------------------------------------------------------------------------------------------


def body(model: str, *, bound: int = 8192, **fields: Any) -> dict[str, Any]:
    given = chat(**fields)
    assert ANTHROPIC.unsupported(given, route(model)) == []
    sent = ANTHROPIC.request(given, route(model), output_bound=bound, stream=False, secret="k")
    told: dict[str, Any] = msgspec.json.decode(sent.body)
    return told


SHOWN = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "effort"),
    [
        ("claude-opus-5", {"effort": "high"}, SHOWN, "high"),
        ("claude-opus-5", {"effort": "minimal"}, SHOWN, "low"),
        ("claude-opus-5", {"effort": "max", "summary": "auto", "context": "auto"}, SHOWN, "max"),
        ("claude-opus-5", {"enabled": True}, SHOWN, "medium"),
        ("claude-opus-5", {"effort": "low", "exclude": True}, {"type": "adaptive", "display": "omitted"}, "low"),
        ("claude-opus-5", {"enabled": False, "effort": "high"}, {"type": "disabled"}, None),
        ("claude-opus-5", {"exclude": True}, None, None),
        ("claude-opus-5", {}, None, None),
        ("claude-opus-5", None, None, None),
        ("claude-sonnet-5-5", {"effort": "none"}, {"type": "between_tools"}, None),
        ("claude-sonnet-4-6", {"effort": "none"}, None, None),
        ("claude-sonnet-4-6", {"effort": "low"}, SHOWN, "low"),
        ("claude-sonnet-4-6", {"max_tokens": 2048}, {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-haiku-4-5", {"effort": "minimal"}, {"type": "enabled", "budget_tokens": 1024}, None),
        ("claude-haiku-4-5", {"effort": "low"}, {"type": "enabled", "budget_tokens": 1638}, None),
        ("claude-haiku-4-5", {"enabled": True}, {"type": "enabled", "budget_tokens": 4096}, None),
        ("claude-haiku-4-5", {"effort": "high"}, {"type": "enabled", "budget_tokens": 6553}, None),
        ("claude-haiku-4-5", {"effort": "max"}, {"type": "enabled", "budget_tokens": 7782}, None),
        (
            "claude-haiku-4-5",
            {"max_tokens": 1024, "exclude": True},
            {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
            None,
        ),
        ("claude-haiku-4-5", {"enabled": False}, None, None),
    ],
)
def test_reasoning_in_the_models_words(model: str, reasoning: Any, thinking: Any, effort: str | None) -> None:
    sent = body(model, reasoning=reasoning)
    assert (sent.get("thinking"), sent.get("output_config", {}).get("effort")) == (thinking, effort)


@pytest.mark.parametrize(
    ("model", "fields", "field", "why"),
    [
        (
            "claude-sonnet-4-6",
            {"reasoning": {"effort": "xhigh"}},
            "reasoning.effort",
            "this model knows low, medium, high, max",
        ),
        ("claude-opus-5", {"reasoning": {"max_tokens": 2048}}, "reasoning.max_tokens", "give an effort instead"),
        ("claude-opus-5", {"reasoning": {"summary": "detailed"}}, "reasoning.summary", ""),
        ("claude-opus-5", {"reasoning": {"context": "all_turns"}}, "reasoning.context", ""),
        ("claude-opus-5-5", {"reasoning": {"effort": "none"}}, "reasoning.effort", "this model always thinks"),
        ("claude-haiku-4-5", {"reasoning": {"max_tokens": 1000}}, "reasoning.max_tokens", "it must be at least 1024"),
        (
            "claude-haiku-4-5",
            {"reasoning": {"max_tokens": 2048}, "max_tokens": 2048},
            "reasoning.max_tokens",
            "thinking takes 2048 tokens, and at most 2048 may be answered",
        ),
        (
            "claude-haiku-4-5",
            {"reasoning": {"effort": "low"}, "max_tokens": 1024},
            "reasoning",
            "thinking takes 1024 tokens, and at most 1024 may be answered",
        ),
        (
            "claude-opus-5-5",
            {"tools": [TOOL], "tool_choice": NAMED},
            "tool_choice",
            "this model takes 'auto' and 'none'",
        ),
    ],
)
def test_refusals_say_why(model: str, fields: dict[str, Any], field: str, why: str) -> None:
    (found,) = ANTHROPIC.unsupported(chat(**fields), route(model))
    assert (found.field, found.why) == (field, why)


@pytest.mark.parametrize(
    ("model", "reasoning", "least"),
    [
        ("claude-haiku-4-5", {"max_tokens": 4096}, 4097),
        ("claude-haiku-4-5", {"effort": "low"}, 1025),
        ("claude-haiku-4-5", {"enabled": False}, 1),
        ("claude-haiku-4-5", None, 1),
        ("claude-sonnet-4-6", {"effort": "high"}, 1),
        ("claude-sonnet-4-6", {"max_tokens": 2048}, 2049),
    ],
)
def test_a_budget_needs_room_for_an_answer(model: str, reasoning: Any, least: int) -> None:
    given = chat(reasoning=reasoning)
    assert ANTHROPIC.output_tokens_min(given, route(model)) == least
    sent = ANTHROPIC.request(given, route(model), output_bound=max(least, 2), stream=False, secret="k")
    sandbox_rules.check(decode_body(sent.body), MODELS[model], VERSIONS[0])
