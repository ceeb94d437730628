"""The top level of a request: every field of the public API typed and in range, everything else refused by name."""

import contextlib
import json
import random
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from completions import errors
from completions.chat import request
from completions.chat.ask import ask_of
from completions.decoding import rules_of
from completions.dialects import OPENAI_CHAT
from completions.dialects.openai_chat import words
from completions.dialects.openai_chat.schema import parse_chat

MESSAGES = [{"role": "user", "content": "Hello!"}]

# The request body of the public API, field by field.
PUBLIC_FIELDS = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "response_format",
    "modalities",
    "audio",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "web_search_options",
    "metadata",
    "user",
    "stream",
    "stream_options",
]

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "a/b", "messages": MESSAGES, **fields}).encode()


def output_tokens(chat: request.Chat) -> int | None:
    """The output bound that the client named."""
    return ask_of(chat, "/").demand.output_tokens


def refusal(raw: bytes) -> tuple[str, str | None, str]:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse_chat(raw)
    assert caught.value.status == 400
    return caught.value.code, caught.value.param, caught.value.message


def test_top_level_is_exactly_the_public_api() -> None:
    assert list(request.Fields.__struct_fields__) == PUBLIC_FIELDS


def test_every_optional_field_accepts_null() -> None:
    chat = parse_chat(body(**dict.fromkeys(PUBLIC_FIELDS[2:])))
    assert {getattr(chat.fields, name) for name in PUBLIC_FIELDS[2:]} == {None}
    assert (chat.fields.stream, chat.include_usage, output_tokens(chat)) == (None, False, None)


VALID = [
    ("max_tokens", [1, 128, 2**31 - 1]),
    ("max_completion_tokens", [1, 128]),
    ("temperature", [0, 0.7, 2, 2.0]),
    ("top_p", [0, 0.9, 1]),
    ("top_k", [0, 40, 40.0]),
    ("frequency_penalty", [-2, 0, 2.0]),
    ("presence_penalty", [-2.0, 0.5, 2]),
    ("repetition_penalty", [0, 1.1, 2]),
    ("stop", ["", "END", ["END"], ["a", "b", "c", "d"]]),
    ("seed", [-(2**63), 0, 2**63 - 1]),
    ("logprobs", [True, False]),
    ("top_logprobs", [0]),
    ("logit_bias", [{}, {"50256": -100, "1": 100.0}]),
    (
        "response_format",
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a-b_1", "schema": {"type": "object"}, "strict": None}},
        ],
    ),
    ("modalities", [["text"], ["text", "audio"], ["image"], []]),
    ("audio", [{"voice": "alloy", "format": "wav"}, {"voice": {"id": "voice_1"}, "format": "pcm16"}]),
    ("tools", [[], [TOOL], [{**TOOL, "cache_control": {"type": "ephemeral"}}]]),
    ("tool_choice", ["none", "auto"]),
    ("parallel_tool_calls", [True, False]),
    ("reasoning", [{}, {"effort": "high"}, {"max_tokens": 2000, "exclude": True}, {"enabled": True}]),
    (
        "web_search_options",
        [
            {},
            {"search_context_size": "low", "user_location": {"type": "approximate", "approximate": {"city": "Wien"}}},
            {"user_location": None},
        ],
    ),
    ("metadata", [{}, {"k" * 64: "v" * 512}, {str(n): "" for n in range(16)}]),
    ("user", ["", "alice"]),
    ("stream", [True, False]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALID for value in values])
def test_valid_value_is_accepted(name: str, value: Any) -> None:
    assert bytes(parse_chat(body(**{name: value})).raw[name]) == json.dumps(value).encode()


OUT_OF_RANGE = [
    ("max_tokens", [0, -1, 2**31]),
    ("max_completion_tokens", [0, 10**30]),
    ("temperature", [-0.1, 2.1]),
    ("top_p", [-0.1, 1.01]),
    ("top_k", [-1, 40.5]),
    ("frequency_penalty", [-2.01, 3]),
    ("presence_penalty", [-3, 2.5]),
    ("repetition_penalty", [-1, 2.1]),
    ("stop", [[], ["a"] * 5]),
    ("seed", [2**63, -(2**63) - 1]),
    ("top_logprobs", [-1, 21]),
    ("logit_bias", [{"1": 101}, {"1": -101}, {"hello": 1}]),
    ("metadata", [{"k" * 65: "v"}, {"k": "v" * 513}, {str(n): "" for n in range(17)}]),
    ("tool_choice", ["required!", ""]),
    ("model", ["", "x" * 257]),
    ("messages", [[]]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OUT_OF_RANGE for value in values])
