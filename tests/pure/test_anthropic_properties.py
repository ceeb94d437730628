"""Random OpenAI conversations with tools become requests that the strict sandbox takes, or are refused by name."""

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from completions.dialects.openai_chat.schema import parse_chat
from sandbox.anthropic import history, rules
from sandbox.anthropic.generations import MODELS
from sandbox.anthropic.question import cache_marks, question
from sandbox.anthropic.request import Body, decode_body
from tests.kit.claude_routes import CLAUDES, route
from tests.kit.conversations import PIXEL
from tests.kit.profiles import examples
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
BINDING = [model for model in CLAUDES if MODELS[model].binds_thoughts]
# What may go wrong with a random conversation: nothing is said, the assistant has the first or the last word, the
# model has no such setting. The translation itself has no other reason to refuse these.
REFUSALS = re.compile(
    r"messages(\[\d+\])?|messages\[\d+\]\.reasoning_details|reasoning(\.(effort|enabled|max_tokens))?|tool_choice"
    r"|temperature|top_p|top_k"
)

texts = st.text(max_size=12)
words = st.text("abc xyz.\n", min_size=1, max_size=12)
names = st.sampled_from(["look", "get_weather", "get_time"])
ids = st.text("ab1_-.:/é", min_size=1, max_size=6)
numbers = st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=2), max_leaves=4
)
arguments = st.dictionaries(texts, values, max_size=3).map(lambda held: msgspec.json.encode(held).decode()) | st.just(
    ""
)
marks = st.sampled_from([{}, {}, {}, {"cache_control": {"type": "ephemeral"}}])

text_parts = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, texts, st.just({}))
pictures = st.sampled_from(["https://example.com/a.png", PIXEL]).map(
    lambda url: {"type": "image_url", "image_url": {"url": url}}
)
documents = st.just(
    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
)
user_contents = texts | st.lists(text_parts | pictures | documents, min_size=1, max_size=3)
texts_or_parts = texts | st.lists(text_parts, min_size=1, max_size=2)

system = st.builds(
    lambda role, content: [{"role": role, "content": content}], st.sampled_from(["system", "developer"]), texts_or_parts
)
user = st.builds(lambda content: [{"role": "user", "content": content}], user_contents)
assistant = st.builds(lambda content: [{"role": "assistant", "content": content}], texts_or_parts)
calls = st.builds(
    lambda call_id, name, said: {"id": call_id, "type": "function", "function": {"name": name, "arguments": said}},
    ids,
    names | ids,
    arguments,
)


@st.composite
def loops(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An answer that calls tools, all their results in any order, and perhaps a word of the user among them."""
    made = draw(st.lists(calls, min_size=1, max_size=3, unique_by=lambda call: call["id"]))
    told = [{"role": "tool", "tool_call_id": call["id"], "content": draw(texts_or_parts)} for call in made]
    told = draw(st.permutations(told))
    if draw(st.booleans()):
        told.insert(draw(st.integers(0, len(told))), draw(user)[0])
    content = draw(st.none() | texts_or_parts)
    return [{"role": "assistant", "content": content, "tool_calls": made}, *told]


conversations = st.lists(system | user | assistant | loops(), min_size=1, max_size=6).map(
    lambda parts: [message for part in parts for message in part]
)

HELLO, GO_ON = {"role": "user", "content": "Hello!"}, {"role": "user", "content": "Go on."}
# A talk begins and ends with a word of the user, as it must.
talks = st.builds(lambda first, said: [*first, HELLO, *said, GO_ON], st.just([]) | system, conversations)


def tool(name: str) -> dict[str, Any]:
    parameters = {"properties": {"a": {"type": "string", "maxLength": 5}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


offers = st.lists(names, unique=True, max_size=3).map(lambda offered: [tool(name) for name in offered])
settings = st.fixed_dictionaries(
    {},
    optional={
        "reasoning": st.sampled_from([{"effort": "low"}, {"enabled": False}, {"effort": "high"}, {"max_tokens": 1024}]),
        "temperature": st.sampled_from([0, 0.5, 1]),
        "top_k": st.sampled_from([0, 40]),
        "parallel_tool_calls": st.booleans(),
        "web_search_options": st.just({}),
        "user": st.just("user-1"),
        "stop": words.filter(str.strip),
    },
)


def sent(model: str, messages: list[Any], fields: dict[str, Any]) -> Body | list[str]:
    """The body as Anthropic reads it, or what was refused."""
    given_chat = parse_chat(msgspec.json.encode({"model": "a/b", "messages": messages, **fields}))
    if found := ANTHROPIC.unsupported(given_chat, route(model)):
        return [one.field for one in found]
    bound = max(2048, ANTHROPIC.output_tokens_min(given_chat, route(model)))
    request = ANTHROPIC.request(given_chat, route(model), output_bound=bound, stream=False, secret="k")
    body = decode_body(request.body)
    rules.check(body, MODELS[model], "2023-06-01")
    return body


@examples(250)
@given(st.sampled_from(CLAUDES), talks, offers, st.sampled_from([None, "auto", "none", "required"]), settings)
def test_what_is_not_refused_by_name_is_taken(
    model: str, messages: list[Any], offered: list[Any], choice: Any, fields: dict[str, Any]
) -> None:
    tooling = {"tools": offered, **({"tool_choice": choice} if choice else {})} if offered else {}
    found = sent(model, messages, {**fields, **tooling})
    if isinstance(found, list):
        assert found
        assert all(REFUSALS.fullmatch(field) for field in found), found
        return
    asked = question(found, MODELS[model])
    assert asked.prompt_tokens > 0
    assert len(cache_marks(found)) == 0


@examples(100)
@given(st.sampled_from(BINDING), talks, conversations)
def test_what_was_said_stays_the_same_when_more_is_said(model: str, begun: list[Any], more: list[Any]) -> None:
    """Thoughts and prompt caches are bound to what came before them."""
    fields = {"tools": [tool("look")]}
    first = sent(model, begun, fields)
    second = sent(model, [*begun, {"role": "assistant", "content": "This."}, *more, GO_ON], fields)
    assert isinstance(first, Body)
    assert isinstance(second, Body)
    turns = len(first.messages)
    assert history.prefix(second, turns) == history.prefix(first, turns)
    assert second.messages[turns].role == "assistant"


@examples(150)
@given(st.sampled_from(CLAUDES), conversations)
def test_scraps_of_a_talk_are_refused_by_name_or_taken(model: str, messages: list[Any]) -> None:
    found = sent(model, messages, {})
    if isinstance(found, list):
        assert all(REFUSALS.fullmatch(field) for field in found), found
