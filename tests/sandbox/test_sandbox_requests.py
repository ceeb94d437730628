"""What the sandbox refuses, in OpenRouter's words: as strict as OpenRouter is."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox import cards
from sandbox.app import Config
from sandbox.cards import ANY_MODEL, Card
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.sandbox import CAPITAL, ask, chat, client, refused, user

PLAIN = Card(
    id="plain/text",
    name="Text only",
    context_length=1000,
    max_output_tokens=100,
    price=ANY_MODEL.price,
    capabilities=frozenset(),
)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + bytes((0, 0, 2, 0)) * 2).decode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[SandboxServer]:
    known = {MODEL: ANY_MODEL, PLAIN.id: PLAIN}
    with SandboxServer(Config(cards=known)) as server:
        yield server


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": None}, "`model`"),
        ({"model": 5}, "$.model"),
        ({"model": ""}, "$.model"),
        ({"model": "openai/gpt-nope"}, "openai/gpt-nope is not a valid model ID"),
        ({"messages": None}, "`messages`"),
        ({"messages": []}, "$.messages"),
        ({"messages": "Hello"}, "$.messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "Invalid value 'robot'"),
        ({"messages": [{"content": "Hi"}]}, "role"),
        ({"messages": user("")}, "messages[0].content must not be empty"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content must not be empty"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must not be empty"),
        ({"messages": [{"role": "user", "content": None}]}, "$.messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "Invalid value 'hologram'"),
        ({"messages": [*CAPITAL, {"role": "assistant", "content": None}]}, "messages[2].content must not be empty"),
        ({"messages": [*CAPITAL, {"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"messages": [*CAPITAL, {"role": "tool", "tool_call_id": "c", "content": "x"}]}, "answers no preceding"),
        ({"messages": [*CAPITAL, {"role": "assistant", "tool_calls": [CALL]}]}, "without a tool message: call_1"),
        ({"messages": [*CAPITAL, {"role": "assistant", "tool_calls": [CALL]}, *CAPITAL]}, "without a tool message"),
        ({"max_tokens": 0}, "$.max_tokens"),
        ({"max_tokens": "many"}, "$.max_tokens"),
        ({"max_completion_tokens": -1}, "$.max_completion_tokens"),
        ({"temperature": 2.1}, "$.temperature"),
        ({"temperature": "hot"}, "$.temperature"),
        ({"top_p": 1.1}, "$.top_p"),
        ({"top_k": -1}, "$.top_k"),
        ({"top_k": 1.5}, "$.top_k"),
        ({"frequency_penalty": 3}, "$.frequency_penalty"),
        ({"presence_penalty": -3}, "$.presence_penalty"),
        ({"repetition_penalty": 2.5}, "$.repetition_penalty"),
        ({"stop": []}, "$.stop"),
        ({"stop": ["a"] * 5}, "$.stop"),
        ({"stop": 5}, "$.stop"),
        ({"seed": 1.5}, "$.seed"),
        ({"logit_bias": {"1": 101}}, "$.logit_bias"),
        ({"top_logprobs": 21, "logprobs": True}, "$.top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs requires logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options is only allowed when stream is true"),
        ({"stream": "yes"}, "$.stream"),
        ({"response_format": {"type": "xml"}}, "$.response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema is required"),
        ({"tools": [{"type": "function"}]}, "$.tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "$.tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "parameters"),
        ({"tool_choice": "required"}, "tool_choice is only allowed when tools are specified"),
        ({"tool_choice": "maybe", "tools": [TOOL]}, "$.tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [TOOL]}, "which is not in tools"),
        ({"reasoning": {"effort": "giant"}}, "$.reasoning.effort"),
        ({"reasoning": {"effort": "low", "max_tokens": 5}}, "Only one of"),
        ({"modalities": []}, "$.modalities"),
        ({"modalities": ["smell"]}, "$.modalities[0]"),
        ({"modalities": ["text", "audio"]}, "audio is required"),
        ({"modalities": ["audio"], "audio": {"voice": "a", "format": "mp3"}}, "speaks wav and pcm16"),
        ({"metadata": {"a": 1}}, "$.metadata"),
        ({"metadata": {"a": "x" * 513}}, "$.metadata"),
        ({"metadata": {str(at): "" for at in range(17)}}, "$.metadata"),
        ({"user": 5}, "$.user"),
        ({"metadata": {"sandbox": "speed=9"}}, "Sandbox directive: Object contains unknown field `speed`"),
        ({"user": "sandbox: fault=fire"}, "Sandbox directive: unknown fault 'fire'"),
    ],
)
def test_what_openrouter_refuses_is_refused_with_its_error_body(
    upstream: SandboxServer, fields: dict[str, Any], told: str
) -> None:
    body = {name: value for name, value in (chat() | fields).items() if value is not None}
    status, answer = refused(upstream, body)
    assert (status, answer["error"]["code"]) == (400, 400)
    assert told in answer["error"]["message"]
    assert answer["user_id"].startswith("user_")
    assert set(answer) == {"error", "user_id"}
    assert upstream.calls[-1].state == "refused"
    assert upstream.calls[-1].bill.cost_usd == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/a.png",
        "data:image/png,plain",
        "data:image/png;base64,@@@",
        "data:image/png;base64,aGVsbG8=",
        "photo.jpg",
    ],
)
def test_an_image_that_is_none_is_refused(upstream: SandboxServer, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    status, answer = refused(upstream, chat(messages=[{"role": "user", "content": [part]}]))
    assert (status, answer["error"]["code"]) == (400, 400)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tools": [TOOL]}, "No endpoints found that support tool use"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
            "No endpoints found that support image input",
        ),
        ({"modalities": ["text", "image"]}, "No endpoints found that support image output"),
    ],
)
def test_what_no_endpoint_of_a_model_takes_is_a_404(upstream: SandboxServer, fields: dict[str, Any], told: str) -> None:
    status, answer = refused(upstream, chat(model=PLAIN.id, **fields))
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (404, 404, told)


def test_parameters_a_model_does_not_know_are_ignored(upstream: SandboxServer) -> None:
    asked = {"logprobs": True, "reasoning": {"effort": "high"}, "response_format": {"type": "json_object"}}
    answer = ask(upstream, model=PLAIN.id, unheard_of=1, **asked)
    assert answer["choices"][0]["logprobs"] is None
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_a_request_longer_than_the_context_is_refused(upstream: SandboxServer) -> None:
    status, answer = refused(upstream, chat(model=PLAIN.id, max_tokens=976))
    assert (status, answer["error"]["metadata"]) == (400, {"error_type": "context_length_exceeded"})
    assert answer["error"]["message"].startswith(
        "This endpoint's maximum context length is 1000 tokens. However, you requested about 1001 tokens "
        "(25 of text input, 976 in the output)."
    )
    assert ask(upstream, model=PLAIN.id, max_tokens=975)["usage"]["completion_tokens"] == 8


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(upstream: SandboxServer, body: bytes) -> None:
    assert refused(upstream, body)[0] == 400


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        ("", "No auth credentials found"),
        ("Bearer", "No auth credentials found"),
        ("Basic abc", "No auth credentials found"),
        ("Bearer invalid", "User not found."),
    ],
)
def test_a_missing_or_wrong_key_is_a_401(upstream: SandboxServer, authorization: str, told: str) -> None:
    status, answer = refused(upstream, chat(), authorization=authorization)
    assert (status, answer) == (401, {"error": {"message": told, "code": 401}})


def test_another_content_type_is_refused(upstream: SandboxServer) -> None:
    assert refused(upstream, chat(), content_type="text/plain")[0] == 400
    assert refused(upstream, chat(), content_type="application/json; charset=utf-8")[1]["object"] == "chat.completion"


def test_wrong_methods_and_unknown_paths(upstream: SandboxServer) -> None:
    with client(upstream) as http:
        wrong = http.get("/chat/completions")
        unknown = http.get("/embeddings")
    assert (wrong.status_code, wrong.headers["allow"], wrong.json()["error"]["code"]) == (405, "POST", 405)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, 404)
    assert wrong.headers["x-quantized-sandbox"] == unknown.headers["x-quantized-sandbox"] == "true"


def test_the_catalogs_models_and_prices_are_served() -> None:
    served = cards.read(cards.CATALOG, "openrouter")
    mini = served[MODEL]
    assert (mini.price.base["input"], mini.price.base["output"]) == (400_000, 1_600_000)
    with SandboxServer(Config(cards=served)) as server:
        listed = httpx.get(f"{server.base_url}/models").json()
        assert ask(server)["usage"]["cost"] == 0.0000228
    assert listed["total_count"] == len(served) == len(listed["data"])
    model = next(one for one in listed["data"] if one["id"] == MODEL)
    assert (model["pricing"]["prompt"], model["pricing"]["completion"]) == ("0.0000004", "0.0000016")
    assert model["context_length"] == mini.context_length
    assert "image" in model["architecture"]["input_modalities"]
    assert "tools" in model["supported_parameters"]


CATALOG = """
[[providers]]
name = "openrouter"
kind = "openrouter"

