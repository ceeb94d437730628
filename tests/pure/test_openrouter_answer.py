"""OpenRouter's whole answers → ours, with the public API's example to the byte."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from billing.pricing.money import Usage
from completions.ask import Progress, Reported
from completions.chat.answer import Choice, FunctionCall, Message, ToolCall
from completions.dialects.base import Charge, Head
from completions.dialects.openai_chat.answers import CompletionWriter, usage_view
from tests.kit import openrouter_recordings as recordings
from tests.kit.translators import adapter

NULL = Raw(b"null")


def written(said: Progress, head: Head, charge: Charge) -> bytes:
    writer = CompletionWriter(head)
    writer.piece(msgspec.structs.replace(said, system_fingerprint=head.system_fingerprint))
    return writer.end(charge)


def answer(body: bytes) -> Progress:
    return adapter("openrouter").answer(body, context_length=128_000)


def answer_of(message: Any, **of_choice: Any) -> Progress:
    return answer(msgspec.json.encode({"id": "gen-1", "choices": [{"index": 0, "message": message, **of_choice}]}))


def test_recorded_answer() -> None:
    assert answer(recordings.ANSWER) == Progress(
        payload=(Choice(0, Message(role="assistant", content="The Danube.", refusal=None), "stop", NULL),),
        reported=Reported(Usage(prompt_tokens=11, completion_tokens=5), Decimal("0.0000124"), None),
        has_output=True,
        finish_reason="stop",
        provider_ref="gen-1790000001-aB3dE5fG7hJ9kL1mN3pQ",
        system_fingerprint=None,
        output_bytes=11,
    )


def test_public_apis_example_field_by_field() -> None:
    said = answer_of({"role": "assistant", "content": "The capital of France is Paris."}, finish_reason="stop")
    usage = Usage(prompt_tokens=25, completion_tokens=8)
    assert written(
        said, Head("gen-abc123", "openai/gpt-4.1-mini", 1719000000, "fp_abc123"), Charge(usage, 2400, 997600)
    ) == (
        b'{"id":"gen-abc123","object":"chat.completion","model":"openai/gpt-4.1-mini","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"The capital of France is Paris.","refusal":null},'
        b'"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":25,"completion_tokens":8,'
        b'"total_tokens":33,"credits_used":2400,"credits_remaining":997600,"prompt_tokens_details":'
        b'{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0},"completion_tokens_details":'
        b'{"reasoning_tokens":0,"audio_tokens":0}},"created":1719000000,"system_fingerprint":"fp_abc123"}'
    )


def test_usage_view_of_everything() -> None:
    usage = Usage(
        prompt_tokens=100,
        completion_tokens=50,
        cached_tokens=10,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=2,
        reasoning_tokens=30,
        audio_input_tokens=5,
        audio_output_tokens=7,
    )
    assert msgspec.to_builtins(usage_view(Charge(usage, 1, None))) == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "credits_used": 1,
        "credits_remaining": None,
        "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 22, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 7},
    }


def test_tool_calls_lose_their_index_and_gain_what_is_missing() -> None:
    said = answer_of(
        {
            "content": "",
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": None, "function": {"name": "g"}},
            ],
        }
    )
    (choice,) = said.payload
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    first, second = choice.message.tool_calls
    assert first == ToolCall("a", "function", FunctionCall("f", "{}"))
    assert (second.id.startswith("call_"), second.type, second.function) == (True, "function", FunctionCall("g", ""))
    assert said.output_bytes == len("f{}g")


def test_everything_else_a_model_says_passes() -> None:
    details = [{"type": "reasoning.text", "text": "Hm.", "format": None, "index": 0}]
    cited = [{"type": "url_citation", "url_citation": {"url": "https://example.com"}}]
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    said = answer_of(
        {
            "content": None,
            "refusal": "No.",
            "reasoning": "Hm.",
            "reasoning_details": details,
            "annotations": cited,
            "images": picture,
            "audio": {"id": "a", "data": "AAAA", "expires_at": 1, "transcript": "x"},
            "function_call": None,
        },
        logprobs={"content": []},
        finish_reason="content_filter",
        native_finish_reason="SAFETY",
    )
    assert msgspec.to_builtins(said.payload[0].finish_reason) == "content_filter"
    assert msgspec.json.decode(msgspec.json.encode(said.payload[0].message)) == {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
        "reasoning": "Hm.",
        "reasoning_details": details,
        "annotations": cited,
        "images": picture,
        "audio": {"id": "a", "data": "AAAA", "expires_at": 1, "transcript": "x"},
    }
    assert said.payload[0].logprobs == Raw(b'{"content":[]}')


def test_pictures_are_counted_into_the_usage() -> None:
    body = {
        "choices": [{"message": {"content": "", "images": [{"type": "image_url"}] * 2}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    said = answer(msgspec.json.encode(body))
    assert said.reported.usage == Usage(prompt_tokens=1, completion_tokens=2, units={"images": 2})


def test_empty_lists_and_nulls_are_not_shown() -> None:
    said = answer_of({"content": "x", "reasoning": "", "reasoning_details": [], "annotations": [], "tool_calls": []})
    assert msgspec.json.encode(said.payload[0].message) == b'{"role":"assistant","content":"x","refusal":null}'


def test_reasoning_by_its_other_name() -> None:
    assert answer_of({"content": "x", "reasoning_content": "Hm."}).payload[0].message.reasoning == "Hm."


def test_missing_usage_is_none_and_no_problem() -> None:
    assert answer_of({"content": "x"}).reported == Reported(None, None, None)


def test_error_in_a_choice_of_a_200_keeps_what_was_said() -> None:
    said = answer(recordings.ERROR_IN_200)
    assert said.failure is not None
    assert (said.failure.kind, said.failure.status, said.failure.error.status) == ("unavailable", 502, 503)
    assert (said.payload[0].message.content, said.output_bytes) == ("partial", 7)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"code":502,"message":"x"},"user_id":"user_1"}', "unavailable"),
        (b'{"error":{"code":400,"message":"Too long"}}', "refused"),
        (b'{"error":{"code":402,"message":"x"}}', "provider_auth"),
        (b'{"choices":[{"message":{"content":""},"finish_reason":"error"}]}', "unavailable"),
        (b'{"choices":[]}', "malformed_response"),
        (b"{}", "malformed_response"),
        (b"[]", "malformed_response"),
        (b"", "malformed_response"),
        (b"<html>", "malformed_response"),
        (b'{"choices":[{"message":null}]}', "malformed_response"),
        (b'{"choices":[{"message":{"content":[1]}}]}', "malformed_response"),
        (b'{"choices":[{"message":{"tool_calls":[{"id":"a"}]}}]}', "malformed_response"),
        (recordings.ANSWER[:100], "malformed_response"),
    ],
)
def test_every_kind_of_failing_body(body: bytes, kind: str) -> None:
    said = answer(body)
    assert said.failure is not None
    assert said.failure.kind == kind
    assert said.output_bytes == 0


def test_answer_cut_anywhere_is_nonsense() -> None:
    for cut in range(len(recordings.ANSWER)):
        failure = answer(recordings.ANSWER[:cut]).failure
        assert failure is not None
        assert failure.kind == "malformed_response", cut