def test_value_out_of_range_is_named(name: str, value: Any) -> None:
    code, param, message = refusal(body(**{name: value}))
    assert (code, param) == ("out_of_range", name)
    assert message.startswith(f"'{name}")


WRONG_TYPE = [
    ("model", [1, None, ["a/b"]]),
    ("messages", ["Hello!", {}, None]),
    ("max_tokens", ["128", 1.5, True, 128.0]),
    ("max_completion_tokens", [[1], False]),
    ("temperature", ["0.7", True, [0.7]]),
    ("top_p", ["1", False]),
    ("top_k", ["40", True]),
    ("frequency_penalty", ["0"]),
    ("presence_penalty", [{}]),
    ("repetition_penalty", [True]),
    ("stop", [1, {}, True]),
    ("seed", ["1", 1.5, True]),
    ("logprobs", [1, "true"]),
    ("top_logprobs", ["1", True, 1.0]),
    ("logit_bias", [[], "x"]),
    ("response_format", ["json_object", []]),
    ("modalities", ["text", {}]),
    ("audio", ["alloy", []]),
    ("tools", [TOOL, "x"]),
    ("tool_choice", [1, True, []]),
    ("parallel_tool_calls", ["true", 1]),
    ("reasoning", ["high", True]),
    ("web_search_options", [True, "low"]),
    ("metadata", ["x", ["x"]]),
    ("user", [1, {}]),
    ("stream", ["true", 1]),
    ("stream_options", [True, []]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_TYPE for value in values])
def test_wrong_type_is_named(name: str, value: Any) -> None:
    code, param, message = refusal(body(**{name: value}))
    assert (code, param) == ("invalid_type", name)
    assert message.startswith(f"'{name}' must be ")


def test_every_field_has_its_wrong_type_tested() -> None:
    assert sorted(name for name, _ in WRONG_TYPE) == sorted(PUBLIC_FIELDS)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"stop": ["a", 1]}, "invalid_type", "stop[1]"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata"),
        ({"logit_bias": {"1": "x"}}, "invalid_type", "logit_bias"),
        ({"modalities": ["text", "smell"]}, "out_of_range", "modalities[1]"),
        ({"audio": {"voice": "alloy"}}, "missing_field", "audio.format"),
        ({"audio": {"voice": 1, "format": "wav"}}, "invalid_type", "audio.voice"),
        ({"audio": {"voice": "alloy", "format": "ogg"}}, "out_of_range", "audio.format"),
        ({"response_format": {}}, "missing_field", "response_format.type"),
        ({"response_format": {"type": "xml"}}, "out_of_range", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "missing_field", "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "out_of_range",
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "x"}}},
            "invalid_type",
            "response_format.json_schema.schema",
        ),
        ({"tools": [TOOL, {"type": "function"}]}, "missing_field", "tools[1].function"),
        ({"tools": [TOOL, {"type": "function", "function": {}}]}, "missing_field", "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "out_of_range", "tools[0].type"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "out_of_range", "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "out_of_range", "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "out_of_range", "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]},
            "invalid_type",
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "strict": "yes"}}]},
            "invalid_type",
            "tools[0].function.strict",
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "missing_field", "tool_choice.function"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, "out_of_range", "tool_choice.type"),
        ({"tool_choice": "required"}, "invalid_request", "tool_choice"),
        ({"top_logprobs": 5}, "invalid_request", "top_logprobs"),
        ({"top_logprobs": 5, "logprobs": False}, "invalid_request", "top_logprobs"),
        ({"reasoning": {"effort": "huge"}}, "out_of_range", "reasoning.effort"),
        ({"reasoning": {"max_tokens": 0}}, "out_of_range", "reasoning.max_tokens"),
        ({"reasoning": {"effort": "low", "max_tokens": 100}}, "invalid_request", "reasoning"),
        ({"reasoning": {"budget": 1}}, "unknown_field", "reasoning.budget"),
        (
            {"web_search_options": {"search_context_size": "huge"}},
            "out_of_range",
            "web_search_options.search_context_size",
        ),
        ({"stream_options": {}}, "invalid_request", "stream_options"),
        ({"stream_options": {"include_usage": True}, "stream": False}, "invalid_request", "stream_options"),
        ({"stream_options": {"include_usage": "yes"}, "stream": True}, "invalid_type", "stream_options.include_usage"),
        ({"stream_options": {"usage": True}, "stream": True}, "unknown_field", "stream_options.usage"),
        (
            {"stream_options": {"include_obfuscation": True}, "stream": True},
            "invalid_request",
            "stream_options.include_obfuscation",
        ),
    ],
)
def test_nested_trouble_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    assert refusal(body(**fields))[:2] == (code, param)


