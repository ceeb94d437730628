"""The sandbox's answers over a real socket, in OpenRouter's shapes: exact counts, exact bytes."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.sandbox import CAPITAL, ask, chat, chunks, client, raw, said, stream, stream_text, user

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
USAGE = {
    "prompt_tokens": 25,
    "completion_tokens": 8,
    "total_tokens": 33,
    "cost": 0.0000228,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
    "cost_details": {
        "upstream_inference_cost": 0.0000228,
        "upstream_inference_prompt_cost": 0.00001,
        "upstream_inference_completions_cost": 0.0000128,
    },
    "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0, "audio_tokens": 0},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


def test_the_example_of_the_public_api_is_answered_exactly(upstream: SandboxServer) -> None:
    with client(upstream) as http:
        response = http.post("/chat/completions", json=chat(max_tokens=128, temperature=0.7))
    body = response.json()
    call = upstream.calls[-1]
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-quantized-sandbox"] == "true"
    assert response.headers["x-generation-id"] == body["id"] == call.id
    assert body == {
        "id": call.id,
        "object": "chat.completion",
        "created": int(call.received_at),
        "model": MODEL,
        "provider": "OpenAI",
        "system_fingerprint": "fp_sandbox",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                "finish_reason": "stop",
                "native_finish_reason": "completed",
                "message": {
                    "role": "assistant",
                    "content": "The capital of France is Paris.",
                    "refusal": None,
                    "reasoning": None,
                },
            }
        ],
        "usage": USAGE,
    }


def test_an_id_is_gen_the_time_and_twenty_characters(upstream: SandboxServer) -> None:
    first, second = ask(upstream), ask(upstream)
    gen, moment, rest = first["id"].split("-")
    assert (gen, int(moment), len(rest), rest.isalnum()) == ("gen", first["created"], 20, True)
    assert first["id"] != second["id"]


def test_the_same_prompt_has_the_same_answer_streamed_or_not(upstream: SandboxServer) -> None:
    whole = ask(upstream, messages=user("Tell me a story."))
    parts = stream(upstream, messages=user("Tell me a story."))
    assert said(parts) == whole["choices"][0]["message"]["content"]
    assert parts[-1]["usage"] == whole["usage"]


def test_a_stream_is_exactly_these_bytes(upstream: SandboxServer) -> None:
    text = stream_text(upstream, messages=user("Name a river."))
    call = upstream.calls[-1]
    head = (
        f'data: {{"id":"{call.id}","object":"chat.completion.chunk","created":{int(call.received_at)},'
        f'"model":"{MODEL}","provider":"OpenAI","system_fingerprint":"fp_sandbox","choices":[{{"index":0,"delta":'
    )

    def event(content: str, finish: str = '"finish_reason":null,"native_finish_reason":null') -> str:
        return f'{head}{{"role":"assistant","content":"{content}"}},{finish},"logprobs":null}}]'

    stop = '"finish_reason":"stop","native_finish_reason":"completed"'
    usage = (
        '{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16,"cost":0.0000112,"is_byok":false,'
        '"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0},'
        '"cost_details":{"upstream_inference_cost":0.0000112,"upstream_inference_prompt_cost":4.8e-6,'
        '"upstream_inference_completions_cost":6.4e-6},'
        '"completion_tokens_details":{"reasoning_tokens":0,"image_tokens":0,"audio_tokens":0}}'
    )
    assert text == (
        ": OPENROUTER PROCESSING\n\n"
        + "".join(f"{event(piece)}}}\n\n" for piece in ("The", " Danube", "."))
        + ": OPENROUTER PROCESSING\n\n"
        + f"{event('', stop)}}}\n\n"
        + f'{event("", stop)},"service_tier":null,"usage":{usage}}}\n\n'
        + "data: [DONE]\n\n"
    )


def test_a_streams_head_says_what_it_is(upstream: SandboxServer) -> None:
    found = raw(upstream, "", streamed=True)
    assert (found.status, found.end) == (200, "complete")
    assert found.headers["content-type"] == "text/event-stream"
    assert found.headers["x-quantized-sandbox"] == "true"
    assert found.headers["x-generation-id"] == upstream.calls[-1].id


# --- Usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ("2025", [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        ("empty_choices", []),
        ("repeat", [{"delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]),
    ],
)
def test_usage_comes_in_each_of_the_three_recorded_chunks(
    upstream: SandboxServer, shape: str, choices: list[dict[str, Any]]
) -> None:
    *before, last = stream(upstream, f"usage={shape}")
    assert last["usage"] == USAGE
    assert [{key: choice[key] for key in ("delta", "finish_reason")} for choice in last["choices"]] == choices
    assert ("service_tier" in last) == (shape == "repeat")
    assert before[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in before)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("null", None),
        ("bare", {"prompt_tokens": 25, "completion_tokens": 8, "total_tokens": 33}),
        (
            "no_details",
            {"prompt_tokens": 25, "completion_tokens": 8, "total_tokens": 33, "cost": 0.0000228, "is_byok": False},
        ),
    ],
)
def test_usage_may_be_less_than_expected(upstream: SandboxServer, form: str, expected: Any) -> None:
    assert ask(upstream, f"usage={form}")["usage"] == expected
    last = stream(upstream, f"usage=empty_choices,{form}")[-1]
    assert (last["choices"], last["usage"]) == ([], expected)


def test_usage_may_be_missing(upstream: SandboxServer) -> None:
    assert "usage" not in ask(upstream, "usage=missing")
    parts = stream(upstream, "usage=missing")
    assert not any("usage" in part for part in parts)
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"
    assert upstream.calls[-1].bill.usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("form", "number", "cost"),
    [("zero", 0, 0), ("negative", -25, -0.0000228), ("absurd", 10**18, 10**18), ("wrong_types", "25", "2.28e-05")],
)
def test_usage_may_be_wrong_everywhere(upstream: SandboxServer, form: str, number: Any, cost: Any) -> None:
    usage = ask(upstream, f"usage={form}")["usage"]
    assert (usage["prompt_tokens"], usage["cost"]) == (number, cost)
    assert set(usage) == set(USAGE)
    assert upstream.calls[-1].bill.usage.prompt_tokens == 25


def test_usage_can_be_set_exactly_and_is_priced(upstream: SandboxServer) -> None:
    usage = ask(upstream, "prompt=1000 completion=100 cached=400 cache_write=50 reasoning=60 audio=7")["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1000, 100, 1100)
    assert usage["prompt_tokens_details"] == {
        "cached_tokens": 400,
        "cache_write_tokens": 50,
        "audio_tokens": 7,
        "video_tokens": 0,
    }
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 60
    assert usage["cost"] == 0.00056
    assert ask(upstream, "cost=0.0076509169000000005")["usage"]["cost"] == 0.0076509169000000005


def test_a_web_search_is_cited_and_charged(upstream: SandboxServer) -> None:
    answer = ask(upstream, web_search_options={})
    assert answer["usage"]["server_tool_use_details"] == {"web_search_requests": 1}
    assert answer["usage"]["cost"] == 0.0100228
    assert answer["usage"]["cost_details"]["upstream_inference_cost"] == 0.0000228
    assert answer["usage"]["cost_details"]["server_tool_cost"] == 0.01
    assert answer["choices"][0]["message"]["annotations"][0]["url_citation"]["end_index"] == 31
    parts = stream(upstream, web_search_options={})
    assert [part["choices"][0]["delta"]["annotations"][0]["type"] for part in parts if _has(part, "annotations")] == [
        "url_citation"
    ]


def _has(part: dict[str, Any], key: str) -> bool:
    return bool(part["choices"]) and key in part["choices"][0]["delta"]


# --- Ends, pace, names ----------------------------------------------------------------------


def test_bounds_and_stops_show_in_the_finish_reason(upstream: SandboxServer) -> None:
    cut = ask(upstream, max_tokens=3)
    choice = cut["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The capital of", "length")
    assert choice["native_finish_reason"] == "max_output_tokens"
    assert cut["usage"]["completion_tokens"] == 3
    assert ask(upstream, max_tokens=99, max_completion_tokens=2)["usage"]["completion_tokens"] == 2
    stopped = ask(upstream, stop=[" is"])
    assert stopped["choices"][0]["message"]["content"] == "The capital of France"
    assert stopped["choices"][0]["finish_reason"] == "stop"


def test_the_finish_can_be_repeated_and_named(upstream: SandboxServer) -> None:
    parts = stream(upstream, "repeat_finish usage=empty_choices finish=content_filter")
    finishes = [part["choices"][0]["finish_reason"] for part in parts if part["choices"]]
    assert finishes == [None] * 7 + ["content_filter"] * 2


def test_chunks_and_comments_are_as_many_as_told(upstream: SandboxServer) -> None:
    text = stream_text(upstream, "chunk=3 comments=17")
    assert text.count(": OPENROUTER PROCESSING\n\n") == 34
    assert [part["choices"][0]["delta"]["content"] for part in chunks(text)] == [
        "The capital of",
        " France is Paris",
        ".",
        "",
        "",
    ]


def test_waiting_is_as_long_as_told(upstream: SandboxServer) -> None:
    text = stream_text(upstream, "head_ms=30 first_ms=100 comment_ms=30 delay_ms=10 comments=0")
    call = upstream.calls[-1]
    assert text.count(": OPENROUTER PROCESSING") == 3
    assert call.started_at - call.received_at >= 0.02
    assert call.finished_at - call.started_at >= 0.15
    ask(upstream, "head_ms=30 first_ms=100 delay_ms=10")
    call = upstream.calls[-1]
    assert call.started_at - call.received_at >= 0.19


def test_another_model_and_provider_can_be_named(upstream: SandboxServer) -> None:
    named = "model=openai/gpt-4.1-mini-2025-04-14 provider=Azure"
    answer = ask(upstream, named)
    assert (answer["model"], answer["provider"]) == ("openai/gpt-4.1-mini-2025-04-14", "Azure")
    assert {part["model"] for part in stream(upstream, named)} == {"openai/gpt-4.1-mini-2025-04-14"}


def test_a_directive_may_come_in_the_field_user(upstream: SandboxServer) -> None:
    assert ask(upstream, user="sandbox: tokens=40")["usage"]["completion_tokens"] == 40
    both = ask(upstream, "tokens=50", user="sandbox: tokens=40")
    assert both["usage"]["completion_tokens"] == 50
    assert ask(upstream, user="alice")["usage"] == USAGE


# --- What else a model does -----------------------------------------------------------------


def test_tools_are_called_whole_and_in_fragments(upstream: SandboxServer) -> None:
    asked = {"messages": user("Weather in Paris and London?"), "tools": [WEATHER]}
    choice = ask(upstream, **asked)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "")
    arguments = ['{"city": "Paris"}', '{"city": "London"}']
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "get_weather", "arguments": one} for one in arguments
    ]
    fragments = [
        fragment for part in stream(upstream, **asked) for fragment in part["choices"][0]["delta"].get("tool_calls", [])
    ]
    heads = [fragment for fragment in fragments if "id" in fragment]
    assert heads == [
        {**call, "function": {"name": "get_weather", "arguments": ""}} for call in _without_arguments(choice)
    ]
    for index, one in enumerate(arguments):
        pieces = [part["function"]["arguments"] for part in fragments if part["index"] == index]
        assert "".join(pieces) == one
        assert len(pieces) > 3


def _without_arguments(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: call[key] for key in ("index", "id", "type")} for call in choice["message"]["tool_calls"]]


def test_fragments_can_repeat_id_and_name(upstream: SandboxServer) -> None:
    parts = stream(upstream, "repeat_ids", messages=user("Weather in Paris?"), tools=[WEATHER])
    fragments = [fragment for part in parts for fragment in part["choices"][0]["delta"].get("tool_calls", [])]
    assert len(fragments) > 3
    assert {fragment["function"]["name"] for fragment in fragments} == {"get_weather"}
    assert len({fragment["id"] for fragment in fragments}) == 1


def test_a_tool_loop_comes_to_its_answer(upstream: SandboxServer) -> None:
    asked = user("What's the weather in Paris?")
    called = ask(upstream, messages=asked, tools=[WEATHER])["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": '{"temp": 18, "unit": "C"}'}
    answer = ask(upstream, messages=[*asked, called, result], tools=[WEATHER])["choices"][0]
    assert answer["message"]["content"] == "get_weather (city: Paris): temp is 18, unit is C."
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ("openai/gpt-5", ["reasoning.summary", "reasoning.encrypted"]),
        ("anthropic/claude-sonnet-4.6", ["reasoning.text"]),
        ("deepseek/deepseek-r1", ["reasoning.text"]),
    ],
)
def test_reasoning_is_told_in_the_makers_form(upstream: SandboxServer, model: str, kinds: list[str]) -> None:
    answer = ask(upstream, model=model, reasoning={"effort": "low"})
    message = answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 16
    assert answer["usage"]["completion_tokens"] == 24
    assert [detail["type"] for detail in message["reasoning_details"]] == kinds
    assert ("signature" in message["reasoning_details"][0]) == model.startswith("anthropic")
    parts = stream(upstream, model=model, reasoning={"effort": "low"})
    assert said(parts, "reasoning") == message["reasoning"]
    assert said(parts) == message["content"] == "The capital of France is Paris."


def test_reasoning_can_be_hidden_or_forced(upstream: SandboxServer) -> None:
    hidden = ask(upstream, reasoning={"max_tokens": 12, "exclude": True})
    assert hidden["choices"][0]["message"]["reasoning"] is None
    assert hidden["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12
    assert ask(upstream, reasoning={"effort": "none"})["usage"] == USAGE
    assert ask(upstream, reasoning={"enabled": True})["usage"]["completion_tokens"] == 40
    assert ask(upstream, "think=5")["usage"]["completion_tokens"] == 13


def test_log_probabilities_are_given_for_every_token(upstream: SandboxServer) -> None:
    found = ask(upstream, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in found] == ["The", " capital", " of", " France", " is", " Paris", "."]
    for token in found:
        assert bytes(token["bytes"]).decode() == token["token"]
        ranked = [other["logprob"] for other in token["top_logprobs"]]
        assert len(ranked) == 3
        assert ranked == sorted(ranked, reverse=True)
        assert ranked[0] == token["logprob"] < 0
    parts = stream(upstream, logprobs=True)
    assert [part["choices"][0]["logprobs"]["content"][0]["token"] for part in parts[:7]] == [t["token"] for t in found]


def test_json_is_given_when_asked_for(upstream: SandboxServer) -> None:
    schema = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    answer = ask(upstream, response_format=wanted)
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"capital": "Paris"}
    answer = ask(upstream, response_format={"type": "json_object"})
    assert json.loads(answer["choices"][0]["message"]["content"])["answer"] == "The capital of France is Paris."


def test_an_image_is_seen(upstream: SandboxServer) -> None:
    gif = base64.b64encode(b"GIF89a" + (320).to_bytes(2, "little") + (200).to_bytes(2, "little")).decode()
    parts = [
        {"type": "text", "text": "What is in these images?"},
        {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{gif}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/photo.jpg", "detail": "low"}},
    ]
    answer = ask(upstream, messages=[{"role": "user", "content": parts}])
    assert answer["choices"][0]["message"]["content"] == (
        "There are two images: a GIF of 320 by 200 pixels and one at https://example.com/photo.jpg."
    )
    assert answer["usage"]["prompt_tokens"] == 1 + 4 + 6 + 255 + 85 + 3


def test_sound_is_heard_and_made(upstream: SandboxServer) -> None:
    sound = {"data": base64.b64encode(bytes(6400)).decode(), "format": "wav"}
    heard = ask(upstream, messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}])
    assert heard["choices"][0]["message"]["content"] == "There is one audio clip: 6400 bytes of WAV."
    assert heard["usage"]["prompt_tokens_details"]["audio_tokens"] == 2
    spoken = ask(upstream, modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    message = spoken["choices"][0]["message"]
    assert (message["content"], message["audio"]["transcript"]) == (None, "The capital of France is Paris.")
    assert base64.b64decode(message["audio"]["data"])[:4] == b"RIFF"
    assert spoken["usage"]["completion_tokens_details"]["audio_tokens"] == 7
    parts = stream(upstream, modalities=["text", "audio"], audio={"voice": "alloy", "format": "pcm16"})
    pieces = [part["choices"][0]["delta"]["audio"] for part in parts if _has(part, "audio")]
    assert "".join(piece["transcript"] for piece in pieces) == "The capital of France is Paris."
    assert len(b"".join(base64.b64decode(piece["data"]) for piece in pieces)) == 7 * 2400


def test_an_image_is_made(upstream: SandboxServer) -> None:
    url = ask(upstream, modalities=["text", "image"])["choices"][0]["message"]["images"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,"))[:8] == b"\x89PNG\r\n\x1a\n"
    parts = stream(upstream, modalities=["text", "image"])
    assert [part["choices"][0]["delta"]["images"][0]["image_url"]["url"] for part in parts if _has(part, "images")] == [
        url
    ]


def test_the_official_sdk_reads_both_kinds_of_answers(upstream: SandboxServer) -> None:
    with OpenAI(base_url=upstream.base_url, api_key="sk-or-test", max_retries=0) as sdk:
        whole = sdk.chat.completions.create(model=MODEL, messages=CAPITAL)
        parts = list(sdk.chat.completions.create(model=MODEL, messages=CAPITAL, stream=True))
    assert whole.choices[0].message.content == "The capital of France is Paris."
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "The capital of France is Paris."
    assert parts[-1].usage.total_tokens == whole.usage.total_tokens == 33
