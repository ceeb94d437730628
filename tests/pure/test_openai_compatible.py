"""Any OpenAI-compatible server: what is translated, what is refused by name, and which bound it is given."""

import json
from typing import Any

import msgspec
import pytest

from completions import errors
from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat
from completions.routes import Route
from tests.kit.openrouter_recordings import route
from tests.kit.translators import adapter

GENERIC = adapter("openai")


def fields_of(given: Chat, to: Route) -> list[str]:
    return [one.field for one in GENERIC.unsupported(given, to)]


def chat(**fields: Any) -> Chat:
    messages = [{"role": "user", "content": "Name a river."}]
    return parse_chat(json.dumps({"model": "a/b", "messages": messages, **fields}).encode())


def sent(given: Chat, *, stream: bool = False, **of_route: Any) -> dict[str, Any]:
    request = GENERIC.request(given, route("openai", **of_route), output_bound=32, stream=stream, secret="")
    body: dict[str, Any] = msgspec.json.decode(request.body)
    return body


def test_without_a_secret_no_authorization_is_sent() -> None:
    request = GENERIC.request(chat(), route("openai"), output_bound=None, stream=False, secret="")
    assert request.headers == (("content-type", "application/json"), ("accept", "application/json"))
    assert request.path == "/chat/completions"
    assert b"max_tokens" not in request.body


def test_sampling_extras_that_local_servers_take_go_on() -> None:
    body = sent(chat(top_k=40.0, repetition_penalty=1.1, seed=7))
    assert (body["top_k"], body["repetition_penalty"], body["seed"]) == (40, 1.1, 7)


def test_usage_is_always_asked_for_when_streaming() -> None:
    assert sent(chat(stream=True), stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(chat())


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        ({"effort": "high"}, "high"),
        ({"effort": "none"}, "none"),
        ({"enabled": True}, "medium"),
        ({"enabled": False}, "none"),
        ({"enabled": True, "effort": "low", "exclude": False}, "low"),
    ],
)
def test_reasoning_becomes_an_effort(reasoning: dict[str, Any], effort: str) -> None:
    given = chat(reasoning=reasoning)
    assert GENERIC.unsupported(given, route("openai")) == []
    body = sent(given)
    assert (body["reasoning_effort"], "reasoning" in body) == (effort, False)


@pytest.mark.parametrize(
    ("reasoning", "refused"),
    [
        ({"max_tokens": 1000}, ["reasoning.max_tokens"]),
        ({"effort": "low", "exclude": True}, ["reasoning.exclude"]),
        ({"effort": "low", "summary": "auto", "context": "auto"}, ["reasoning.summary", "reasoning.context"]),
    ],
)
def test_reasoning_keys_without_a_word_are_refused_by_name(reasoning: dict[str, Any], refused: list[str]) -> None:
    assert fields_of(chat(reasoning=reasoning), route("openai")) == refused


def test_reasoning_that_says_nothing_sends_nothing() -> None:
    for reasoning in ({}, {"exclude": False}, {"effort": None}):
        body = sent(chat(reasoning=reasoning))
        assert not body.keys() & {"reasoning", "reasoning_effort"}, reasoning


def test_reasoning_switched_off_is_not_told_to_a_model_without_any() -> None:
    body = sent(chat(reasoning={"enabled": False}), capabilities=frozenset())
    assert not body.keys() & {"reasoning", "reasoning_effort"}


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        ("http://127.0.0.1:11434/v1", "max_tokens"),
        ("https://vllm.example.com/v1", "max_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://evil-api.openai.com.example/v1", "max_tokens"),
    ],
)
def test_bound_goes_under_the_name_the_server_knows(base_url: str, field: str) -> None:
    for named in ({}, {"max_tokens": 32}, {"max_completion_tokens": 32}):
        body = sent(chat(**named), base_url=base_url)
        assert {key: body[key] for key in body if key.startswith("max_")} == {field: 32}


def test_capabilities_gate_here_too() -> None:
    given = chat(tools=[{"type": "function", "function": {"name": "f"}}], reasoning={"max_tokens": 9})
    assert fields_of(given, route("openai", capabilities=frozenset())) == ["reasoning", "tools"]


def test_kind_without_an_adapter_cannot_be_reached() -> None:
    with pytest.raises(errors.ProviderUnavailable):
        adapter("telepathy")


def test_vllm_stream_with_usage_in_every_chunk() -> None:
    decoder = GENERIC.decoder(context_length=8_192)
    events = [
        b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        b'"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}}',
        b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"content":"Rhine"},"logprobs":null,"finish_reason":"stop","stop_reason":null}],'
        b'"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2}}',
        b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
        b'"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2,"prompt_tokens_details":null}}',
    ]
    chunks = [decoder.event(data) for data in events]
    assert [
        (len(chunk.payload), chunk.reported.usage.completion_tokens)
        for chunk in chunks
        if chunk and chunk.reported and chunk.reported.usage
    ] == [(0, 0), (1, 2), (0, 2)]
    assert decoder.event(b"[DONE]") is None