[[providers]]
name = "elsewhere"
kind = "openai"

[[models]]
id = "a/b"
name = "B"
created = 2025-01-02

[[models.routes]]
provider = "openrouter"
upstream_model = "a/b-upstream"
context_length = 10
max_output_tokens = 5
capabilities = ["tools"]
price = { input = 1.00, output = "2" }
tiers = [{ above_prompt_tokens = 7, input = 3 }]

[[models.routes]]
provider = "elsewhere"
upstream_model = "b"
context_length = 10
max_output_tokens = 5
capabilities = []
enabled = false
"""


def test_a_catalog_is_read_for_one_kind_of_upstream_with_its_tiers(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(CATALOG)
    served = cards.read(file, "openrouter")
    assert list(served) == ["a/b-upstream"]
    card = served["a/b-upstream"]
    assert (card.created, card.capabilities) == (1735776000, frozenset({"tools"}))
    assert card.price.rates(7) == {"input": 1_000_000, "output": 2_000_000}
    assert card.price.rates(8) == {"input": 3_000_000, "output": 2_000_000}
    with SandboxServer(Config(cards=served)) as server:
        pricing = httpx.get(f"{server.base_url}/models").json()["data"][0]["pricing"]
    assert pricing == {
        "prompt": "0.000001",
        "completion": "0.000002",
        "overrides": [{"min_prompt_tokens": 7, "prompt": "0.000003"}],
    }
