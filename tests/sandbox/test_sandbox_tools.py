"""Tool calls, their results, and values that conform to a JSON schema."""

import json
from typing import Any

import pytest

from sandbox import brain, synthesis
from sandbox.conversation import Answer, Question, Tool, ToolCall, Turn
from sandbox.directives import Directive

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the current weather for a city.", CITY)
TIME = Tool("local_time", "Tells what time it is in a place", CITY)
ADD = Tool(
    "add_numbers",
    "Adds two numbers",
    {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
)


def answer(text: str, *tools: Tool, before: tuple[Turn, ...] = (), **fields: Any) -> Answer:
    turns = (*before, Turn("user", text))
    return brain.answer(Question(model="m", turns=turns, tools=tools, **fields), 1000, Directive())


def calls(text: str, *tools: Tool, **fields: Any) -> list[tuple[str, Any]]:
    return [(call.name, json.loads("".join(call.pieces))) for call in answer(text, *tools, **fields).calls]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's the weather in Paris?", [("get_weather", {"city": "Paris"})]),
        ("weather in paris?", [("get_weather", {"city": "paris"})]),
        ("What is the weather in New York?", [("get_weather", {"city": "New York"})]),
        ('Get the weather for "Aix-en-Provence"', [("get_weather", {"city": "Aix-en-Provence"})]),
        ("Say hello", []),
    ],
)
def test_a_tool_is_called_when_the_text_speaks_of_it(text: str, expected: list[tuple[str, Any]]) -> None:
    assert calls(text, WEATHER) == expected


def test_a_call_has_its_tokens_counted_and_its_finish_reason() -> None:
    found = answer("What's the weather in Paris?", WEATHER)
    assert "".join(found.calls[0].pieces) == '{"city": "Paris"}'
    assert (found.pieces, found.calls[0].tokens, found.tokens, found.finish) == ((), 12, 13, "tool_calls")
    assert found.calls[0].id.startswith("call_")
    assert answer("What's the weather in Paris?", WEATHER).calls[0].id == found.calls[0].id


def test_several_calls_are_made_at_once_unless_that_is_forbidden() -> None:
    asked = "What is the weather in Paris and London?"
    both = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "London"})]
    assert calls(asked, WEATHER) == both
    assert calls(asked, WEATHER, parallel=False) == both[:1]
    asked = "What are the weather and the local time in Paris?"
    assert calls(asked, WEATHER, TIME) == [("get_weather", {"city": "Paris"}), ("local_time", {"city": "Paris"})]


def test_tool_choice_is_obeyed() -> None:
    assert calls("What's the weather in Paris?", WEATHER, tool_choice="none") == []
    assert calls("Say hello", WEATHER, TIME, tool_choice="required") == [("get_weather", {"city": "Say hello"})]
    assert calls("Greet Alice", WEATHER, TIME, tool_choice="local_time") == [("local_time", {"city": "Greet Alice"})]


def test_numbers_are_taken_from_the_text_in_order() -> None:
    assert calls("Please add the numbers 3 and 4.5", ADD) == [("add_numbers", {"a": 3, "b": 4.5})]


def test_a_bound_cuts_the_arguments() -> None:
    found = answer("What's the weather in Paris?", WEATHER, max_tokens=8)
    assert ("".join(found.calls[0].pieces), found.tokens, found.finish) == ('{"city', 8, "length")
    none = answer("What's the weather in Paris?", WEATHER, max_tokens=5)
    assert (none.calls, none.tokens, none.finish) == ((), 5, "length")


def test_a_tool_result_is_used() -> None:
    called = Turn("assistant", "", tool_calls=(ToolCall("call_1", "get_weather", '{"city": "Paris"}'),))
    result = Turn("tool", '{"temp": 18, "unit": "C"}', tool_call_id="call_1")
    turns = (Turn("user", "What's the weather in Paris?"), called, result)
    found = brain.answer(Question(model="m", turns=turns, tools=(WEATHER,)), 1000, Directive())
    assert "".join(found.pieces) == "get_weather (city: Paris): temp is 18, unit is C."
    again = brain.answer(Question(model="m", turns=turns, tools=(WEATHER,), tool_choice="required"), 1000, Directive())
    assert [call.name for call in again.calls] == ["get_weather"]


@pytest.mark.parametrize("result", ["sunny.", '["sunny"]', '"sunny"'])
def test_a_tool_result_may_be_anything(result: str) -> None:
    called = Turn("assistant", "", tool_calls=(ToolCall("c", "look", "not json"),))
    turns = (Turn("user", "Look!"), called, Turn("tool", result, tool_call_id="c"))
    assert "".join(brain.answer(Question(model="m", turns=turns), 1000, Directive()).pieces) == "look: sunny."


# --- Schemas --------------------------------------------------------------------------------


def value(schema: Any, text: str = "Alice is 30 years old") -> Any:
    return synthesis.value(schema, synthesis.Hints(text))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "Alice"),
        ({"type": "integer"}, 30),
        ({"type": "number", "maximum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 30}, 31),
        ({"type": "integer", "exclusiveMaximum": 30, "multipleOf": 5}, 30),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 30),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [30, 30, 30]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"enum": ["young", "old"]}, "old"),
        ({"enum": [1, 2]}, 1),
        ({"const": {"a": [1]}}, {"a": [1]}),
        ({"type": "string", "default": "x"}, "x"),
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "string", "minLength": 8}, "Alice..."),
        ({"type": "string", "maxLength": 2}, "Al"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 30),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "Alice"),
        ({"$ref": "#/$defs/age", "$defs": {"age": {"type": "integer"}}}, 30),
        (
            {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}]},
            {"a": 30},
        ),
        ({"properties": {"name": {}, "age": {"type": "integer"}}}, {"name": "Alice", "age": 30}),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 30}),
        ({"type": "object"}, {}),
    ],
)
def test_a_value_conforms_to_its_schema(schema: Any, expected: Any) -> None:
    assert value(schema) == expected


def test_a_number_stays_between_open_bounds() -> None:
    assert value({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}) == 0.5


def test_a_schema_that_contains_itself_comes_to_an_end() -> None:
    node: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["name", "next"],
    }
    found = value({"$ref": "#/$defs/node", "$defs": {"node": node}})
    depth = 0
    while found is not None:
        assert found["name"] == "Alice"
        found, depth = found["next"], depth + 1
    assert depth == 5


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/nowhere"}, {"type": []}, {"enum": []}, {"items": False}])
def test_a_strange_schema_is_no_error(schema: Any) -> None:
    value(schema)
