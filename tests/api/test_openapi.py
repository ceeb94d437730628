"""The OpenAPI document: true to the URL map, the schema, the errors and the answers, and what its page needs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.contrib.staticfiles import finders
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.validation import validate_schema

from completions import errors
from completions.chat.request import Fields
from completions.dialects.openai_chat.schema import parse_chat
from completions.errors import InvalidRequest
from quantized.documents import document
from tests.kit.conversations import CONVERSATIONS

pytestmark = pytest.mark.django_db

Json = dict[str, Any]
METHODS = {"get", "post", "put", "patch", "delete"}
# Said by the frame around the operations: other methods, a class above the leaves, and what only forms can cause.
OUTSIDE = {"method_not_allowed", "permission_denied"}


@pytest.fixture(scope="module")
def spec() -> Json:
    return json.loads(document()[0])


def operations(spec: Json) -> Iterator[tuple[str, str, Json]]:
    for path, entries in spec["paths"].items():
        for method, entry in entries.items():
            yield method, path, entry


def assert_fits(spec: Json, name: str, value: Any) -> None:
    """Holds a value against a component, or raises jsonschema.ValidationError."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


# --- The document ---------------------------------------------------------------------------------


def test_it_is_valid_openapi(spec: Json):
    assert spec["openapi"] == "3.1.0"
    validate_schema(spec)


def test_it_is_served_to_everybody_and_cached(client):
    answer = client.get("/openapi.json")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer["Cache-Control"] == "public, max-age=300"
    assert answer.content == document()[0]
    again = client.get("/openapi.json", headers={"if-none-match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.post("/openapi.json").status_code == 405


def api_handlers(patterns: list[Any], prefix: str = "/") -> Iterator[tuple[str, str]]:
    """Every method of every address whose view is one of the API's, from the URL map itself."""
    for pattern in patterns:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from api_handlers(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            yield from ((method, path) for method in METHODS if hasattr(pattern.callback.cls, method))


def test_every_handler_is_in_it_and_none_besides(spec: Json):
    served = [(method, path) for method, path in api_handlers(get_resolver().url_patterns) if path[:7] != "/admin/"]
    assert sorted((method, path) for method, path, _ in operations(spec)) == sorted(served)
    assert len(served) == len(set(served)) >= 17


def test_every_operation_has_a_name_a_summary_and_one_shape_of_error(spec: Json):
    names = [entry["operationId"] for _, _, entry in operations(spec)]
    assert len(names) == len(set(names))
    for method, path, entry in operations(spec):
        assert entry["summary"], (method, path)
        for status, answer in entry["responses"].items():
            assert answer["description"], (method, path, status)
            assert answer["headers"]["x-request-id"]["required"], (method, path, status)
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]
                assert schema["allOf"][0] == {"$ref": "#/components/schemas/Error"}


def test_parameters_are_described_and_typed(spec: Json):
    by_name = {each["name"]: each for _, _, entry in operations(spec) for each in entry["parameters"]}
    assert set(by_name) == {
        *("model_id", "key_id", "id", "limit", "after", "include_revoked"),
        *("from", "to", "time_zone", "group_by", "format", "X-Quantized-Provider", "Idempotency-Key"),
    }
    assert all(each.get("description") or each["in"] == "path" for each in by_name.values())
    assert by_name["Idempotency-Key"]["schema"]["pattern"] == "^[!-~]([ -~]{0,253}[!-~])?$"
    assert by_name["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
    assert by_name["after"]["schema"] == {"type": "string", "format": "uuid"}
    assert by_name["group_by"]["schema"]["enum"] == ["day", "hour", "key", "member", "model"]


def codes(spec: Json) -> set[tuple[int, str]]:
    found = set()
    for _, _, entry in operations(spec):
        for status, answer in entry["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]["allOf"][1]
                told = schema["properties"]["error"]["properties"]["code"]["enum"]
                found |= {(int(status), code) for code in told}
    return found


def leaves(kind: type[errors.GatewayError]) -> Iterator[tuple[int, str]]:
    yield kind.status, kind.code
    for below in kind.__subclasses__():
        yield from leaves(below)


def test_every_error_is_in_it_with_its_status(spec: Json):
    assert codes(spec) == {leaf for leaf in leaves(errors.GatewayError) if leaf[1] not in OUTSIDE}


def test_every_name_is_fit_to_be_read(spec: Json):
    assert [name for name in spec["components"]["schemas"] if not re.fullmatch(r"[A-Z][A-Za-z]+", name)] == []


def test_every_reference_leads_somewhere(spec: Json):
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(spec)))
    assert named - set(spec["components"]["schemas"]) == set()
    assert set(spec["components"]["schemas"]) - named == {"ChatCompletionChunk"}  # told of in words: an event's data


# --- The completion ---------------------------------------------------------------------------------


def test_a_request_has_exactly_the_fields_of_the_public_api_all_typed(spec: Json):
    request = spec["components"]["schemas"]["ChatCompletionRequest"]
    assert list(request["properties"]) == list(Fields.__struct_fields__)
    assert request["required"] == ["model", "messages"]
    assert request["additionalProperties"] is False
    assert all(set(kind) & {"type", "anyOf", "enum", "$ref"} for kind in request["properties"].values())
    assert all(
        "description" in kind for name, kind in request["properties"].items() if name in ("model", "temperature")
    )


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_sdks_ask_fits_the_schema(spec: Json, name: str):
    assert_fits(spec, "ChatCompletionRequest", CONVERSATIONS[name].request)


HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": 5},
        {"messages": []},
        {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"temperature": 2.1},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"logit_bias": {"x": 1}},
        {"metadata": {"x": 5}},
        {"reasoning": {"effort": "extreme"}},
        {"reasoning": {"efort": "high"}},
        {"n": 1},
    ],
    ids=str,
)
def test_schema_and_code_refuse_the_same(spec: Json, change: Json):
    body = {"model": "a/b", "messages": HELLO} | change
    with pytest.raises(InvalidRequest):
        parse_chat(json.dumps(body).encode())
    with pytest.raises(jsonschema.ValidationError):
        assert_fits(spec, "ChatCompletionRequest", body)


def test_the_public_apis_own_answer_fits(spec: Json):
    answer = {
        "id": "gen-abc123",
        "object": "chat.completion",
        "model": "openai/gpt-4.1-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital of France is Paris.", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 25,
            "completion_tokens": 8,
            "total_tokens": 33,
            "credits_used": 2400,
            "credits_remaining": 997600,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "created": 1719000000,
        "system_fingerprint": "fp_abc123",
    }
    assert_fits(spec, "ChatCompletion", answer)
    for broken in ({"choices": "x"}, {"usage": None}, {"choices": [{"index": 0}]}):
        with pytest.raises(jsonschema.ValidationError):
            assert_fits(spec, "ChatCompletion", answer | broken)


# --- The page -----------------------------------------------------------------------------------------


def test_the_page_asks_no_other_server(client):
    page = client.get("/docs").content.decode()
    loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 4
    for address in loaded:
        assert address.startswith("/static/"), address
        assert finders.find(address.removeprefix("/static/")), address
    assert 'data-openapi="/openapi.json"' in page
    assert "://" not in Path(finders.find("quantized/docs.js")).read_text()


def test_the_page_has_no_inline_script_or_style(client):
    page = client.get("/docs").content.decode()
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", page) == []
