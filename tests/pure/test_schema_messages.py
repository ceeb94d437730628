"""Messages: what every role may say, what SDKs echo back, what is refused and how it is named."""

import json
from typing import Any

import pytest

from completions import errors
from completions.chat.request import AssistantMessage, ImagePart, TextPart, UserMessage
from completions.dialects.openai_chat.schema import parse_chat


def parsed(*messages: Any) -> list[Any]:
    return parse_chat(json.dumps({"model": "a/b", "messages": messages}).encode()).messages


def refusal(*messages: Any) -> tuple[str, str | None]:
    with pytest.raises(errors.InvalidRequest) as caught:
        parsed(*messages)
    return caught.value.code, caught.value.param


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_text_of_every_role(role: str) -> None:
    (message,) = parsed({"role": role, "content": "Hello!"})
    assert message.content == "Hello!"
    (message,) = parsed({"role": role, "content": [{"type": "text", "text": "Hello!"}], "name": "alice"})
    assert message.content == [TextPart("Hello!")]


def test_tool_message() -> None:
    (message,) = parsed({"role": "tool", "tool_call_id": "call_1", "content": '{"temp": 18, "unit": "C"}'})
    assert (message.tool_call_id, message.content) == ("call_1", '{"temp": 18, "unit": "C"}')


def test_role_may_come_last() -> None:
    (message,) = parsed({"content": "Hello!", "role": "user"})
    assert message == UserMessage("Hello!")


def test_picture_by_url_and_as_data() -> None:
    for url in ("https://example.com/photo.jpg", "http://example.com/a.png", "data:image/png;base64,AAAA"):
        (message,) = parsed(user({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
        (part,) = message.content
        assert isinstance(part, ImagePart)
        assert part.image_url.url == url


def test_sound_and_file() -> None:
    (message,) = parsed(
        user(
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        )
    )
    assert [type(part).__name__ for part in message.content] == ["AudioPart", "FilePart"]


@pytest.mark.parametrize(
    "extra",
    [
        {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
        {"reasoning": "Because.", "reasoning_details": [{"type": "reasoning.text", "text": "Because.", "index": 0}]},
        {"reasoning": None, "reasoning_details": None, "reasoning_content": "Because."},
        {"tool_calls": [{**CALL, "index": 0}], "images": [{"image_url": {"url": "data:..."}}]},
        {"tool_calls": [CALL], "content": ""},
        {"tool_calls": [CALL], "content": None},
        {"audio": {"id": "audio_1"}, "content": None},
        {"refusal": "No.", "content": None},
        {"reasoning": "Because.", "content": None},
        {"function_call": {"name": "f", "arguments": "{}"}, "content": None},
        {"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
        {"provider_specific_fields": {"anything": [1, 2, {"x": None}]}},
        {"content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": True}]},
    ],
)
def test_what_sdks_echo_back_is_tolerated(extra: dict[str, Any]) -> None:
    (message,) = parsed({"role": "assistant", "content": "Hello!", **extra})
    assert isinstance(message, AssistantMessage)


def test_tool_calls_without_content_are_fine() -> None:
    (message,) = parsed({"role": "assistant", "tool_calls": [CALL]})
    assert (message.content, message.tool_calls[0].function.name) == (None, "get_weather")


def test_arguments_may_be_invalid_json() -> None:
    broken = {**CALL, "function": {"name": "f", "arguments": "{"}}
    (message,) = parsed({"role": "assistant", "tool_calls": [broken]})
    assert message.tool_calls[0].function.arguments == "{"


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"role": "user"}, "missing_field", "messages[0].content"),
        ({"content": "x"}, "missing_field", "messages[0].role"),
        ({"role": "wizard", "content": "x"}, "out_of_range", "messages[0].role"),
        ({"role": "function", "name": "f", "content": "x"}, "out_of_range", "messages[0].role"),
        ({"role": 1, "content": "x"}, "invalid_type", "messages[0].role"),
        ("Hello!", "invalid_type", "messages[0]"),
        (None, "invalid_type", "messages[0]"),
        ({"role": "user", "content": None}, "invalid_type", "messages[0].content"),
        ({"role": "user", "content": 1}, "invalid_type", "messages[0].content"),
        ({"role": "user", "content": []}, "out_of_range", "messages[0].content"),
        ({"role": "user", "content": "x", "name": 1}, "invalid_type", "messages[0].name"),
        ({"role": "system", "content": None}, "invalid_type", "messages[0].content"),
        ({"role": "assistant"}, "missing_field", "messages[0].content"),
        ({"role": "assistant", "content": None}, "missing_field", "messages[0].content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "missing_field", "messages[0].content"),
        ({"role": "assistant", "content": None, "audio": None}, "missing_field", "messages[0].content"),
        ({"role": "assistant", "content": "x", "refusal": 1}, "invalid_type", "messages[0].refusal"),
        ({"role": "assistant", "content": "x", "tool_calls": {}}, "invalid_type", "messages[0].tool_calls"),
        ({"role": "tool", "content": "x"}, "missing_field", "messages[0].tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": ""}, "out_of_range", "messages[0].tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": 1}, "invalid_type", "messages[0].tool_call_id"),
        ({"role": "tool", "tool_call_id": "a"}, "missing_field", "messages[0].content"),
    ],
)
def test_wrong_message_is_named(message: Any, code: str, param: str) -> None:
    assert refusal(message) == (code, param)


