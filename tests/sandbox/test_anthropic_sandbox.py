"""The sandbox as Anthropic, over a socket: what it answers, and what it refuses in the real one's words."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox import cards
from sandbox.anthropic.cache import Cached, CacheMark, PromptCache
from sandbox.app import Config
from sandbox.server import SandboxServer
from tests.kit.conversations import PIXEL

HEADERS = {"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"}
HELLO = {"role": "user", "content": "Hello"}
FRANCE = {"role": "user", "content": "What is the capital of France?"}
TOOL = {"name": "get_weather", "description": "Weather by city", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18"}
TEXT = {"type": "text", "text": "Hello"}
PNG = PIXEL.partition(",")[2]


@pytest.fixture(scope="module")
def upstream() -> Iterator[SandboxServer]:
    with SandboxServer(Config(claudes=cards.read(cards.CATALOG, "anthropic"))) as server:
        yield server


def post(server: SandboxServer, body: Any, path: str = "/v1/messages", **headers: str | None) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in (HEADERS | named).items() if value is not None}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(server.origin + path, content=content, headers={"content-type": "application/json", **sent})


def asked(*messages: Any, model: str = "claude-sonnet-4-6", **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2048, "messages": list(messages) or [HELLO], **fields}


def refused(server: SandboxServer, body: Any, **headers: str | None) -> tuple[int, str, str]:
    response = post(server, body, **headers)
    told = response.json()
    assert set(told) == {"type", "error", "request_id"}
    assert set(told["error"]) == {"type", "message"}
    assert response.headers["request-id"].startswith("req_01")
    return response.status_code, told["error"]["type"], told["error"]["message"]


def turn(role: str, *blocks: Any) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


# --- Answers ------------------------------------------------------------------------------------------


def test_a_whole_answer_field_by_field(upstream: SandboxServer) -> None:
    response = post(upstream, asked(FRANCE))
    body = response.json()
    assert response.headers["x-quantized-sandbox"] == "true"
    assert body.pop("id") == upstream.calls[-1].id
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "The capital of France is Paris."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 15,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 8,
            "service_tier": "standard",
            "inference_geo": "global",
        },
    }
    assert (upstream.calls[-1].path, upstream.calls[-1].provider) == ("/v1/messages", "Anthropic")


def test_a_stream_is_named_events_in_order(upstream: SandboxServer) -> None:
    ask = asked(HELLO, stream=True, model="claude-opus-5", thinking={"type": "adaptive", "display": "summarized"})
    response = post(upstream, ask | {"output_config": {"effort": "low"}, "metadata": {"user_id": "sandbox:chunk=99"}})
    events = [block.split("\n") for block in response.text.split("\n\n") if block]
    names = [lines[0].removeprefix("event: ") for lines in events]
    told = [json.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert [one["type"] for one in told] == names
    assert names == [
        *("message_start", "ping"),
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("ping", "message_delta", "message_stop"),
    ]
    assert told[0]["message"]["usage"]["output_tokens"] == 1
    assert told[-2]["usage"]["output_tokens"] == upstream.calls[-1].bill.usage.completion_tokens
    assert told[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 16}


def test_tokens_are_counted_without_an_answer(upstream: SandboxServer) -> None:
    question = {name: part for name, part in asked(FRANCE).items() if name != "max_tokens"}
    counted = post(upstream, question, "/v1/messages/count_tokens")
    assert (counted.status_code, counted.json()) == (200, {"input_tokens": 15})
    assert post(upstream, asked(FRANCE), "/v1/messages/count_tokens").status_code == 400


def test_models_say_what_they_can(upstream: SandboxServer) -> None:
    listed = httpx.get(f"{upstream.origin}/v1/models", headers=HEADERS).json()
    assert (len(listed["data"]), listed["has_more"], listed["first_id"]) == (11, False, "claude-haiku-5-5")
    one = httpx.get(f"{upstream.origin}/v1/models/claude-opus-4-6", headers=HEADERS).json()
    assert one["capabilities"]["thinking"]["types"]["enabled"] == {"supported": True}
    assert one["capabilities"]["effort"]["xhigh"] == {"supported": False}
    missing = httpx.get(f"{upstream.origin}/v1/models/claude-0", headers=HEADERS)
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "model: claude-0")


# --- Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"x_api_key": None}, 401, "x-api-key header is required"),
        ({"x_api_key": "invalid"}, 401, "invalid x-api-key"),
        ({"authorization": "Bearer k"}, 401, "only one of x-api-key and authorization may be sent"),
        ({"anthropic_version": None}, 400, "anthropic-version: header is required"),
        ({"anthropic_version": "2020-01-01"}, 400, "anthropic-version: '2020-01-01' is not a valid version"),
        ({"content_type": "text/plain"}, 400, "Content-Type must be application/json"),
    ],
)
def test_headers(upstream: SandboxServer, headers: dict[str, Any], status: int, message: str) -> None:
    assert refused(upstream, asked(), **headers)[::2] == (status, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Expected `int`, got `null`"),
        ({"max_tokens": 0}, "max_tokens: Expected `int` >= 1"),
        ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs are not permitted"),
        ({"temperature": 1.5}, "temperature: Expected `float` <= 1.0"),
        ({"temperature": 0.5, "top_p": 0.5}, "`temperature` and `top_p` cannot both be specified for this model."),
        ({"stop_sequences": [""]}, "stop_sequences.0: each stop sequence must be non-empty"),
        ({"stop_sequences": ["a", " "]}, "stop_sequences.1: each stop sequence must contain non-whitespace"),
        ({"metadata": {"user_id": "a@b.example"}}, "metadata.user_id: user_id appears to contain an email"),
        ({"metadata": {"other": "x"}}, "metadata.other: Extra inputs are not permitted"),
        ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000, which is the maximum allowed number"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "thinking.budget_tokens: Expected `int` >= 1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "`max_tokens` must be greater than"),
        ({"thinking": {"type": "adaptive"}, "temperature": 0.5}, "`temperature` may not be set when thinking is"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice: Tool 'x' not found"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Input should be 'object'"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools.0.custom.input_schema: For 'object' type, 'additionalProp"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
            "output_config.format.schema: ",
        ),
        ({"system": [{"type": "text", "text": ""}]}, "system.0: text content blocks must be non-empty"),
        ({"messages": []}, "messages: Expected `array` of length >= 1"),
        ({"messages": [{"role": "user", "content": "x", "name": "a"}]}, "messages.0.name: Extra inputs are not perm"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Invalid enum value 'tool'"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.content.0: text content blocks must contain"),
        ({"messages": [turn("user")]}, "messages.0: user messages must have non-empty content"),
        ({"messages": [turn("assistant", TEXT)]}, 'messages: first message must use the "user" role'),
        ({"messages": [HELLO, HELLO]}, 'messages.1: roles must alternate between "user" and "assistant"'),
        ({"messages": [HELLO, turn("assistant", TEXT)]}, "This model does not support assistant message prefill."),
        ({"messages": [HELLO, turn("system", TEXT)]}, "messages.1: role 'system' is not supported on this model"),
        ({"messages": [turn("user", USE)]}, "messages.0.content.0: blocks of this type may not be in a message of"),
        (
            {"messages": [HELLO, turn("assistant", USE), turn("user", TEXT, RESULT)], "tools": [TOOL]},
            "messages.2: tool_result blocks must come before other content",
        ),
        (
            {"messages": [HELLO, turn("assistant", USE), HELLO], "tools": [TOOL]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        ),
        (
            {"messages": [turn("user", RESULT)], "tools": [TOOL]},
            "messages.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1",
        ),
        (
            {"messages": [HELLO, turn("assistant", USE), turn("user", RESULT)]},
            "Requires `tools` param to be defined when `tool_use` or `tool_result` blocks are present",
        ),
        (
            {"messages": [HELLO, turn("assistant", USE, USE), turn("user", RESULT)], "tools": [TOOL]},
            "messages.1: `tool_use` ids must be unique",
        ),
        (
            {"messages": [HELLO, turn("assistant", {**USE, "id": "a.b"}), turn("user", RESULT)], "tools": [TOOL]},
            "messages.1.content.0.id: Expected `str` matching regex",
        ),
        (
            {"messages": [turn("user", {"type": "image", "source": {"type": "url", "url": "http://a.example"}})]},
            "messages.0.content.0.source.url: Only HTTPS URLs are supported",
        ),
        (
            {
                "messages": [
                    turn(
                        "user",
                        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
                    )
                ]
            },
            "messages.0.content.0.source.media_type: the data is image/png, not image/jpeg",
        ),
        (
            {"messages": [turn("user", *[{**TEXT, "cache_control": {"type": "ephemeral"}}] * 5)]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {
                "messages": [
                    HELLO,
                    turn("assistant", {"type": "thinking", "thinking": "a", "signature": "x"}, TEXT),
                    HELLO,
                ]
            },
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
    ],
)
def test_bodies(upstream: SandboxServer, fields: dict[str, Any], message: str) -> None:
    status, kind, told = refused(upstream, asked() | fields)
    assert (status, kind) == (400, "invalid_request_error")
    assert told.startswith(message), told
    assert (upstream.calls[-1].state, upstream.calls[-1].refusal) == ("refused", told)


def test_models_nobody_has(upstream: SandboxServer) -> None:
    assert refused(upstream, asked(model="claude-0")) == (404, "not_found_error", "model: claude-0")


def test_what_is_no_json(upstream: SandboxServer) -> None:
    assert refused(upstream, b"{") == (400, "invalid_request_error", "The request body is not valid JSON")


def test_the_newer_version_has_no_sampling(upstream: SandboxServer) -> None:
    told = refused(upstream, asked(temperature=1), anthropic_version="2026-10-21")
    assert told == (400, "invalid_request_error", "temperature: Extra inputs are not permitted")
    assert post(upstream, asked(temperature=1)).status_code == 200


def test_a_directive_that_cannot_be_read_is_a_refusal(upstream: SandboxServer) -> None:
    status, _, told = refused(upstream, asked(metadata={"user_id": "sandbox:speed=9"}))
    assert (status, told.startswith("Sandbox directive: ")) == (400, True)


def test_a_prompt_that_is_too_long(upstream: SandboxServer) -> None:
    long = {"role": "user", "content": "word " * 200_001}
    told = refused(upstream, asked(long, model="claude-haiku-4-5"))
    assert told == (400, "invalid_request_error", "prompt is too long: 200010 tokens > 200000 maximum")


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (418, "invalid_request_error")]
)
def test_errors_on_demand(upstream: SandboxServer, status: int, kind: str) -> None:
    response = post(upstream, asked(metadata={"user_id": f"sandbox:fault=http:{status}"}))
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
    assert response.headers.get("retry-after") == ("12" if status == 429 else None)


# --- The cache ----------------------------------------------------------------------------------------


def mark(prefix: bytes, tokens: int, *, is_long: bool = False) -> CacheMark:
    return CacheMark(prefix, tokens, is_long)


def test_a_prompt_is_written_once_and_read_after() -> None:
    cache = PromptCache()
    assert cache.pass_through([mark(b"a", 2000), mark(b"ab", 3000)], 1024) == Cached(0, 3000, 0)
    assert cache.pass_through([mark(b"a", 2000), mark(b"ab", 3000)], 1024) == Cached(3000, 0, 0)
    assert cache.pass_through([mark(b"a", 2000), mark(b"ac", 3500)], 1024) == Cached(2000, 1500, 0)
    assert cache.pass_through([mark(b"b", 2000)], 1024) == Cached(0, 2000, 0)


def test_hours_and_minutes_are_told_apart() -> None:
    cache = PromptCache()
    marks = [mark(b"a", 2000, is_long=True), mark(b"ab", 3000)]
    assert cache.pass_through(marks, 1024) == Cached(0, 1000, 2000)
    assert cache.pass_through([*marks, mark(b"abc", 3100)], 1024) == Cached(3000, 100, 0)


def test_short_prompts_are_silently_not_kept() -> None:
    cache = PromptCache()
    for _ in range(2):
        assert cache.pass_through([mark(b"a", 1023)], 1024) == Cached()
