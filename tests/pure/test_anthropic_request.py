"""Chat and route → the bytes Anthropic gets."""

from typing import Any

import msgspec
import pytest

from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat
from completions.upstream.request import UpstreamRequest
from tests.kit.claude_routes import recording, route
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
HELLO = {"role": "user", "content": "Hello!"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather by city", "parameters": PARAMETERS},
}
WEATHER_TOLD = {"name": "get_weather", "description": "Weather by city", "input_schema": PARAMETERS}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def chat(*messages: Any, **fields: Any) -> Chat:
    return parse_chat(msgspec.json.encode({"model": "a/b", "messages": messages or [HELLO], **fields}))


def request(
    given: Chat, model: str = "claude-sonnet-4-6", *, stream: bool = False, bound: int = 1024
) -> UpstreamRequest:
    assert ANTHROPIC.unsupported(given, route(model)) == []
    return ANTHROPIC.request(given, route(model), output_bound=bound, stream=stream, secret="sk-ant-secret")


def body(given: Chat, model: str = "claude-sonnet-4-6", **how: Any) -> dict[str, Any]:
    sent: dict[str, Any] = msgspec.json.decode(request(given, model, **how).body)
    return sent


def turns(*messages: Any, **fields: Any) -> list[Any]:
    sent: list[Any] = body(chat(*messages, **fields))["messages"]
    return sent


def refused(*messages: Any, model: str = "claude-sonnet-4-6", **fields: Any) -> list[tuple[str, str]]:
    return [(one.field, one.why) for one in ANTHROPIC.unsupported(chat(*messages, **fields), route(model))]


def call(call_id: str = "call_1", name: str = "get_weather", arguments: str = '{"city": "Paris"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def said(content: Any = None, *calls: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **more}


def result(call_id: str = "call_1", content: Any = '{"temp":18}') -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


# --- The request as a whole -------------------------------------------------------------------------


def test_the_sample_with_tools_to_the_byte() -> None:
    given = chat(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris?"},
        tools=[WEATHER],
        parallel_tool_calls=False,
        max_tokens=1024,
    )
    assert request(given) == UpstreamRequest(
        path="/v1/messages",
        headers=(
            ("x-api-key", "sk-ant-secret"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ),
        body=recording("anthropic_tool_request.json"),
    )


def test_the_samples_follow_up_to_the_byte() -> None:
    answer = msgspec.json.decode(recording("anthropic_tool_answer.ours.json"))
    given = chat(
        {"role": "user", "content": "Weather in Paris?"},
        answer["choices"][0]["message"],
        result("toolu_01SAMPLE"),
        tools=[WEATHER],
    )
    assert b'"messages":' + recording("anthropic_follow_up.json") + b"}" in request(given).body


def test_a_stream_is_asked_for_in_body_and_header() -> None:
    sent = request(chat(stream=True), stream=True)
    assert dict(sent.headers)["accept"] == "text/event-stream"
    assert msgspec.json.decode(sent.body)["stream"] is True
    assert "stream" not in body(chat())


@pytest.mark.parametrize(
    ("base_url", "path"), [("https://api.example.com", "/v1/messages"), ("https://api.example.com/v1", "/messages")]
)
def test_the_base_url_is_the_origin_or_goes_as_far_as_the_version(base_url: str, path: str) -> None:
    sent = ANTHROPIC.request(chat(), route(base_url=base_url), output_bound=1, stream=False, secret="")
    assert sent.path == path


def test_a_request_without_a_bound_gets_the_models_own() -> None:
    sent = ANTHROPIC.request(chat(), route("claude-haiku-4-5"), output_bound=None, stream=False, secret="")
    assert msgspec.json.decode(sent.body)["max_tokens"] == 64_000


def test_what_asks_for_nothing_is_not_said() -> None:
    neutral = {
        "temperature": 1,
        "top_p": 1,
        "top_k": 0,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "repetition_penalty": 1,
        "logprobs": False,
        "top_logprobs": 0,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "reasoning": {"enabled": False},
        "metadata": {},
        "user": "",
        "tools": [],
        "logit_bias": {},
        **dict.fromkeys(("stop", "seed", "audio", "web_search_options", "tool_choice", "max_tokens")),
    }
    assert sorted(body(chat(**neutral))) == ["max_tokens", "messages", "model"]
    assert sorted(body(chat(**neutral | {"reasoning": {}}), "claude-opus-5-5")) == ["max_tokens", "messages", "model"]


def test_ordinary_settings() -> None:
    sent = body(chat(temperature=0.5, top_k=40.0, stop=["END", "\n\nHuman:"], user="user-1"))
    assert (sent["temperature"], sent["stop_sequences"]) == (0.5, ["END", "\n\nHuman:"])
    assert sent["metadata"] == {"user_id": "user-1"}
    assert b'"top_k":40,' in request(chat(top_k=40.0)).body
    assert body(chat(stop="END"))["stop_sequences"] == ["END"]


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"seed": 1}, "seed", ""),
        ({"frequency_penalty": 0.5}, "frequency_penalty", ""),
        ({"presence_penalty": -1}, "presence_penalty", ""),
        ({"repetition_penalty": 1.1}, "repetition_penalty", ""),
        ({"logprobs": True}, "logprobs", ""),
        ({"logit_bias": {"1": 1}}, "logit_bias", ""),
        ({"metadata": {"a": "b"}}, "metadata", ""),
        ({"modalities": ["text", "audio"]}, "modalities", ""),
        ({"modalities": ["image"]}, "modalities", ""),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", ""),
        ({"response_format": {"type": "json_object"}}, "response_format", ""),
        ({"temperature": 1.5}, "temperature", "it must be at most 1"),
        ({"temperature": 0.5, "top_p": 0.5}, "top_p", "'temperature' is given"),
        ({"stop": " \n"}, "stop", "it must not be blank"),
        ({"stop": ["END", ""]}, "stop[1]", "it must not be blank"),
        ({"user": "alice@example.com"}, "user", "it must not be an e-mail address or a telephone number"),
        ({"user": "+49 (30) 1234567"}, "user", "it must not be an e-mail address or a telephone number"),
        ({"user": "x" * 513}, "user", "it may have 512 characters"),
    ],
)
def test_what_no_claude_can_do_is_refused_by_name(fields: dict[str, Any], field: str, why: str) -> None:
    assert refused(**fields)[0] == (field, why)


