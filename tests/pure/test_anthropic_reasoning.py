"""Thinking blocks go out as reasoning_details and come back as they were, in their places."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.dialects.openai_chat.schema import parse_chat
from tests.kit.claude_routes import route
from tests.kit.profiles import examples
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
HELLO = {"role": "user", "content": "Hello!"}
OURS = {"format": "anthropic-claude-v1"}
A = {"type": "thinking", "thinking": "a", "signature": "SIG-A"}
B = {"type": "thinking", "thinking": "", "signature": "SIG-B"}
SECRET = {"type": "redacted_thinking", "data": "DATA"}
DETAIL_A = {"type": "reasoning.text", "text": "a", "signature": "SIG-A", **OURS, "index": 0}
TEXT = {"type": "text", "text": "Well."}


def call(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "look", "input": {"at": call_id}}


def answered(*content: Any) -> dict[str, Any]:
    """Our message for an answer of these blocks."""
    told = {
        "type": "message",
        "content": content,
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    (choice,) = ANTHROPIC.answer(msgspec.json.encode(told)).payload
    message: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(choice.message))
    return message


def sent_back(message: dict[str, Any], model: str = "claude-opus-5", **fields: Any) -> Any:
    """The blocks of that message in the next request."""
    ids = [one["id"] for one in message.get("tool_calls") or ()]
    results = [{"role": "tool", "tool_call_id": call_id, "content": "18"} for call_id in ids] or [HELLO]
    tools = [{"type": "function", "function": {"name": "look"}}]
    given_chat = parse_chat(
        msgspec.json.encode({"model": "a/b", "messages": [HELLO, message, *results], "tools": tools, **fields})
    )
    assert ANTHROPIC.unsupported(given_chat, route(model)) == []
    request = ANTHROPIC.request(given_chat, route(model), output_bound=4096, stream=False, secret="k")
    return msgspec.json.decode(request.body)["messages"][1]["content"]


@pytest.mark.parametrize(
    "content",
    [
        [A, TEXT],
        [A, call("1"), call("2")],
        [A, SECRET, B, TEXT, call("1")],
        [A, TEXT, B, call("1")],
        [call("1"), A, call("2"), SECRET, call("3")],
        [TEXT, A, call("1"), B, call("2")],
        [B, call("1"), A, SECRET, call("2")],
        [TEXT, call("1")],
    ],
)
def test_what_was_answered_goes_back_block_by_block(content: list[Any]) -> None:
    assert sent_back(answered(*content)) == content


thoughts = st.sampled_from([A, B, SECRET])


@examples(200)
@given(st.lists(thoughts, max_size=2), st.booleans(), st.lists(st.lists(thoughts, max_size=2), min_size=1, max_size=4))
def test_thoughts_keep_their_places_among_text_and_calls(first: list[Any], speaks: bool, between: list[Any]) -> None:
    content = [*first, *([TEXT] if speaks else [])]
    for at, some in enumerate(between):
        content += [*some, call(str(at))]
    assert sent_back(answered(*content)) == content


def test_a_streams_fragments_are_gathered_if_the_client_did_not() -> None:
    fragments = [
        {"type": "reasoning.text", "text": "a", **OURS, "index": 0},
        {"type": "reasoning.text", "text": "b", "index": 0},
        {"type": "reasoning.text", "signature": "SIG", "index": 0},
        {"type": "reasoning.encrypted", "data": "DATA", **OURS, "index": 1},
    ]
    assert sent_back({"role": "assistant", "content": "Well.", "reasoning_details": fragments}) == [
        {"type": "thinking", "thinking": "ab", "signature": "SIG"},
        SECRET,
        TEXT,
    ]


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        "text",
        {"type": "reasoning.text"},
        [{"type": "reasoning.text", "text": "unsealed", **OURS, "index": 0}],
        [{**DETAIL_A, "format": "openai-responses-v1"}],
        [{"type": "reasoning.encrypted", "data": "", **OURS, "index": 0}],
        [{"type": "reasoning.summary", "summary": "a", **OURS, "index": 0}],
        [{"type": 1}],
    ],
)
def test_what_is_no_sealed_thought_of_claudes_stays_behind(details: Any) -> None:
    assert sent_back({"role": "assistant", "content": "Well.", "reasoning_details": details}) == "Well."


def test_details_without_format_or_index_are_taken_for_what_they_are() -> None:
    bare = [
        {"type": "reasoning.text", "text": "a", "signature": "SIG-A"},
        {"type": "reasoning.encrypted", "data": "DATA"},
    ]
    assert sent_back({"role": "assistant", "content": "Well.", "reasoning_details": bare}) == [A, SECRET, TEXT]


@pytest.mark.parametrize("place", ["after-x", "elsewhere", "after-9999999"])
def test_a_place_that_cannot_be_read_is_the_first(place: str) -> None:
    message = {"role": "assistant", "content": "Well.", "reasoning_details": [{**DETAIL_A, "id": place}]}
    assert sent_back(message) == [A, TEXT]


def test_a_place_beyond_the_end_is_the_last() -> None:
    message = {"role": "assistant", "content": "Well.", "reasoning_details": [{**DETAIL_A, "id": "after-7"}]}
    assert sent_back(message) == [TEXT, A]


@pytest.mark.parametrize(
    ("model", "fields", "goes_back"),
    [
        ("claude-sonnet-4-6", {}, False),
        ("claude-sonnet-4-6", {"reasoning": {"effort": "low"}}, True),
        ("claude-sonnet-4-6", {"reasoning": {"enabled": False}}, False),
        ("claude-haiku-4-5", {"reasoning": {"max_tokens": 1024}}, True),
        ("claude-opus-5", {}, True),
        ("claude-opus-5", {"reasoning": {"effort": "none"}}, False),
        ("claude-sonnet-5-5", {"reasoning": {"effort": "none"}}, True),
        ("claude-fable-5-1", {}, True),
    ],
)
def test_thoughts_go_back_where_the_model_thinks(model: str, fields: Any, goes_back: bool) -> None:
    message = {"role": "assistant", "content": "Well.", "reasoning_details": [DETAIL_A]}
    assert sent_back(message, model, **fields) == ([A, TEXT] if goes_back else "Well.")