def test_messages_speak_json() -> None:
    assert refusal(body(temperature="0.7"))[2] == "'temperature' must be a number between 0 and 2, not a string."
    assert refusal(body(temperature=3))[2] == "'temperature' must be a number between 0 and 2."
    assert refusal(body(stream_options={}))[2] == "'stream_options' is only allowed with 'stream': true."
    assert refusal(body(top_k=40.5))[2] == "'top_k' must be a whole number, 0 or above."
    assert refusal(body(audio={"voice": 1, "format": "wav"}))[2] == (
        "'audio.voice' must be a string or an object, not an integer."
    )


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_missing_field_is_named(missing: str) -> None:
    fields = {"model": "a/b", "messages": MESSAGES}
    del fields[missing]
    assert refusal(json.dumps(fields).encode()) == (
        "missing_field",
        missing,
        f"Missing required field: '{missing}'.",
    )


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("temprature", "Did you mean 'temperature'?"),
        ("maxTokens", "Did you mean 'max_tokens'?"),
        ("MESSAGES", "Did you mean 'messages'?"),
        ("n", "One choice is given per request: send several requests."),
        ("reasoning_effort", "Use 'reasoning': {\"effort\": ...}."),
        ("functions", "Use 'tools'."),
        ("function_call", "Use 'tool_choice'."),
        ("provider", "Use the header X-Quantized-Provider."),
        ("models", "Send one 'model'; fail-over between its providers is automatic."),
        ("usage", "Usage is always in the answer; for streams use 'stream_options': {\"include_usage\": true}."),
        ("service_tier", "There is one tier: leave it out."),
    ],
)
def test_unknown_field_is_named_with_a_hint(field: str, hint: str) -> None:
    assert refusal(body(**{field: 1})) == ("unknown_field", field, f"Unknown field: '{field}'. {hint}")


def test_unknown_field_like_nothing_known_has_no_hint() -> None:
    assert refusal(body(zzz=None)) == ("unknown_field", "zzz", "Unknown field: 'zzz'.")


def test_unknown_fields_of_wire_md_all_have_a_hint() -> None:
    habits = (
        "n reasoning_effort service_tier store verbosity prediction prompt_cache_key safety_identifier functions "
        "function_call provider models route transforms plugins usage min_p top_a include_reasoning session_id"
    )
    for field in habits.split():
        assert refusal(body(**{field: 1}))[2] != f"Unknown field: '{field}'.", field


def test_unknown_fields_name_is_shown_shortened() -> None:
    code, param, message = refusal(body(**{"x" * 100_000: 1}))
    assert (code, param) == ("unknown_field", "x" * 100)
    assert len(message) < 300


def test_unknown_field_with_a_misleading_name_does_not_confuse() -> None:
    assert refusal(body(**{"` - at `$.model`": 1}))[0] == "unknown_field"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "The request body is empty."),
        (b" \n ", "The request body is empty."),
        (b"{", "The request body is not valid JSON: it is cut off."),
        (body() + b"}", "The request body is not valid JSON: trailing characters (byte 70)."),
        (b"hello", "The request body is not valid JSON: invalid character (byte 0)."),
        (b'{"model": NaN}', "The request body is not valid JSON: invalid character (byte 10)."),
        (b'{"temperature": Infinity}', "The request body is not valid JSON: invalid character (byte 16)."),
        (b'{"temperature": -Infinity}', "The request body is not valid JSON: invalid character (byte 17)."),
        (b"\xff\xfe", "The request body is not valid UTF-8 (byte 0)."),
        (b"\xef\xbb\xbf{}", "The request body is not valid JSON: invalid character (byte 0)."),
    ],
)
def test_what_is_not_json_is_said_so(raw: bytes, message: str) -> None:
    assert refusal(raw) == ("invalid_json", None, message)