def test_several_refusals_are_all_named() -> None:
    assert [field for field, _ in refused(seed=1, logit_bias={"1": 1}, logprobs=True)] == [
        "logprobs",
        "logit_bias",
        "logprobs",
        "seed",
    ]


# --- Messages ---------------------------------------------------------------------------------------


def test_leading_instructions_are_the_system_prompt() -> None:
    sent = body(chat({"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}, HELLO))
    assert sent["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    assert sent["messages"] == [HELLO]


def test_later_instructions_keep_their_place_where_the_model_permits_it() -> None:
    given = chat(
        HELLO,
        said("Hi."),
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "Bye."},
        {"role": "developer", "content": "Be brief."},
    )
    sent = body(given, "claude-opus-4-8")
    assert sent["messages"][2:] == [
        {"role": "user", "content": "Bye."},
        {"role": "system", "content": [{"type": "text", "text": t} for t in ("Now in French.", "Be brief.")]},
    ]
    assert "system" not in sent
    older = body(given, "claude-opus-4-7")
    assert older["system"] == [{"type": "text", "text": t} for t in ("Now in French.", "Be brief.")]
    assert older["messages"][2:] == [{"role": "user", "content": "Bye."}]


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-opus-5"])
def test_instructions_alone_after_an_answer_are_the_users_turn(model: str) -> None:
    sent = body(chat(HELLO, said("Hi."), {"role": "system", "content": "Go on."}), model)
    assert sent["messages"] == [HELLO, said("Hi."), {"role": "user", "content": "Go on."}]


def test_consecutive_messages_of_a_side_are_one_turn() -> None:
    assert turns(HELLO, {"role": "user", "content": "You?"}, said("One."), said("Two."), HELLO) == [
        {"role": "user", "content": [{"type": "text", "text": "Hello!"}, {"type": "text", "text": "You?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        HELLO,
    ]


def test_what_says_nothing_is_left_out() -> None:
    parts = [{"type": "text", "text": " \n"}, {"type": "text", "text": "Hello!"}]
    assert turns({"role": "user", "content": parts}, said(""), {"role": "user", "content": ""}, said("Hi."), HELLO) == [
        HELLO,
        said("Hi."),
        HELLO,
    ]
    assert "system" not in body(chat({"role": "system", "content": ""}, HELLO))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([{"role": "system", "content": "Be brief."}], "messages"),
        ([{"role": "user", "content": ""}], "messages"),
        ([{"role": "system", "content": "Be brief."}, said("Hi."), HELLO], "messages[1]"),
    ],
)
def test_the_user_must_speak_first(messages: list[Any], field: str) -> None:
    assert refused(*messages) == [(field, "the user must speak first")]


def test_the_assistants_own_beginning_goes_on_where_the_model_permits_it() -> None:
    given = chat(HELLO, said("I am \n"))
    assert body(given, "claude-haiku-4-5")["messages"][1] == said("I am")
    assert refused(HELLO, said("I am")) == [("messages[1]", "the last word must not be the assistant's")]


def test_names_and_details_have_no_equivalent() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    assert turns({"role": "user", "content": [image], "name": "alice"}) == [
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}],
        }
    ]


PDF = "data:application/pdf;base64,JVBERi0="


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/JPG;name=x;base64,AAAA"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": PDF}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}, **MARK},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                "title": "a.pdf",
                **MARK,
            },
        ),
        (
            {"type": "file", "file": {"file_data": "https://example.com/a.pdf"}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.gif", "file_data": "data:image/gif;base64,R0lG"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lG"}},
        ),
    ],
)
def test_images_and_files(part: dict[str, Any], block: dict[str, Any]) -> None:
    (turn,) = turns({"role": "user", "content": [{"type": "text", "text": "Look."}, part]})
    assert turn["content"] == [{"type": "text", "text": "Look."}, block]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/a.png", "it must be an https URL or a base64 data URL"),
        ("data:image/svg+xml;base64,AAAA", "it must be a JPEG, PNG, GIF or WebP image or a PDF"),
        ("data:image/png,AAAA", "the data URL must be in base64"),
        ("data:image/png;base64,", "the data URL must be in base64"),
    ],
)
def test_what_anthropic_cannot_load_is_refused_by_its_place(url: str, why: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    message = {"role": "user", "content": [{"type": "text", "text": "Look."}, part]}
    assert refused(HELLO, said("Hi."), message) == [("messages[2].content[1].image_url.url", why)]


def test_a_file_that_is_no_document_is_refused() -> None:
    part = {"type": "file", "file": {"file_data": "data:text/csv;base64,AAAA"}}
    assert refused({"role": "user", "content": [part]})[0][0] == "messages[0].content[0].file.file_data"


def test_sound_is_refused() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert refused({"role": "user", "content": [part]}) == [("messages[0].content[0]", "")]


def test_cache_marks_stay_on_their_blocks() -> None:
    text = {"type": "text", "text": "Long.", **MARK}
    sent = body(
        chat(
            {"role": "system", "content": [text]},
            {"role": "user", "content": [text, {"type": "text", "text": "Short.", "cache_control": None}]},
            said("", call()),
            result(content=[{"type": "text", "text": "18"}, {"type": "text", "text": "C", **MARK}]),
            tools=[WEATHER | MARK],
        )
    )
    assert sent["system"] == [text]
    assert sent["messages"][0]["content"] == [text, {"type": "text", "text": "Short."}]
    assert sent["messages"][2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "call_1",
            "content": [{"type": "text", "text": "18"}, {"type": "text", "text": "C"}],
            **MARK,
        }
    ]
    assert sent["tools"] == [WEATHER_TOLD | MARK]