@pytest.mark.parametrize(
    ("call", "code", "param"),
    [
        ({}, "missing_field", "id"),
        ({"id": "a"}, "missing_field", "function"),
        ({"id": "a", "function": {"name": "f"}}, "missing_field", "function.arguments"),
        ({"id": "a", "function": {"name": "f", "arguments": {}}}, "invalid_type", "function.arguments"),
        ({"id": 1, "function": {"name": "f", "arguments": ""}}, "invalid_type", "id"),
        ({**CALL, "type": "custom"}, "out_of_range", "type"),
    ],
)
def test_wrong_tool_call_is_named(call: Any, code: str, param: str) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL, call]}
    assert refusal(message) == (code, f"messages[0].tool_calls[1].{param}")


@pytest.mark.parametrize(
    ("part", "code", "param"),
    [
        ({}, "missing_field", ".type"),
        ("x", "invalid_type", ""),
        ({"type": "text"}, "missing_field", ".text"),
        ({"type": "text", "text": 1}, "invalid_type", ".text"),
        ({"type": "video_url", "video_url": {"url": "https://x"}}, "out_of_range", ".type"),
        ({"type": "refusal", "refusal": "x"}, "out_of_range", ".type"),
        ({"type": "image_url"}, "missing_field", ".image_url"),
        ({"type": "image_url", "image_url": "https://x"}, "invalid_type", ".image_url"),
        ({"type": "image_url", "image_url": {}}, "missing_field", ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "out_of_range", ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:x", "detail": "max"}}, "out_of_range", ".image_url.detail"),
        ({"type": "input_audio", "input_audio": {"data": "x"}}, "missing_field", ".input_audio.format"),
        (
            {"type": "input_audio", "input_audio": {"data": "x", "format": "ogg"}},
            "out_of_range",
            ".input_audio.format",
        ),
        ({"type": "file", "file": {}}, "missing_field", ".file.file_data"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "invalid_request", ".file.file_id"),
    ],
)
def test_wrong_part_is_named(part: Any, code: str, param: str) -> None:
    good = {"type": "text", "text": "x"}
    assert refusal({"role": "system", "content": "x"}, user(good, part)) == (code, f"messages[1].content[1]{param}")


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_pictures_are_for_users(role: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert refusal({"role": role, "content": [picture]}) == ("out_of_range", "messages[0].content[0].type")


def test_message_says_what_a_part_may_be() -> None:
    with pytest.raises(errors.OutOfRange) as caught:
        parsed(user({"type": "video_url"}))
    assert "'messages[0].content[0].type' must be" in caught.value.message
    assert "'image_url'" in caught.value.message


def test_public_api_examples_parse() -> None:
    assert (
        len(
            parsed(
                {"role": "user", "content": "What's the weather in Paris?"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": '{"temp": 18, "unit": "C"}'},
            )
        )
        == 3
    )
    assert parsed(
        user(
            {"type": "text", "text": "What is in this image?"},
            {"type": "image_url", "image_url": {"url": "https://example.com/photo.jpg"}},
        )
    )
