"""The official OpenAI SDK for Python, over a socket: whole answers, streams, and its own helpers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat.chat_completion_chunk import ChoiceLogprobs as ChunkLogprobs
from pydantic import BaseModel

from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.conversations import CONVERSATIONS, FRANCE, PARIS, TWO_CITIES, TWO_REPORTS, WEATHER, WORDS
from tests.kit.live import Server, start_server
from tests.kit.sdk_answers import follow_up, streamed, told
from tests.kit.tenants import Tenant, wait_closed


@pytest.fixture
def client(gateway: Server, alice: Tenant) -> Iterator[OpenAI]:
    with OpenAI(api_key=alice.api_key, base_url=gateway.base_url, max_retries=0) as client:
        yield client


def credits_used(client: OpenAI) -> int:
    return client.get("/credits", cast_to=dict[str, Any])["credits_used"]


def test_whole_and_streamed_say_and_cost_the_same(client: OpenAI):
    whole, parts, before = {}, {}, 1_000_000
    for name, (request, expected) in CONVERSATIONS.items():
        completion = client.chat.completions.create(**request)
        chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
        whole[name], parts[name] = told(completion), streamed(chunks)
        after = [answer.usage.model_extra["credits_remaining"] for answer in (completion, chunks[-1])]
        assert after == [before - expected.credits, before - 2 * expected.credits]
        before = after[-1]
    assert whole == parts == {name: expected for name, (_, expected) in CONVERSATIONS.items()}


def test_the_stream_helper_gathers_the_same(client: OpenAI):
    whole = {name: conversation for name, conversation in CONVERSATIONS.items() if name != "an_output_bound"}
    gathered = {}
    for name, (request, _) in whole.items():
        with client.chat.completions.stream(**request, stream_options={"include_usage": True}) as stream:
            gathered[name] = told(stream.get_final_completion())
    assert gathered == {name: expected for name, (_, expected) in whole.items()}


def test_the_stream_helper_says_when_the_output_bound_ended_it(client: OpenAI):
    request, expected = CONVERSATIONS["an_output_bound"]
    asked = client.chat.completions.stream(**request, stream_options={"include_usage": True})
    with asked as stream, pytest.raises(openai.LengthFinishReasonError) as caught:
        stream.get_final_completion()
    assert told(caught.value.completion) == expected


def test_the_stream_helper_tells_events_in_order(client: OpenAI):
    request, _ = CONVERSATIONS["parallel_tools"]
    with client.chat.completions.stream(**request) as stream:
        events = [event for event in stream if event.type != "chunk"]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.index, event.name, event.arguments) for event in done] == [
        (0, "get_weather", '{"city": "Paris"}'),
        (1, "get_weather", '{"city": "Berlin"}'),
    ]
    assert "".join(event.delta for event in events if event.type == "content.delta") == ""


def test_a_stream_is_told_in_order(client: OpenAI):
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=[FRANCE], stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS), {}]
    finishes = [None] * 8 + ["stop"]
    assert [chunk.model_dump(exclude_unset=True)["choices"] for chunk in chunks] == [
        *(
            [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
            for delta, finish in zip(deltas, finishes, strict=True)
        ),
        [],
    ]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * 9
    assert {(chunk.id, chunk.created, chunk.object, chunk.model) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "chat.completion.chunk", MODEL)
    }


def test_without_include_usage_no_chunk_has_usage(client: OpenAI, alice: Tenant):
    chunks = list(client.chat.completions.create(model=MODEL, messages=[FRANCE], stream=True))
    assert [len(chunk.choices) for chunk in chunks] == [1] * 9
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    wait_closed(alice)
    assert credits_used(client) == 1979


# --- Answers that go back ---------------------------------------------------------------------


def test_a_tool_loop_with_the_message_as_it_came(client: OpenAI):
    first = client.chat.completions.create(model=MODEL, messages=[TWO_CITIES], tools=[WEATHER])
    second = client.chat.completions.create(**follow_up(first.choices[0].message))
    assert told(second) == (TWO_REPORTS, None, [], "stop", 135, 35, 11579)


def test_a_tool_loop_with_the_stream_helpers_message(client: OpenAI):
    with client.chat.completions.stream(model=MODEL, messages=[TWO_CITIES], tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    with client.chat.completions.stream(**follow_up(message), stream_options={"include_usage": True}) as stream:
        assert told(stream.get_final_completion()) == (TWO_REPORTS, None, [], "stop", 135, 35, 11579)


def test_a_reasoned_answer_goes_back_as_it_came(client: OpenAI):
    first = client.chat.completions.create(**CONVERSATIONS["reasoning"].request)
    message = first.choices[0].message
    assert message.model_extra["reasoning_details"][0]["summary"] == "The book steady."
    germany = {"role": "user", "content": "What about Germany?"}
    second = client.chat.completions.create(model=MODEL, messages=[FRANCE, message, germany])
    assert told(second) == CONVERSATIONS["several_turns"].told


# --- More than text ---------------------------------------------------------------------------


def test_log_probabilities_whole_and_streamed(client: OpenAI):
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Say: yes"}]}
    asked = {"logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**request, **asked).choices[0].logprobs
    stream = list(client.chat.completions.create(**request, **asked, stream=True))
    assert whole.model_dump() == {
        "content": [
            {
                "token": "yes",
                "bytes": [121, 101, 115],
                "logprob": -0.245261,
                "top_logprobs": [
                    {"token": "yes", "bytes": [121, 101, 115], "logprob": -0.245261},
                    {"token": "yess", "bytes": [121, 101, 115, 115], "logprob": -2.218704},
                ],
            }
        ],
        "refusal": None,
    }
    assert [chunk.choices[0].logprobs for chunk in stream if chunk.choices[0].logprobs] == [
        ChunkLogprobs(**whole.model_dump())
    ]


class Capital(BaseModel):
    country: str
    capital: str


def test_the_parse_helper_fills_a_model(client: OpenAI):
    completion = client.chat.completions.parse(model=MODEL, messages=[FRANCE], response_format=Capital)
    assert completion.choices[0].message.parsed == Capital(country="France", capital="Paris")


def test_fields_the_sdk_does_not_know_go_by_extra_body(client: OpenAI):
    completion = client.chat.completions.create(
        model="openai/gpt-6-luna",
        messages=[FRANCE],
        max_tokens=64,
        extra_body={"top_k": 40, "repetition_penalty": 1.1, "reasoning": {"effort": "minimal"}},
    )
    assert told(completion) == (PARIS, "The book steady teacher always on turns.", [], "stop", 15, 16, 1000)
    assert completion.usage.completion_tokens_details.reasoning_tokens == 8


# --- Headers, models, errors ------------------------------------------------------------------


def test_headers_of_a_raw_response(client: OpenAI):
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[FRANCE], extra_headers={"x-request-id": "my-request-1"}
    )
    completion = answer.parse()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == completion._request_id == "my-request-1"
    assert answer.headers["x-generation-id"] == completion.id
    assert answer.headers["x-quantized-provider"] == "openrouter"


def test_headers_of_a_raw_stream(client: OpenAI):
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=[FRANCE], stream=True)
    ids = {chunk.id for chunk in answer.parse()}
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert re.fullmatch(r"req-[0-9a-f]{32}", answer.headers["x-request-id"])
    assert ids == {answer.headers["x-generation-id"]}


def test_models_are_listed_and_found(client: OpenAI):
    listed = {model.id: model for model in client.models.list()}
    found = client.models.retrieve(MODEL)
    assert listed[MODEL] == found
    assert (found.object, found.owned_by, found.created) == ("model", "openai", 1_744_588_800)
    assert found.model_extra["context_length"] == 1_047_576


REFUSED = {
    "a_model_nobody_has": (
        {"model": "openai/gpt-4.1-minni"},
        (openai.NotFoundError, 404, "not_found_error", "model_not_found", "model"),
    ),
    "a_field_nobody_knows": (
        {"n": 2},
        (openai.BadRequestError, 400, "invalid_request_error", "unknown_field", "n"),
    ),
    "a_number_out_of_range": (
        {"temperature": 3},
        (openai.BadRequestError, 400, "invalid_request_error", "out_of_range", "temperature"),
    ),
    "a_wrong_type": (
        {"max_tokens": "many"},
        (openai.BadRequestError, 400, "invalid_request_error", "invalid_type", "max_tokens"),
    ),
    "a_provider_nobody_knows": (
        {"extra_headers": {"X-Quantized-Provider": "nobody"}},
        (openai.BadRequestError, 400, "invalid_request_error", "unknown_provider", "X-Quantized-Provider"),
    ),
    "what_the_model_cannot_do": (
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        (openai.BadRequestError, 400, "invalid_request_error", "unsupported_parameter", "audio"),
    ),
}


@pytest.mark.parametrize("stream", [False, True])
def test_refusals_have_their_class_code_and_param(client: OpenAI, stream: bool):
    raised = {}
    for name, (fields, _) in REFUSED.items():
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(**{"model": MODEL, "messages": [FRANCE], "stream": stream} | fields)
        error = caught.value
        raised[name] = (type(error), error.status_code, error.type, error.code, error.param)
        assert error.request_id == error.response.headers["x-request-id"]
    assert raised == {name: expected for name, (_, expected) in REFUSED.items()}


@pytest.mark.parametrize("api_key", ["sk-quantized-YOUR-KEY", "sk-other"])
def test_a_wrong_key_is_an_authentication_error(client: OpenAI, api_key: str):
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key=api_key).chat.completions.create(model=MODEL, messages=[FRANCE])
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


def test_credits_that_do_not_suffice_are_told_with_what_would(client: OpenAI):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=[FRANCE], max_tokens=10_000)
    error = caught.value
    assert (type(error), error.status_code) == (openai.APIStatusError, 402)
    assert (error.type, error.code, error.param) == ("insufficient_credits", "insufficient_credits", None)
    assert error.body["metadata"] == {
        "limit_source": "credits",
        "required": 1_685_853,
        "available": 1_000_000,
        "affordable_output_tokens": 5_927,
    }
    affordable = client.chat.completions.create(model=MODEL, messages=[FRANCE], max_tokens=5_927)
    assert affordable.usage.model_extra["credits_used"] == 1979


def test_a_failing_provider_is_tried_again_and_charges_nothing(client: OpenAI, sandbox: SandboxServer):
    received = sandbox.counters["received"]
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=1).chat.completions.create(
            model=MODEL, messages=[FRANCE], user="sandbox:fault=http:503 retry_after=0"
        )
    assert (caught.value.status_code, caught.value.code) == (503, "provider_unavailable")
    assert sandbox.counters["received"] == received + 2
    assert credits_used(client) == 0


def test_a_stream_that_breaks_raises_and_is_charged_for_what_came(client: OpenAI, alice: Tenant):
    stream = client.chat.completions.create(
        model=MODEL, messages=[FRANCE], stream=True, user="sandbox:tokens=20 fault=midstream_documented:4"
    )
    words = []
    with pytest.raises(openai.APIError, match=r"^The upstream provider failed while answering\.$") as caught:
        words.extend(chunk.choices[0].delta.content for chunk in stream)
    assert (caught.value.code, caught.value.type) == ("provider_error", "upstream_error")
    assert len([word for word in words if word]) == 4
    wait_closed(alice)
    assert credits_used(client) == 2022  # an estimate: 20 tokens of the prompt, 7 of the answer


def test_comments_that_keep_the_line_alive_disturb_nothing(
    server_environment: dict[str, str], tmp_path: Path, alice: Tenant
):
    impatient = {**server_environment, "FIRST_EVENT_WAIT_S": "0.05", "KEEPALIVE_S": "0.02"}
    request, expected = CONVERSATIONS["text"]
    slow = {**request, "stream_options": {"include_usage": True}, "user": "sandbox:first_ms=200 delay_ms=50"}
    with start_server(impatient, tmp_path) as server:
        url = f"{server.base_url}/chat/completions"
        seen = httpx.post(url, headers=alice.headers, json={**slow, "stream": True}).content
        with OpenAI(api_key=alice.api_key, base_url=server.base_url, max_retries=0) as client:
            chunks = list(client.chat.completions.create(**slow, stream=True))
            with client.chat.completions.stream(**slow) as stream:
                gathered = told(stream.get_final_completion())
    assert seen.startswith(b": keep-alive\n\n")
    assert b": keep-alive\n\n" in seen.partition(b" capital")[2]
    assert streamed(chunks) == gathered == expected
