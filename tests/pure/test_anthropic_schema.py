"""A client's JSON schema → what Anthropic's structured outputs take."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from completions.dialects.openai_chat.schema import parse_chat
from completions.providers.anthropic.schema import closed_schema
from completions.providers.anthropic.tools import decoded
from completions.providers.base import Untranslatable
from sandbox.anthropic import schemas
from tests.kit.claude_routes import route
from tests.kit.profiles import examples
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
WHERE = "response_format.json_schema.schema"


def shown(schema: Any) -> dict[str, Any]:
    told = closed_schema(schema, WHERE)
    schemas.check(told, "schema")
    return told


def refused(schema: Any) -> tuple[str, str]:
    with pytest.raises(Untranslatable) as caught:
        closed_schema(schema, WHERE)
    found = caught.value.unsupported
    return found.field.removeprefix(WHERE), found.why


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def closed(**properties: Any) -> dict[str, Any]:
    return {**thing(**properties), "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (thing(a={"type": "string"}), closed(a={"type": "string"})),
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}),
        ({"type": ["object", "null"], "properties": {"a": {}}}, {**closed(a={}), "type": ["object", "null"]}),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        (
            thing(a=thing(b={"type": "array", "items": thing(c={"enum": [1, 2]})})),
            closed(a=closed(b={"type": "array", "items": closed(c={"enum": [1, 2]})})),
        ),
        ({"oneOf": [{"type": "string"}, thing(a={})]}, {"anyOf": [{"type": "string"}, closed(a={})]}),
        ({"allOf": [thing(a={})]}, {"allOf": [closed(a={})]}),
        (
            {**thing(a={"$ref": "#/$defs/A"}), "$defs": {"A": thing(b={"$ref": "#"})}},
            {**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": closed(b={"$ref": "#"})}},
        ),
        (
            {"$ref": "#/definitions/a~1b", "definitions": {"a/b": {}}},
            {"$ref": "#/definitions/a~1b", "definitions": {"a/b": {}}},
        ),
        (
            {"type": "string", "format": "date", "pattern": "^a+$"},
            {"type": "string", "format": "date", "pattern": "^a+$"},
        ),
        ({"type": "array", "items": {}, "minItems": 1}, {"type": "array", "items": {}, "minItems": 1}),
        (
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 9.5, "multipleOf": 2},
            {"type": "integer", "description": "(minimum 1, exclusiveMaximum 9.5, multipleOf 2)"},
        ),
        (
            {"type": "string", "description": "A name", "minLength": 1, "maxLength": 80, "format": "iban"},
            {"type": "string", "description": 'A name (minLength 1, maxLength 80, format "iban")'},
        ),
        (
            {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True},
            {"type": "array", "description": "(maxItems 3, uniqueItems true, minItems 2)"},
        ),
        (
            {**thing(a={}), "minProperties": 1, "maxProperties": 2},
            {**closed(a={}), "description": "(minProperties 1, maxProperties 2)"},
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "T",
                "x-order": 1,
                "const": 1,
                "default": 1,
            },
            {"title": "T", "const": 1, "default": 1},
        ),
    ],
)
def test_schemas(schema: Any, told: Any) -> None:
    assert shown(schema) == told


@pytest.mark.parametrize(
    ("schema", "place", "why"),
    [
        ({"type": "object"}, ".additionalProperties", "every key of an object must be named in its properties"),
        (
            thing(a={"type": "object", "additionalProperties": {"type": "string"}}),
            ".properties.a.additionalProperties",
            "every key of an object must be named in its properties",
        ),
        (
            {**thing(a={}), "additionalProperties": True},
            ".additionalProperties",
            "every key of an object must be named in its properties",
        ),
        (thing(a={"not": {}}), ".properties.a.not", ""),
        (thing(a={"type": "array", "items": {"if": {}}}), ".properties.a.items.if", ""),
        ({"anyOf": [{}, {"patternProperties": {}}]}, ".anyOf[1].patternProperties", ""),
        ({"oneOf": [{}], "anyOf": [{}]}, ".oneOf", "it cannot stand beside anyOf"),
        ({"prefixItems": []}, ".prefixItems", ""),
        ({"$defs": {"A": {"propertyNames": {}}}}, ".$defs.A.propertyNames", ""),
        ({"$ref": "#/$defs/A"}, ".$ref", "it leads to nothing inside the schema"),
        ({"$ref": "https://example.com/schema"}, ".$ref", "it leads to nothing inside the schema"),
        ({"type": "string", "pattern": "^(?!a)"}, ".pattern", "it looks ahead or behind"),
        ({"items": True}, ".items", "only a schema that is an object can be used here"),
        ({"items": [{}]}, ".items", "only a schema that is an object can be used here"),
        ({"properties": []}, ".properties", "it must be an object"),
        ({"anyOf": {}}, ".anyOf", "it must be an array"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_place(schema: Any, place: str, why: str) -> None:
    assert refused(schema) == (place, why)


def test_a_bottomless_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    assert refused(schema)[0].startswith(".items.items")


def sent(**json_schema: Any) -> Any:
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", **json_schema}}
    messages = [{"role": "user", "content": "Hello!"}]
    return parse_chat(msgspec.json.encode({"model": "a/b", "messages": messages, "response_format": response_format}))


def test_a_schema_is_the_format_of_the_output() -> None:
    given_chat = sent(schema=thing(a={"type": "integer", "minimum": 0}), strict=True)
    assert ANTHROPIC.unsupported(given_chat, route()) == []
    request = ANTHROPIC.request(given_chat, route(), output_bound=10, stream=False, secret="k")
    assert msgspec.json.decode(request.body)["output_config"] == {
        "format": {"type": "json_schema", "schema": closed(a={"type": "integer", "description": "(minimum 0)"})}
    }


def test_the_formats_description_is_the_schemas_unless_it_has_one() -> None:
    for schema, description in ((thing(a={}), "Of the format."), ({**thing(a={}), "description": "Own."}, "Own.")):
        given_chat = sent(schema=schema, description="Of the format.")
        request = ANTHROPIC.request(given_chat, route(), output_bound=10, stream=False, secret="k")
        told = msgspec.json.decode(request.body)["output_config"]["format"]["schema"]
        assert told["description"] == description


def test_a_format_without_a_schema_is_refused() -> None:
    assert [one.field for one in ANTHROPIC.unsupported(sent(), route())] == [WHERE]


def test_a_schema_too_deep_to_read_is_refused() -> None:
    deep = Raw(b'{"items":' * 5000 + b"{}" + b"}" * 5000)
    with pytest.raises(Untranslatable) as caught:
        decoded({"a": deep}, "tools[0].function.parameters")
    assert caught.value.unsupported.field == "tools[0].function.parameters"


WORDS = """
type properties items anyOf oneOf allOf $ref $defs minimum maxLength minItems format pattern not additionalProperties
enum description required x-odd const a b
"""
words = st.sampled_from(WORDS.split())
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["object", "string", "date", "#", "#/$defs/a", "a"])
)
odd_schemas = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@examples(400)
@given(odd_schemas)
def test_whatever_comes_is_refused_or_becomes_what_the_sandbox_takes(schema: Any) -> None:
    try:
        told = closed_schema(schema, WHERE)
    except Untranslatable:
        return
    schemas.check(told, "schema")