@pytest.mark.parametrize("mark", ["ephemeral", {"type": "eternal"}, {"type": "ephemeral", "ttl": "1d"}, {}])
def test_a_cache_mark_of_another_kind_is_refused(mark: Any) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hello!", "cache_control": mark}]}
    ((field, why),) = refused(message)
    assert field == "messages[0].content[0].cache_control"
    assert why.startswith('it must be {"type": "ephemeral"}')


# --- Tools ------------------------------------------------------------------------------------------


def test_all_results_are_one_turn_and_come_before_the_users_words() -> None:
    sent = turns(
        HELLO,
        said("Both.", call("a"), call("b", "get_time", "")),
        {"role": "user", "content": "Quickly!"},
        result("a"),
        result("b", ""),
        tools=[WEATHER],
    )
    assert sent[1]["content"] == [
        {"type": "text", "text": "Both."},
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "b", "name": "get_time", "input": {}},
    ]
    assert sent[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": '{"temp":18}'},
        {"type": "tool_result", "tool_use_id": "b", "content": ""},
        {"type": "text", "text": "Quickly!"},
    ]


def test_a_result_of_blank_parts_is_an_empty_one() -> None:
    blank = [{"type": "text", "text": " "}]
    assert turns(HELLO, said(None, call()), result(content=blank))[2]["content"][0]["content"] == ""


def test_ids_are_written_in_anthropics_letters_and_never_twice() -> None:
    sent = turns(
        HELLO,
        said(None, call("a:1")),
        result("a:1"),
        said(None, call("a:1"), call("a_1")),
        result("a:1"),
        result("a_1"),
    )
    ids = [block["id"] for turn in (sent[1], sent[3]) for block in turn["content"]]
    results = [block["tool_use_id"] for turn in (sent[2], sent[4]) for block in turn["content"]]
    assert ids == ["a_1", "a_1_2", "a_1_3"]
    assert results == ids


@pytest.mark.parametrize("arguments", ["{", "[]", '"x"', "null", "{} {}"])
def test_arguments_that_are_no_object_are_refused_by_their_place(arguments: str) -> None:
    field = "messages[1].tool_calls[0].function.arguments"
    assert refused(HELLO, said(None, call(arguments=arguments)), result()) == [(field, "it must be a JSON object")]