@pytest.mark.parametrize("place", ["content", "ignored"])
def test_invalid_utf8_is_found_also_where_nobody_looks(place: str) -> None:
    raw = b'{"model":"a/b","messages":[{"role":"user","content":"x","%b":"\xed\xa0\x80"}]}' % place.encode()
    assert refusal(raw)[0] == "invalid_json"


@pytest.mark.parametrize(
    ("raw", "kind"), [(b"[]", "an array"), (b'"x"', "a string"), (b"null", "null"), (b"1", "an integer")]
)
def test_body_that_is_no_object(raw: bytes, kind: str) -> None:
    assert refusal(raw) == ("invalid_type", None, f"The request body must be an object, not {kind}.")


def test_number_too_large_for_a_float() -> None:
    raw = body(temperature=1).replace(b'"temperature": 1', b'"temperature": 1e400')
    assert refusal(raw)[:2] == ("out_of_range", "temperature")


def test_absurd_nesting_is_refused_without_a_crash() -> None:
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    nested = b'{"model":"a/b","messages":[{"role":"user","content":"x"}],"tools":' + deep + b"}"
    assert refusal(nested)[0] in ("invalid_json", "invalid_type")
    in_a_schema = body(tools=[TOOL]).replace(b'{"type": "object"}', b'{"x":' + deep + b"}")
    assert refusal(in_a_schema) == ("invalid_json", None, "The request body is nested too deeply.")


def test_ordinary_nesting_passes() -> None:
    parameters: dict[str, Any] = {}
    for _ in range(100):
        parameters = {"type": "object", "properties": {"x": parameters}}
    tool = {"type": "function", "function": {"name": "deep", "parameters": parameters}}
    assert bytes(parse_chat(body(tools=[tool])).raw["tools"]) == json.dumps([tool]).encode()


def test_too_many_messages_and_tools_are_refused() -> None:
    assert refusal(body(messages=MESSAGES * 100_001))[:2] == ("out_of_range", "messages")
    assert refusal(body(tools=[TOOL] * 1_025))[:2] == ("out_of_range", "tools")


def test_last_of_duplicate_keys_counts_everywhere() -> None:
    raw = b'{"model":"a/b","model":"c/d","max_tokens":1,"max_tokens":2,"messages":[{"role":"user","content":"x"}]}'
    chat = parse_chat(raw)
    assert (chat.fields.model, bytes(chat.raw["model"]), output_tokens(chat)) == ("c/d", b'"c/d"', 2)


def test_escaped_field_name_is_the_same_field() -> None:
    raw = b'{"\\u006dodel":"a/b","messages":[{"role":"user","content":"x"}]}'
    assert parse_chat(raw).fields.model == "a/b"


def test_max_completion_tokens_wins() -> None:
    assert output_tokens(parse_chat(body(max_tokens=10))) == 10
    assert output_tokens(parse_chat(body(max_completion_tokens=20))) == 20
    assert output_tokens(parse_chat(body(max_tokens=10, max_completion_tokens=20))) == 20
    assert output_tokens(parse_chat(body(max_tokens=10, max_completion_tokens=None))) == 10


def test_stream_and_usage() -> None:
    assert (parse_chat(body(stream=True)).fields.stream, parse_chat(body(stream=True)).include_usage) == (True, False)
    for options, asked in (
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
        ({}, False),
        (None, False),
    ):
        assert parse_chat(body(stream=True, stream_options=options)).include_usage is asked
    assert parse_chat(body(stream=True, stream_options={"include_obfuscation": False})).fields.stream


def test_clients_bytes_are_kept() -> None:
    raw = b'{ "model" : "a/b", "messages": [ {"content":"caf\\u00e9 \xc3\xa9", "role":"user", "x": [1.10] } ] }'
    chat = parse_chat(raw)
    assert bytes(chat.raw["messages"]) == b'[ {"content":"caf\\u00e9 \xc3\xa9", "role":"user", "x": [1.10] } ]'
    assert list(chat.raw) == ["model", "messages"]
    assert chat.body is raw


