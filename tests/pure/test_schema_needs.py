"""What a request really asks of a route: neutral values ask for nothing."""

import json
from typing import Any

import pytest

from completions.chat.needs import effective_fields, gate, needs, present_fields
from completions.chat.request import Chat
from completions.dialects.openai_chat.schema import parse_chat

TOOL = {"type": "function", "function": {"name": "f"}}


def chat(content: Any = "Hello!", **fields: Any) -> Chat:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": content}]
    return parse_chat(json.dumps({"model": "a/b", "messages": messages, **fields}).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1, "top_p": 1.0, "top_k": 0},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1},
        {"logprobs": False, "top_logprobs": 0},
        {"logit_bias": {}, "metadata": {}, "tools": [], "modalities": [], "reasoning": {}, "user": ""},
        {"response_format": {"type": "text"}, "modalities": ["text"]},
        {"tool_choice": "auto"},
        {"tool_choice": "none"},
        {"parallel_tool_calls": False},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
        {"reasoning": {"exclude": True}},
        {"reasoning": {"effort": None, "max_tokens": None}},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"max_tokens": 10, "max_completion_tokens": 20},
        {"seed": None, "stop": None, "temperature": None},
    ],
)
def test_neutral_values_ask_for_nothing(fields: dict[str, Any]) -> None:
    assert effective_fields(chat(**fields)) == frozenset()
    assert needs(chat(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"temperature": 0}, {"temperature"}),
        ({"top_p": 0.5, "top_k": 40}, {"top_p", "top_k"}),
        ({"frequency_penalty": 0.1, "presence_penalty": -1, "repetition_penalty": 0}, None),
        ({"stop": "x", "seed": 0, "user": "alice", "metadata": {"a": "b"}, "logit_bias": {"1": 0}}, None),
        ({"logprobs": True, "top_logprobs": 2}, None),
        ({"tools": [TOOL]}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False}, None),
        ({"tools": [TOOL], "tool_choice": "required"}, None),
        ({"reasoning": {"effort": "low"}}, {"reasoning"}),
        ({"reasoning": {"enabled": True}}, {"reasoning"}),
        ({"reasoning": {"max_tokens": 1024}}, {"reasoning"}),
        ({"web_search_options": {}}, {"web_search_options"}),
        ({"response_format": {"type": "json_object"}}, {"response_format"}),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x", "format": "wav"}}, None),
    ],
)
def test_other_values_ask(fields: dict[str, Any], asked: set[str] | None) -> None:
    assert effective_fields(chat(**fields)) == (set(fields) if asked is None else asked)


def test_sent_fields_leave_out_the_empty_but_keep_the_neutral() -> None:
    sent = present_fields(chat(temperature=1, logprobs=False, seed=None, metadata={}, tools=[], tool_choice="auto"))
    assert sent == ["model", "messages", "temperature", "logprobs"]


def test_web_search_with_the_defaults_is_sent() -> None:
    assert "web_search_options" in present_fields(chat(web_search_options={}))


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, [("tools", "tool_choice"), ("tools", "tools")]),
        ({"logprobs": True, "top_logprobs": 1}, [("logprobs", "logprobs"), ("logprobs", "top_logprobs")]),
        ({"reasoning": {"effort": "low"}}, [("reasoning", "reasoning")]),
        ({"web_search_options": {}}, [("web_search", "web_search_options")]),
        ({"response_format": {"type": "json_object"}}, [("json_mode", "response_format")]),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            [("structured_outputs", "response_format")],
        ),
        ({"modalities": ["image", "text"]}, [("image_output", "modalities")]),
        (
            {"modalities": ["audio"], "audio": {"voice": "x", "format": "wav"}},
            [("audio_output", "audio"), ("audio_output", "modalities")],
        ),
        ({"temperature": 0, "seed": 1, "stop": "x", "top_k": 3}, []),
    ],
)
def test_capabilities_that_fields_need(fields: dict[str, Any], needed: list[tuple[str, str]]) -> None:
    assert needs(chat(**fields)) == needed


def test_capabilities_that_parts_need_name_the_first_part() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}
    document = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}
    text = {"type": "text", "text": "x"}
    assert needs(chat([text, picture, picture, sound, document])) == [
        ("image_input", "messages[1].content[1]"),
        ("audio_input", "messages[1].content[3]"),
        ("file_input", "messages[1].content[4]"),
    ]
    assert needs(chat([text])) == []


def test_gate_names_the_capability_of_a_field() -> None:
    assert (gate("tools"), gate("logprobs"), gate("temperature")) == ("tools", "logprobs", None)
