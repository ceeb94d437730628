"""Upper estimates of prompts, and what an uncounted answer was."""

import base64
import json
from typing import Any

from completions.chat.tokens import estimate_completion_tokens, estimate_prompt_tokens, text_tokens
from completions.dialects.openai_chat.schema import parse_chat

EMPTY = 16 + 8  # the request, one message


def estimate(*messages: Any, **fields: Any) -> int:
    return estimate_prompt_tokens(parse_chat(json.dumps({"model": "a/b", "messages": messages, **fields}).encode()))


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_ascii_text_is_half_its_length_rounded_up() -> None:
    assert [text_tokens("x" * n) for n in (0, 1, 2, 3, 100)] == [0, 1, 1, 2, 50]


def test_other_text_adds_its_extra_bytes() -> None:
    assert text_tokens("café") == 2 + 1
    assert text_tokens("中文") == 1 + 4
    assert text_tokens("😀") == 1 + 3


def test_messages_and_parts_add_up() -> None:
    assert estimate({"role": "user", "content": ""}) == EMPTY
    assert estimate({"role": "user", "content": "x" * 10}) == EMPTY + 5
    assert estimate(user({"type": "text", "text": "x" * 10}, {"type": "text", "text": "y" * 4})) == EMPTY + 7
    assert estimate(*[{"role": "user", "content": "xx"}] * 3) == 16 + 3 * 9


def test_public_example_is_held_for_more_than_its_25_tokens() -> None:
    messages = (
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
    )
    assert estimate(*messages) == 16 + 2 * 8 + 14 + 15


def test_pictures_are_flat() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert estimate(user(picture, picture)) == EMPTY + 2 * 4_800


def test_sound_goes_by_its_decoded_size() -> None:
    data = base64.b64encode(b"\0" * 48_000).decode()
    wav = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    mp3 = {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}
    assert estimate(user(wav)) == EMPTY + 48_000 // 250 + 1
    assert estimate(user(mp3)) == EMPTY + 48_000 // 60 + 1


def test_files_go_by_their_decoded_size_but_a_page_at_least() -> None:
    def file(data: str) -> dict[str, Any]:
        return {"type": "file", "file": {"file_data": data}}

    large = base64.b64encode(b"\0" * 30_000).decode()
    assert estimate(user(file(large))) == EMPTY + 15_000
    assert estimate(user(file("data:application/pdf;base64,AAAA"))) == EMPTY + 4_000
    assert estimate(user(file("https://example.com/a.pdf"))) == EMPTY + 1_000_000


def test_tools_and_schemas_go_by_their_json() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 100}}]
    bare = {"role": "user", "content": ""}
    assert estimate(bare, tools=tools) == EMPTY + 16 + (len(json.dumps(tools)) + 1) // 2
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert estimate(bare, response_format=form) == EMPTY + (len(json.dumps(form)) + 1) // 2
    assert estimate(bare, tools=[], response_format=None) == EMPTY


def test_echoed_answers_count_in_full() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    assert estimate({"role": "assistant", "tool_calls": [call]}) == EMPTY + 16 + 3 + 2 + 1
    assert estimate({"role": "assistant", "content": "xx", "reasoning": "y" * 10}) == EMPTY + 1 + 5
    details = [{"type": "reasoning.text", "text": "z" * 50, "index": 0}]
    echoed = {"role": "assistant", "content": "", "reasoning_details": details}
    assert estimate(echoed) == EMPTY + (len(json.dumps(details)) + 1) // 2
    assert estimate({"role": "tool", "tool_call_id": "call_1", "content": "xx"}) == EMPTY + 1 + 3


def test_uncounted_answer_is_three_and_a_half_bytes_per_token() -> None:
    assert [estimate_completion_tokens(n) for n in (0, 1, 3, 4, 7, 8, 350)] == [0, 1, 1, 2, 2, 3, 100]
