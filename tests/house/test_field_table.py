"""Every field of a request has a row, the rows are what the adapters do, and the documentation shows them."""

from typing import Any, get_args

import msgspec
import pytest

from completions.chat.ask import ask_of
from completions.chat.request import Chat, Fields
from completions.dialects.openai_chat.schema import parse_chat
from completions.providers.anthropic.rules import Effort, Rules, ThinkingMode
from completions.providers.kinds import KINDS
from tests.kit import CHECKOUT, openrouter_recordings
from tests.kit.claude_routes import route as claude
from tests.kit.field_table import field_table
from tests.kit.translators import adapter

DOC = (CHECKOUT / "docs" / "providers.md").read_text()
TOOL = {"type": "function", "function": {"name": "look"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
# A value of each field that asks for something, and how it looks in Anthropic's body.
ASKED: dict[str, Any] = {
    "model": "anthropic/claude-sonnet-4.6",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
    "max_tokens": 9,
    "max_completion_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 40.0,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "repetition_penalty": 1.5,
    "stop": "END",
    "seed": 7,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 5},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "tools": [TOOL],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "web_search_options": {},
    "metadata": {"a": "b"},
    "user": "user-1",
    "stream": True,
    "stream_options": {"include_usage": True},
}
BESIDE = {
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
    "parallel_tool_calls": {"tools": [TOOL]},
    "stream_options": {"stream": True},
}
LOOK = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
IN_ANTHROPICS_WORDS: dict[str, dict[str, Any]] = {
    "model": {"model": "claude-sonnet-4-6"},
    "messages": {"system": "Be brief.", "messages": [{"role": "user", "content": "Hello!"}]},
    "max_tokens": {"max_tokens": 9},
    "max_completion_tokens": {"max_tokens": 9},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 40},
    "stop": {"stop_sequences": ["END"]},
    "response_format": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "tools": {"tools": [LOOK]},
    "tool_choice": {"tool_choice": {"type": "any"}},
    "parallel_tool_calls": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "reasoning": {
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "low"},
    },
    "web_search_options": {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]},
    "user": {"metadata": {"user_id": "user-1"}},
    "stream": {"stream": True},
    "stream_options": {},
}
IN_OPENAIS_WORDS: dict[str, dict[str, Any]] = {
    "model": {"model": "openai/gpt-4.1-mini-2025-04-14"},
    "max_tokens": {"max_tokens": 9},
    "max_completion_tokens": {"max_tokens": 9},
    "reasoning": {"reasoning_effort": "low"},
    "stream_options": {"stream_options": {"include_usage": True}},
}


# How the translated fields look in the body of each kind.
WORDS = {"openrouter": IN_OPENAIS_WORDS, "openai": IN_OPENAIS_WORDS, "anthropic": IN_ANTHROPICS_WORDS}
ROUTES = {
    "openrouter": openrouter_recordings.route("openrouter"),
    "openai": openrouter_recordings.route("openai"),
    "anthropic": claude(),
}


def chat(field: str) -> Chat:
    base = {name: ASKED[name] for name in ("model", "messages")}
    return parse_chat(msgspec.json.encode({**base, **BESIDE.get(field, {}), field: ASKED[field]}))


def sent(kind: str, field: str) -> tuple[list[str], dict[str, Any]]:
    """What is refused of a request that asks for this field, and the body it becomes."""
    given = chat(field)
    to = ROUTES[kind]
    refused = [one.field for one in adapter(kind).unsupported(given, to)]
    if refused:
        return refused, {}
    ask = ask_of(given, "/")
    bound = ask.demand.output_tokens or 64
    request = adapter(kind).request(given, to, output_bound=bound, stream=ask.stream, secret="")
    return [], msgspec.json.decode(request.body)


def test_every_kind_has_a_word_for_every_field_in_the_order_of_the_schema() -> None:
    assert tuple(ASKED) == Fields.__struct_fields__
    assert {tuple(kind.treatment) for kind in KINDS.values()} == {Fields.__struct_fields__}
    assert WORDS.keys() == ROUTES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", Fields.__struct_fields__)
def test_a_column_says_what_becomes_of_a_field(kind: str, field: str) -> None:
    outcome = KINDS[kind].treatment[field].outcome
    refused, body = sent(kind, field)
    if outcome == "refused":
        assert field in refused
        return
    assert refused == []
    if outcome == "forwarded":
        assert body[field] == ASKED[field]
        return
    assert {name: body.get(name) for name in WORDS[kind][field]} == WORDS[kind][field]


def test_the_documentation_shows_every_kind() -> None:
    shown = DOC.split("## Every field\n")[1].split("\n## ")[0].strip().split("\n\n")[0].splitlines()
    labels = shown[0].strip("| ").split(" | ")[1:]
    assert sorted(labels) == sorted(kind.label for kind in KINDS.values())
    by_label = {kind.label: kind for kind in KINDS.values()}
    assert shown == field_table([by_label[label] for label in labels])


def test_every_rule_is_documented_with_its_words() -> None:
    table = DOC.split("### Rules\n")[1]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(Rules.__struct_fields__)
    for word in (*get_args(ThinkingMode), *get_args(Effort)):
        assert f"`{word}`" in table
