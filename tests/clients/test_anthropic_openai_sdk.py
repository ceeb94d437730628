"""Claude through the OpenAI SDK, over a socket: by Anthropic and OpenRouter, whole and streamed, for the same credits.

The sandbox's Anthropic refuses what the real one refuses, so every conversation here is also one that was
translated into a request it takes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from billing.models import Usage
from billing.oversight import verifier
from sandbox.server import SandboxServer
from tests.kit.conversations import (
    CAPITAL,
    COUNT,
    FRANCE,
    PARIS,
    PARIS_WEATHER,
    PIXEL,
    TIME,
    TWO_CITIES,
    WEATHER,
    Told,
    picture,
)
from tests.kit.live import Server, start_server
from tests.kit.sdk_answers import streamed, told
from tests.kit.tenants import Tenant, make_tenant, wait_closed

FACES = ("anthropic", "openrouter")
CREDITS_MICRO = 100_000_000
SONNET = "anthropic/claude-sonnet-4.6"
REPORT = '{"temp": 18, "unit": "C"}'
REPORTED = "get_weather (city: Paris): temp is 18, unit is C. get_weather (city: Berlin): temp is 18, unit is C."


@pytest.fixture
def rich(live_db: None) -> Iterator[Tenant]:
    tenant = make_tenant(CREDITS_MICRO)
    yield tenant
    wait_closed(tenant)
    assert verifier.violations() == []


@pytest.fixture
def client(gateway: Server, rich: Tenant) -> Iterator[OpenAI]:
    with OpenAI(api_key=rich.api_key, base_url=gateway.base_url, max_retries=0) as client:
        yield client


def asked(*messages: Any, model: str = SONNET, **fields: Any) -> dict[str, Any]:
    extra = {name: fields.pop(name) for name in ("reasoning", "top_k", "web_search_options") if name in fields}
    return {"model": model, "messages": list(messages), "max_tokens": 4096, "extra_body": extra, **fields}


def by(face: str) -> dict[str, Any]:
    return {"extra_headers": {"X-Quantized-Provider": face}}


STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


# --- What is asked, and what comes of it everywhere -------------------------------------------------


class Conversation(NamedTuple):
    request: dict[str, Any]
    tells: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    thoughts: int = 0  # words of reasoning
    finish: str = "stop"
    tokens: tuple[int, int] = (15, 8)
    credits_micro: int = 17_369


PARIS_CALL, BERLIN_CALL = (("get_weather", json.dumps({"city": city})) for city in ("Paris", "Berlin"))
CONVERSATIONS = {
    "text": Conversation(asked(FRANCE), PARIS),
    "several_turns": Conversation(
        asked(
            {"role": "system", "content": "Be brief."},
            FRANCE,
            {"role": "assistant", "content": PARIS},
            {"role": "user", "content": "What about Germany?"},
            temperature=0.5,
            stop=["END"],
            user="user-1",
            top_k=40,
        ),
        "The capital of Germany is Berlin.",
        tokens=(41, 8),
        credits_micro=25_579,
    ),
    "one_tool": Conversation(
        asked(PARIS_WEATHER, tools=[WEATHER]),
        calls=(PARIS_CALL,),
        finish="tool_calls",
        tokens=(73, 13),
        credits_micro=43_579,
    ),
    "parallel_tools": Conversation(
        asked(TWO_CITIES, tools=[WEATHER, TIME], tool_choice="auto"),
        calls=(PARIS_CALL, BERLIN_CALL),
        finish="tool_calls",
        tokens=(131, 25),
        credits_micro=80_843,
    ),
    "one_tool_at_a_time": Conversation(
        asked(TWO_CITIES, tools=[WEATHER, TIME], parallel_tool_calls=False),
        calls=(PARIS_CALL,),
        finish="tool_calls",
        tokens=(131, 13),
        credits_micro=61_895,
    ),
    "a_tool_required": Conversation(
        asked(FRANCE, tools=[WEATHER, TIME], tool_choice="required"),
        calls=(("get_weather", '{"city": "France"}'),),
        finish="tool_calls",
        tokens=(128, 13),
        credits_micro=60_948,
    ),
    "a_tool_by_name": Conversation(
        asked(FRANCE, tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": "get_time"}}),
        calls=(("get_time", '{"city": "France"}'),),
        finish="tool_calls",
        tokens=(128, 13),
        credits_micro=60_948,
    ),
    "tools_forbidden": Conversation(
        asked(FRANCE, tools=[WEATHER], tool_choice="none"), PARIS, tokens=(72, 8), credits_micro=35_369
    ),
    "an_image_by_url": Conversation(
        asked(picture(url="https://example.com/photo.jpg")),
        "There is one image: one at https://example.com/photo.jpg.",
        tokens=(779, 18),
        credits_micro=274_422,
    ),
    "an_image_as_data": Conversation(
        asked(picture(url=PIXEL)),
        "There is one image: a PNG of 1 by 1 pixels.",
        tokens=(269, 16),
        credits_micro=110_211,
    ),
    "a_json_schema": Conversation(
        asked(FRANCE, response_format={"type": "json_schema", "json_schema": CAPITAL}),
        '{"country": "France", "capital": "Paris"}',
        tokens=(15, 13),
        credits_micro=25_264,
    ),
    "a_stop_sequence": Conversation(asked(COUNT, stop=" 4"), "1, 2, 3,", tokens=(12, 9), credits_micro=18_000),
    "an_output_bound": Conversation(
        asked(COUNT, max_tokens=5), "1, 2,", finish="length", tokens=(12, 5), credits_micro=11_685
    ),
    "reasoning_by_effort": Conversation(
        asked(FRANCE, reasoning={"effort": "low"}), PARIS, thoughts=14, tokens=(15, 24), credits_micro=42_632
    ),
    "reasoning_of_the_dearest": Conversation(
        asked(FRANCE, model="anthropic/claude-fable-5.1", reasoning={"effort": "high"}),
        PARIS,
        thoughts=58,
        tokens=(15, 72),
        credits_micro=394_737,
    ),
    "reasoning_by_budget": Conversation(
        asked(FRANCE, model="anthropic/claude-haiku-4.5", reasoning={"max_tokens": 1024}),
        PARIS,
        thoughts=28,
        tokens=(15, 40),
        credits_micro=22_632,
    ),
    "reasoning_switched_off": Conversation(
        asked(FRANCE, model="anthropic/claude-opus-5", reasoning={"enabled": False}), PARIS, credits_micro=28_948
    ),
    "cached": Conversation(
        asked(FRANCE, user="sandbox:prompt=5000 cached=4000 cache_write=900"),
        PARIS,
        tokens=(5000, 8),
        credits_micro=525_790,
    ),
    "beyond_a_tier": Conversation(
        asked(FRANCE, model="anthropic/claude-haiku-5.5", user="sandbox:prompt=100001", reasoning={"effort": "none"}),
        PARIS,
        tokens=(100_001, 8),
        credits_micro=5_265_316,
    ),
}


def seen(answer: Told) -> Conversation:
    calls = tuple((name, arguments) for name, arguments in answer.calls)
    thoughts, used = len((answer.reasoning or "").split()), (answer.prompt_tokens, answer.completion_tokens)
    return Conversation({}, answer.text or "", calls, thoughts, answer.finish, used, answer.credits)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_both_providers_say_and_cost_the_same_whole_and_streamed(client: OpenAI, sandbox: SandboxServer, name: str):
    expected = CONVERSATIONS[name]
    found = {}
    for face in FACES:
        found[face] = seen(told(client.chat.completions.create(**expected.request, **by(face))))
        stream = client.chat.completions.create(**expected.request, **by(face), **STREAMED)
        found[f"{face}, streamed"] = seen(streamed(stream))
    assert found == {name: expected._replace(request={}) for name in found}
    assert [call.path for call in sandbox.calls[-4:]] == ["/v1/messages"] * 2 + ["/api/v1/chat/completions"] * 2


# --- Tool loops ---------------------------------------------------------------------------------------


class Looped(NamedTuple):
    first: tuple[int, int, int]
    second: tuple[int, int, int]


LOOPS = {
    "anthropic/claude-sonnet-4.6": ({"effort": "low"}, Looped((75, 41, 88_422), (135, 51, 123_158))),
    "anthropic/claude-opus-4.8": ({"effort": "xhigh"}, Looped((75, 121, 357_895), (135, 131, 415_790))),
    "anthropic/claude-opus-5": ({"effort": "low"}, Looped((75, 41, 147_369), (135, 51, 205_264))),
    "anthropic/claude-fable-5.1": ({"effort": "low"}, Looped((75, 41, 294_737), (135, 51, 410_527))),
    "anthropic/claude-sonnet-5.5": ({"enabled": True}, Looped((75, 57, 75_790), (135, 67, 98_948))),
    "anthropic/claude-haiku-4.5": ({"max_tokens": 2048}, Looped((75, 57, 37_895), (135, 67, 49_474))),
}


def figures(answer: Told) -> tuple[int, int, int]:
    return answer.prompt_tokens, answer.completion_tokens, answer.credits


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("model", LOOPS)
def test_a_tool_loop_with_reasoning_goes_on_with_what_we_said_alone(client: OpenAI, model: str, face: str):
    reasoning, expected = LOOPS[model]
    request = asked(TWO_CITIES, model=model, tools=[WEATHER], reasoning=reasoning) | by(face)
    whole = client.chat.completions.create(**request)
    with client.chat.completions.stream(**request, stream_options={"include_usage": True}) as stream:
        gathered = stream.get_final_completion()
    for first in (whole, gathered):
        message = first.choices[0].message
        assert seen(told(first)).calls == (PARIS_CALL, BERLIN_CALL)
        results = [{"role": "tool", "tool_call_id": call.id, "content": REPORT} for call in message.tool_calls]
        follow_up = request | {"messages": [TWO_CITIES, message, *results]}
        second = client.chat.completions.create(**follow_up)
        again = streamed(client.chat.completions.create(**follow_up, **STREAMED))
        assert (second.choices[0].message.content, again.text) == (REPORTED, REPORTED)
        assert (figures(told(first)), figures(told(second)), figures(again)) == (*expected, expected.second)


def test_sealed_thoughts_are_the_same_whole_and_streamed(client: OpenAI):
    request = asked(TWO_CITIES, model="anthropic/claude-opus-5.5", tools=[WEATHER], reasoning={"effort": "low"})
    whole = client.chat.completions.create(**request, **by("anthropic")).choices[0].message
    with client.chat.completions.stream(**request, **by("anthropic")) as stream:
        gathered = stream.get_final_completion().choices[0].message
    (detail,) = whole.model_extra["reasoning_details"]
    assert gathered.model_extra["reasoning_details"] == [detail]
    assert set(detail) == {"type", "text", "signature", "format", "index"}
    assert (detail["type"], detail["format"], detail["index"]) == ("reasoning.text", "anthropic-claude-v1", 0)
    assert detail["text"] == whole.model_extra["reasoning"] == gathered.model_extra["reasoning"]


def loop(client: OpenAI, model: str, reasoning: Any, change: Any) -> Any:
    """A tool loop whose client does something to what it was told."""
    request = asked(PARIS_WEATHER, model=model, tools=[WEATHER], reasoning=reasoning) | by("anthropic")
    message = client.chat.completions.create(**request).choices[0].message.model_dump()
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": REPORT}
    return client.chat.completions.create(**request | {"messages": change([PARIS_WEATHER, message, result])})


def without_details(messages: list[Any]) -> list[Any]:
    return [{name: part for name, part in message.items() if name != "reasoning_details"} for message in messages]


def test_a_client_that_keeps_no_details_goes_on_without_them(client: OpenAI):
    second = loop(client, "anthropic/claude-opus-5", {"effort": "low"}, without_details)
    assert second.choices[0].message.content == "get_weather (city: Paris): temp is 18, unit is C."


def test_with_a_budget_the_details_must_come_back(client: OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        loop(client, "anthropic/claude-haiku-4.5", {"max_tokens": 1024}, without_details)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages[1].reasoning_details")


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("anthropic/claude-opus-5", lambda details: [{**details[0], "text": "Something else."}]),
        ("anthropic/claude-opus-5", lambda details: [{**details[0], "signature": "EpAD"}]),
    ],
)
def test_a_changed_thought_is_refused_in_the_providers_words(client: OpenAI, model: str, change: Any):
    def changed(messages: list[Any]) -> list[Any]:
        messages[1]["reasoning_details"] = change(messages[1]["reasoning_details"])
        return messages

    with pytest.raises(openai.BadRequestError, match="Invalid `signature` in `thinking` block"):
        loop(client, model, {"effort": "low"}, changed)


def test_a_changed_past_is_refused_by_models_that_bind_their_thoughts(client: OpenAI):
    def changed(messages: list[Any]) -> list[Any]:
        return [{"role": "user", "content": "What is the weather in Berlin?"}, *messages[1:]]

    assert loop(client, "anthropic/claude-opus-5", {"effort": "low"}, changed).choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="The block is bound to a different conversation"):
        loop(client, "anthropic/claude-fable-5.1", {"effort": "low"}, changed)


def test_thoughts_that_are_not_shown_go_back_all_the_same(client: OpenAI):
    told_back = []

    def same(messages: list[Any]) -> list[Any]:
        told_back.append(messages[1])
        return messages

    for reasoning in (None, {"effort": "low", "exclude": True}):
        second = loop(client, "anthropic/claude-fable-5.1", reasoning, same)
        assert second.choices[0].finish_reason == "stop"
    for message in told_back:
        (detail,) = message["reasoning_details"]
        assert (message.get("reasoning"), detail["text"], len(detail["signature"]) > 40) == (None, "", True)


def test_redacted_thoughts_go_back(client: OpenAI):
    secret = {
        "role": "user",
        "content": "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING What's the weather in Paris?",
    }
    request = asked(secret, model="anthropic/claude-fable-5.1", tools=[WEATHER], reasoning={"effort": "low"})
    request |= by("anthropic")
    with client.chat.completions.stream(**request) as stream:
        message = stream.get_final_completion().choices[0].message
    (detail,) = message.model_extra["reasoning_details"]
    assert (detail["type"], detail["format"], set(detail)) == (
        "reasoning.encrypted",
        "anthropic-claude-v1",
        {"type", "data", "format", "index"},
    )
    results = [{"role": "tool", "tool_call_id": call.id, "content": REPORT} for call in message.tool_calls]
    second = client.chat.completions.create(**request | {"messages": [secret, message, *results]})
    assert second.choices[0].finish_reason == "stop"


# --- Structured output, caching, search -----------------------------------------------------------------


class City(BaseModel):
    name: str = Field(min_length=1, max_length=80)
    population: int = Field(ge=0)


class Country(BaseModel):
    country: str
    capital: City
    rivers: list[str] = Field(max_length=3)


def test_the_parse_helper_fills_a_model_with_limits(client: OpenAI):
    for face in FACES:
        request = asked(FRANCE, **by(face))
        parsed = client.chat.completions.parse(**request, response_format=Country).choices[0].message.parsed
        assert isinstance(parsed, Country)
        assert parsed.country == "France"


def test_marked_prompts_are_written_to_the_cache_once_and_read_from_it_after(client: OpenAI, rich: Tenant):
    # 6,000 tokens of instructions that no other test has.
    book = {"type": "text", "text": f"{rich.organization_id} " + "word " * 6000}
    system = {"role": "system", "content": [{**book, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
    question = {"type": "text", "text": FRANCE["content"], "cache_control": {"type": "ephemeral"}}
    turn = {"role": "user", "content": [question]}
    first, second, third = (
        client.chat.completions.create(**asked(system, turn), **by("anthropic")).usage,
        client.chat.completions.create(**asked(system, turn), **by("anthropic")).usage,
        client.chat.completions.create(**asked(system, {"role": "user", "content": "Hello"}), **by("anthropic")).usage,
    )
    wait_closed(rich)
    rows = [
        (row.prompt_tokens, row.cached_tokens, row.cache_write_5m_tokens, row.cache_write_1h_tokens)
        for row in Usage.objects.filter(wallet_id=rich.organization_id).order_by("recorded_at")
    ]
    total, of_book, of_turn = rows[0][0], rows[0][3], rows[0][2]
    assert of_book > 6000
    assert of_turn == 11  # the user's turn
    assert rows == [
        (total, 0, of_turn, of_book),
        (total, of_book + of_turn, 0, 0),
        (rows[2][0], of_book, 0, 0),
    ]
    assert first.prompt_tokens_details.cached_tokens == 0
    assert first.prompt_tokens_details.cache_write_tokens == of_book + of_turn
    assert second.prompt_tokens_details.cached_tokens == of_book + of_turn
    plain = total - of_book - of_turn
    # 3 USD per million, an hour's write twice that, five minutes' a quarter more, a read a tenth; 8 tokens out at 15.
    nano = plain * 3000 + of_book * 6000 + of_turn * 3750 + 8 * 15000
    assert first.model_extra["credits_used"] == -(-nano * 100 * 1_000_000 * 100 // (95 * 10**9))
    nano = plain * 3000 + (of_book + of_turn) * 300 + 8 * 15000
    assert second.model_extra["credits_used"] == -(-nano * 100 * 1_000_000 * 100 // (95 * 10**9))
    assert third.prompt_tokens_details.cached_tokens == of_book


def test_a_search_is_charged_and_cited(client: OpenAI):
    request = asked(FRANCE, web_search_options={"search_context_size": "low"}) | by("anthropic")
    whole = client.chat.completions.create(**request)
    with client.chat.completions.stream(**request, stream_options={"include_usage": True}) as stream:
        gathered = stream.get_final_completion()
    (cited,) = whole.choices[0].message.annotations
    assert (cited.url_citation.start_index, cited.url_citation.end_index) == (0, len(PARIS))
    assert cited.url_citation.url.startswith("https://en.wikipedia.org/")
    assert gathered.choices[0].message.annotations[0].url_citation == cited.url_citation
    assert (whole.choices[0].message.content, whole.choices[0].message.tool_calls) == (PARIS, None)
    # One search for 0.01 USD beside 15 tokens in and 8 out.
    for answer in (whole, gathered):
        assert answer.usage.model_extra["credits_used"] == 1_070_000


# --- Ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("compaction", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_every_stop_reason(client: OpenAI, stop_reason: str, finish_reason: str):
    request = asked(FRANCE, user=f"sandbox:finish={stop_reason}") | by("anthropic")
    refusal = "The request was declined by the sandbox's model." if stop_reason == "refusal" else None
    whole = client.chat.completions.create(**request).choices[0]
    *_, last = client.chat.completions.create(**request, stream=True)
    assert (whole.finish_reason, whole.message.content, whole.message.refusal) == (finish_reason, PARIS, refusal)
    assert (last.choices[0].finish_reason, last.choices[0].delta.refusal) == (finish_reason, refusal)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 429, 500, 504, 529])
def test_what_is_not_the_clients_fault_is_a_503(client: OpenAI, status: int):
    request = asked(FRANCE, user=f"sandbox:fault=http:{status}") | by("anthropic")
    for streaming in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**request, stream=streaming)
        assert (caught.value.status_code, caught.value.code) == (503, "provider_unavailable")
        assert "req_" not in str(caught.value.body)


@pytest.mark.parametrize("fault", ["200_error_top", "die_before", "html:200", "invalid_json", "empty_body"])
def test_a_stream_that_fails_before_its_first_word_is_an_http_error(client: OpenAI, fault: str):
    request = asked(FRANCE, user=f"sandbox:fault={fault}") | by("anthropic")
    for streaming in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**request, stream=streaming)
        assert caught.value.code == "provider_unavailable"


def test_nothing_is_charged_for_what_failed_without_a_word(client: OpenAI):
    credits = client.get("/credits", cast_to=dict[str, Any])
    assert (credits["credits_remaining"], credits["credits_held"]) == (CREDITS_MICRO, 0)
    test_a_stream_that_fails_before_its_first_word_is_an_http_error(client, "200_error_top")
    assert client.get("/credits", cast_to=dict[str, Any])["credits_used"] == 0


@pytest.mark.parametrize("fault", ["midstream_documented:4", "die_after:4", "reset_after:4"])
def test_a_stream_that_breaks_is_charged_for_the_prompt_as_told_and_the_words_as_counted(
    client: OpenAI, rich: Tenant, fault: str
):
    request = asked(FRANCE, user=f"sandbox:tokens=20 prompt=1000 cached=600 cache_write=300 fault={fault}")
    words = []
    with pytest.raises(openai.APIError, match=r"^The upstream provider failed while answering\.$"):
        words.extend(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(**request, **by("anthropic"), stream=True)
        )
    wait_closed(rich)
    row = Usage.objects.get(wallet_id=rich.organization_id)
    assert (row.prompt_tokens, row.cached_tokens, row.cache_write_5m_tokens) == (1000, 600, 300)
    assert (row.completion_tokens, row.estimated) == (-(-len("".join(words)) * 2 // 7), True)


def test_events_of_kinds_nobody_knows_are_passed_over(client: OpenAI):
    request = asked(FRANCE, user="sandbox:fault=no_choices") | by("anthropic")
    assert seen(streamed(client.chat.completions.create(**request, **STREAMED))).tells == PARIS


def test_a_stream_without_its_end_is_a_failure(client: OpenAI):
    request = asked(FRANCE, user="sandbox:fault=no_done") | by("anthropic")
    with pytest.raises(openai.APIError, match=r"^The upstream provider failed while answering\.$"):
        list(client.chat.completions.create(**request, stream=True))


@pytest.mark.parametrize("usage", ["missing", "null", "negative", "absurd", "wrong_types"])
def test_usage_that_cannot_be_is_estimated(client: OpenAI, rich: Tenant, usage: str):
    request = asked(FRANCE, user=f"sandbox:usage={usage}") | by("anthropic")
    whole = told(client.chat.completions.create(**request))
    stream = streamed(client.chat.completions.create(**request, **STREAMED))
    assert (whole.completion_tokens, whole.credits) == (stream.completion_tokens, stream.credits)
    wait_closed(rich)
    assert [row.estimated for row in Usage.objects.filter(wallet_id=rich.organization_id)] == [True, True]


# --- Routes -----------------------------------------------------------------------------------------------


def test_a_refusal_names_the_provider_the_field_and_the_reason(client: OpenAI, rich: Tenant):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked(FRANCE, temperature=1.5), **by("anthropic"))
    assert (caught.value.code, caught.value.param, caught.value.type) == (
        "unsupported_parameter",
        "temperature",
        "invalid_request_error",
    )
    assert caught.value.body["message"] == (
        "Provider 'anthropic' does not support 'temperature' for model 'anthropic/claude-sonnet-4.6': "
        "it must be at most 1."
    )
    assert Usage.objects.filter(wallet_id=rich.organization_id).count() == 0


def test_what_anthropic_cannot_do_goes_by_openrouter_unless_anthropic_is_forced(client: OpenAI, sandbox: SandboxServer):
    request = asked(FRANCE, seed=7, response_format={"type": "json_object"})
    assert client.chat.completions.create(**request).choices[0].finish_reason == "stop"
    assert sandbox.calls[-1].path == "/api/v1/chat/completions"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request, **by("anthropic"))
    assert caught.value.param == "response_format"


def test_openrouter_is_asked_first(client: OpenAI, sandbox: SandboxServer):
    client.chat.completions.create(**asked(FRANCE))
    assert sandbox.calls[-1].path == "/api/v1/chat/completions"


def test_a_claude_falls_over_to_anthropic_for_the_same_credits(
    server_environment: dict[str, str], rich: Tenant, tmp_path: Path
):
    nowhere = {**server_environment, "OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1"}
    with start_server(nowhere, tmp_path) as server, OpenAI(api_key=rich.api_key, base_url=server.base_url) as client:
        for how in ({}, STREAMED):
            answer = client.chat.completions.with_raw_response.create(**asked(FRANCE), **how)
            assert answer.headers["x-quantized-provider"] == "anthropic"
            told_so = streamed(answer.parse()) if how else told(answer.parse())
            assert (told_so.text, told_so.credits) == (PARIS, 17_369)
        wait_closed(rich)


def test_a_budget_that_the_credits_do_not_cover_is_a_402(gateway: Server, live_db: None):
    # 4,097 tokens at 5 USD per million are 2,156,316 micro-credits; the prompt is a few more.
    reasoning = {"max_tokens": 4096}
    request = asked(FRANCE, model="anthropic/claude-haiku-4.5", reasoning=reasoning, max_tokens=None) | by("anthropic")
    for credits_micro, is_enough in ((2_160_000, False), (2_170_000, True)):
        tenant = make_tenant(credits_micro)
        with OpenAI(api_key=tenant.api_key, base_url=gateway.base_url, max_retries=0) as client:
            if is_enough:
                assert client.chat.completions.create(**request).choices[0].message.content == PARIS
            else:
                with pytest.raises(openai.APIStatusError) as caught:
                    client.chat.completions.create(**request)
                assert (caught.value.status_code, caught.value.code) == (402, "insufficient_credits")
        wait_closed(tenant)


def test_a_stream_that_is_left_costs_the_prompt_as_told_and_the_words_as_counted(client: OpenAI, rich: Tenant):
    request = asked(FRANCE, user="sandbox:tokens=500 delay_ms=20 prompt=1000 cached=900") | by("anthropic")
    words = ""
    with client.chat.completions.create(**request, stream=True) as stream:
        for chunk in stream:
            words += chunk.choices[0].delta.content or ""
            if len(words) > 20:
                break
    wait_closed(rich)
    row = Usage.objects.get(wallet_id=rich.organization_id)
    assert (row.prompt_tokens, row.cached_tokens, row.cancelled, row.estimated) == (1000, 900, True, True)
    assert len(words) * 2 // 7 <= row.completion_tokens < 100
