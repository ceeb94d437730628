"""Chat and route → the bytes OpenRouter gets."""

import json
from typing import Any

import msgspec
import pytest

from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat
from completions.routes import Route
from completions.upstream.request import UpstreamRequest
from tests.kit.openrouter_recordings import route
from tests.kit.translators import adapter

OPENROUTER = adapter("openrouter")
NOTHING: frozenset[str] = frozenset()
TOOL = {"type": "function", "function": {"name": "f"}}


def chat(**fields: Any) -> Chat:
    messages = [{"role": "user", "content": "Name a river."}]
    return parse_chat(json.dumps({"model": "openai/gpt-4.1-mini", "messages": messages, **fields}).encode())


def request(given: Chat, *, stream: bool = False, bound: int | None = 32, **of_route: Any) -> UpstreamRequest:
    return OPENROUTER.request(given, route(**of_route), output_bound=bound, stream=stream, secret="sk-or-v1-secret")


def fields_of(given: Chat, to: Route) -> list[str]:
    return [one.field for one in OPENROUTER.unsupported(given, to)]


def body(given: Chat, **kwargs: Any) -> dict[str, Any]:
    sent: dict[str, Any] = msgspec.json.decode(request(given, **kwargs).body)
    return sent


def test_plain_request_to_the_byte() -> None:
    assert request(chat(temperature=0.7)) == UpstreamRequest(
        path="/chat/completions",
        headers=(
            ("authorization", "Bearer sk-or-v1-secret"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("http-referer", "https://quantized.us"),
            ("x-openrouter-title", "Quantized"),
        ),
        body=b'{"messages":[{"role": "user", "content": "Name a river."}],"temperature":0.7,'
        b'"model":"openai/gpt-4.1-mini-2025-04-14","stream":false,"max_tokens":32}',
    )


def test_streamed_request_asks_for_events_and_usage() -> None:
    sent = request(chat(stream=True), stream=True)
    assert dict(sent.headers)["accept"] == "text/event-stream"
    assert msgspec.json.decode(sent.body)["stream"] is True
    assert msgspec.json.decode(sent.body)["stream_options"] == {"include_usage": True}


def test_clients_own_bytes_go_on_unchanged() -> None:
    raw = b'{"model":"x", "messages": [ {"content":"caf\\u00e9 \xc3\xa9","role":"user","x":[1.10]} ], "top_p":0.10}'
    sent = request(parse_chat(raw)).body
    assert b'"messages":[ {"content":"caf\\u00e9 \xc3\xa9","role":"user","x":[1.10]} ]' in sent
    assert b'"top_p":0.10' in sent


def test_every_field_of_the_public_api_goes_on() -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "repetition_penalty": 1.1,
        "stop": ["END"],
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"1": -100},
        "response_format": {"type": "json_object"},
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "high", "exclude": True},
        "web_search_options": {},
        "metadata": {"a": "b"},
        "user": "alice",
    }
    sent = body(chat(**fields))
    assert {name: sent.get(name) for name in fields} == fields
    assert OPENROUTER.unsupported(chat(**fields), route()) == []


def test_whole_top_k_goes_as_an_integer() -> None:
    assert b'"top_k":40,' in request(chat(top_k=40.0)).body


@pytest.mark.parametrize(
    "named",
    [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_tokens": 8, "max_completion_tokens": 9}],
)
def test_one_output_bound_is_sent_whatever_its_name_was(named: dict[str, int]) -> None:
    sent = body(chat(**named), bound=9)
    assert (sent["max_tokens"], "max_completion_tokens" in sent) == (9, False)


def test_nulls_empties_and_our_own_fields_stay_behind() -> None:
    quiet = dict.fromkeys(("seed", "stop", "tools", "reasoning", "user"))
    assert sorted(body(chat(**quiet, metadata={}, tool_choice="auto"))) == ["max_tokens", "messages", "model", "stream"]


def test_neutral_words_go_only_where_the_route_knows_them() -> None:
    neutral = chat(logprobs=False, reasoning={"enabled": False}, temperature=1)
    assert sorted(body(neutral, capabilities=NOTHING)) == ["max_tokens", "messages", "model", "stream", "temperature"]
    knowing = body(neutral, capabilities=frozenset({"logprobs", "reasoning"}))
    assert (knowing["logprobs"], knowing["reasoning"]) == (False, {"enabled": False})


@pytest.mark.parametrize(
    ("fields", "unsupported"),
    [
        ({"tools": [TOOL], "parallel_tool_calls": False}, ["parallel_tool_calls", "tools"]),
        ({"response_format": {"type": "json_object"}}, ["response_format"]),
        ({"reasoning": {"effort": "low"}}, ["reasoning"]),
        ({"logprobs": True}, ["logprobs"]),
        ({"web_search_options": {}}, ["web_search_options"]),
        ({"modalities": ["audio", "image"]}, ["modalities"]),
        ({"temperature": 0, "seed": 1, "top_k": 4, "stop": "x"}, []),
        ({"logprobs": False, "tool_choice": "auto", "reasoning": {"effort": "none"}}, []),
    ],
)
def test_what_a_route_cannot_do_is_named(fields: dict[str, Any], unsupported: list[str]) -> None:
    assert fields_of(chat(**fields), route(capabilities=NOTHING)) == unsupported


def test_parts_a_route_cannot_read_are_named() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    given = chat(messages=[{"role": "user", "content": [picture]}])
    assert fields_of(given, route(capabilities=NOTHING)) == ["messages[0].content[0]"]
    assert OPENROUTER.unsupported(given, route(capabilities=frozenset({"image_input"}))) == []