def may_write_cache(raw: bytes) -> bool:
    return OPENAI_CHAT.parse(raw).demand.may_write_cache


def test_cache_marks_are_seen() -> None:
    marked = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]
    assert may_write_cache(body(messages=marked))
    assert not may_write_cache(body(messages=[{"role": "user", "content": 'a "cache_control" in a text'}]))
    assert not may_write_cache(body(messages=[{"role": "user", "content": "café"}]))
    assert may_write_cache(body(messages=marked).replace(b"cache_control", b"cache_contro\\u006c"))


def test_public_api_example_parses() -> None:
    chat = parse_chat(
        json.dumps(
            {
                "model": "openai/gpt-4.1-mini",
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": "What is the capital of France?"},
                ],
                "max_tokens": 128,
                "temperature": 0.7,
            }
        ).encode()
    )
    assert chat.fields.temperature == 0.7
    assert [type(message).__name__ for message in chat.messages] == ["SystemMessage", "UserMessage"]


class Wheel(Struct, tag="wheel"):
    spokes: Annotated[int, Meta(ge=8, le=36)]


class Bell(Struct, tag="bell"):
    tone: Literal["low", "high", "both"]


class Bicycle(Struct, rename={"frame": "the_frame"}):
    frame: Annotated[str, Meta(min_length=1, max_length=9)] | None
    owner: Annotated[str, Meta(min_length=1)]
    number: Annotated[str, Meta(max_length=12)]
    plate: Annotated[str, Meta(pattern="[A-Z]+")]
    note: str | None
    has_brakes: bool
    gears: Annotated[int, Meta(ge=1)]
    weight_kg: Annotated[float, Meta(ge=0, le=30)]
    parts: list[Wheel | Bell]
    colours: list[Literal["red", "blue"]]
    names: str | Annotated[list[str], Meta(min_length=1, max_length=3)]
    aliases: list[str]
    scores: dict[str, Annotated[float, Meta(ge=-1, le=1)]]


def test_rules_are_the_types_bounds_and_choices_in_words() -> None:
    assert rules_of(Bicycle) == {
        "the_frame": "a string of 1 to 9 characters",
        "owner": "a non-empty string",
        "number": "a string of up to 12 characters",
        "weight_kg": "a number between 0 and 30",
        "parts[].type": "'wheel' or 'bell'",
        "parts[].spokes": "an integer between 8 and 36",
        "parts[].tone": "one of 'low', 'high', 'both'",
        "colours": "an array of 'red', 'blue'",
        "colours[]": "'red' or 'blue'",
        "names": "a string or an array of 1 to 3 strings",
        "scores[]": "a number between -1 and 1",
    }


def test_a_requests_rules_have_its_own_figures() -> None:
    rules = words.RULES
    assert rules["max_tokens"] == f"an integer between 1 and {request.OUTPUT_TOKENS_MAX}"
    assert rules["max_completion_tokens"] == rules["reasoning.max_tokens"] == rules["max_tokens"]
    assert rules["messages"] == f"an array of 1 to {request.MESSAGES_MAX} messages"
    assert rules["tools"] == f"an array of at most {request.TOOLS_MAX} tools"
    assert rules["model"] == f"a string of 1 to {request.MODEL_CHARS_MAX} characters"


def test_random_damage_is_always_one_of_our_refusals() -> None:
    whole = body(tools=[TOOL], stop=["a"], metadata={"a": "b"}, reasoning={"effort": "low"}, seed=7)
    rng = random.Random(7)
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:0x\xff\\')
        with contextlib.suppress(errors.InvalidRequest):
            parse_chat(bytes(damaged))


def test_body_cut_anywhere_is_invalid_json() -> None:
    whole = body(tools=[TOOL], temperature=0.5)
    for cut in range(len(whole)):
        assert refusal(whole[:cut])[0] == "invalid_json", cut


def test_hints_are_for_fields_that_do_not_exist() -> None:
    assert set(words.HINTS).isdisjoint(request.Fields.__struct_fields__)