def test_arguments_keep_their_figures() -> None:
    given = chat(HELLO, said(None, call(arguments='{ "a" : 1.10, "b": 12345678901234567890, "é": [] }')), result())
    assert '"input":{"a":1.10,"b":12345678901234567890,"é":[]}'.encode() in request(given).body


def test_functions_of_the_past_are_declared_and_forbidden_when_none_is_offered() -> None:
    sent = body(chat(HELLO, said(None, call(), call("call_2", "x.y")), result(), result("call_2")))
    nothing = {"type": "object", "properties": {}}
    assert sent["tools"] == [{"name": "get_weather", "input_schema": nothing}, {"name": "x_y", "input_schema": nothing}]
    assert sent["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            {"type": "tool", "name": "get_weather"},
        ),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_every_tool_choice(fields: dict[str, Any], choice: Any) -> None:
    assert body(chat(tools=[WEATHER], **fields)).get("tool_choice") == choice


def test_a_word_on_tools_without_tools_is_nothing() -> None:
    assert "tool_choice" not in body(chat(tool_choice="none", parallel_tool_calls=False))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ({"name": "f"}, {"name": "f", "input_schema": {"type": "object", "properties": {}}}),
        ({"name": "f", "parameters": {}}, {"name": "f", "input_schema": {"type": "object", "properties": {}}}),
        (
            {"name": "f", "parameters": {"properties": {"a": {"minimum": 1}}}, "strict": False},
            {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"minimum": 1}}}},
        ),
        (
            {"name": "f", "strict": True},
            {
                "name": "f",
                "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
                "strict": True,
            },
        ),
        (
            {"name": "f", "strict": True, "parameters": {"properties": {"a": {"type": "integer", "minimum": 1}}}},
            {
                "name": "f",
                "input_schema": {
                    "type": "object",
                    "properties": {"a": {"type": "integer", "description": "(minimum 1)"}},
                    "additionalProperties": False,
                },
                "strict": True,
            },
        ),
    ],
)
def test_functions(function: dict[str, Any], told: dict[str, Any]) -> None:
    assert body(chat(tools=[{"type": "function", "function": function}]))["tools"] == [told]


def test_parameters_that_are_no_object_are_refused() -> None:
    function = {"name": "f", "parameters": {"type": ["object", "null"]}}
    offered = [{"type": "function", "function": function}]
    assert refused(tools=offered) == [("tools[0].function.parameters.type", "it must be 'object'")]


# --- Web search -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "uses"), [("low", 1), ("medium", 5), ("high", 10), (None, 5)])
def test_web_search_is_a_tool_with_a_limit(size: str | None, uses: int) -> None:
    sent = body(chat(web_search_options={"search_context_size": size}))
    assert sent["tools"] == [{"type": "web_search_20250305", "name": "web_search", "max_uses": uses}]
    assert "tool_choice" not in sent


def test_web_search_knows_where_the_user_is() -> None:
    where = {"type": "approximate", "approximate": {"city": "Paris", "country": "FR", "region": None}}
    (tool,) = body(chat(web_search_options={"user_location": where}))["tools"]
    assert tool["user_location"] == {"type": "approximate", "city": "Paris", "country": "FR"}


def test_web_search_beside_functions() -> None:
    sent = body(chat(tools=[WEATHER], web_search_options={}))
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather", "web_search"]


def test_web_search_without_functions_when_these_are_forbidden() -> None:
    sent = body(chat(tools=[WEATHER], tool_choice="none", web_search_options={}))
    assert ([tool["name"] for tool in sent["tools"]], sent.get("tool_choice")) == (["web_search"], None)


def test_a_function_must_not_have_the_searchs_name() -> None:
    mine = {"type": "function", "function": {"name": "web_search"}}
    refusal = ("tools[1].function.name", "the web search has this name")
    assert refused(tools=[WEATHER, mine], web_search_options={}) == [refusal]
    assert refused(tools=[mine]) == []


# --- What other models' answers bring along ---------------------------------------------------------


def test_refusals_are_text_and_other_reasoning_stays_behind() -> None:
    foreign = [{"type": "reasoning.summary", "summary": "Hm.", "format": "openai-responses-v1", "index": 0}]
    refusal = said(None, refusal="No.", reasoning="Hm.", reasoning_details=foreign, annotations=[], audio=None)
    parts = said([{"type": "refusal", "refusal": "Never."}], function_call=None)
    assert turns(HELLO, refusal, HELLO, parts, HELLO) == [HELLO, said("No."), HELLO, said("Never."), HELLO]


@pytest.mark.parametrize("field", ["audio", "function_call"])
def test_answers_that_cannot_be_said_are_refused(field: str) -> None:
    given = {"audio": {"id": "audio_1"}, "function_call": {"name": "f", "arguments": "{}"}}
    assert refused(HELLO, said("x", **{field: given[field]}), HELLO) == [(f"messages[1].{field}", "")]
