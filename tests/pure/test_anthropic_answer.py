"""Anthropic's whole answers → ours."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from billing.pricing.money import Usage
from completions.ask import Progress, Reported
from completions.dialects.base import Charge, Head
from completions.dialects.openai_chat.answers import CompletionWriter
from tests.kit.claude_routes import recording
from tests.kit.translators import adapter

USAGE = {"input_tokens": 3, "output_tokens": 2}


def written(said: Progress, head: Head, charge: Charge) -> bytes:
    writer = CompletionWriter(head)
    writer.piece(msgspec.structs.replace(said, system_fingerprint=head.system_fingerprint))
    return writer.end(charge)


def answer(body: bytes) -> Progress:
    return adapter("anthropic").answer(body, context_length=1_000_000)


def answer_of(*content: Any, stop_reason: Any = "end_turn", **more: Any) -> Progress:
    told = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "usage": USAGE,
    }
    return answer(msgspec.json.encode({**told, "stop_reason": stop_reason, **more}))


def message(*content: Any, **more: Any) -> dict[str, Any]:
    (choice,) = answer_of(*content, **more).payload
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(choice.message))
    return told


def test_the_sample_to_the_byte() -> None:
    said = answer(recording("anthropic_tool_answer.json"))
    usage = Usage(prompt_tokens=1580, completion_tokens=52, cached_tokens=1200)
    assert said.reported == Reported(usage)
    assert (said.provider_ref, said.output_bytes, said.failure) == ("msg_01SAMPLE", 40, None)
    ours = msgspec.json.decode(recording("anthropic_tool_answer.ours.json"), type=dict[str, Raw])
    told = written(said, Head("gen-q1", "anthropic/claude-sonnet-4.6", 1790000006, None), Charge(usage, 2280, 997720))
    # The same members, in the order of the public API's own example, and the fingerprint it has beside them.
    assert msgspec.json.decode(told, type=dict[str, Raw]) == ours | {"system_fingerprint": Raw(b"null")}


def test_text_blocks_are_one_text() -> None:
    assert message({"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}) == {
        "role": "assistant",
        "content": "One. Two.",
        "refusal": None,
    }
    assert message()["content"] is None


def test_thinking_is_reasoning_and_a_sealed_detail() -> None:
    told = message(
        {"type": "thinking", "thinking": "Hm. ", "signature": "SIG1"},
        {"type": "redacted_thinking", "data": "DATA"},
        {"type": "text", "text": "Well."},
        {"type": "thinking", "thinking": "Ah.", "signature": "SIG2"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "", "signature": "SIG3"},
        {"type": "thinking", "thinking": "", "signature": ""},
    )
    assert told["reasoning"] == "Hm. Ah."
    ours = {"format": "anthropic-claude-v1"}
    assert told["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm. ", "signature": "SIG1", **ours, "index": 0},
        {"type": "reasoning.encrypted", "data": "DATA", **ours, "index": 1},
        {"type": "reasoning.text", "text": "Ah.", "signature": "SIG2", **ours, "index": 2, "id": "after-1"},
        {"type": "reasoning.text", "text": "", "signature": "SIG3", **ours, "index": 3, "id": "after-2"},
    ]


def test_calls_have_their_input_as_text() -> None:
    told = message(
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1.0, "é", {"b": None}], "c": 1e30}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        stop_reason="tool_use",
    )
    assert [(call["id"], call["type"], call["function"]) for call in told["tool_calls"]] == [
        ("toolu_1", "function", {"name": "f", "arguments": '{"a": [1.0, "é", {"b": null}], "c": 1e30}'}),
        ("toolu_2", "function", {"name": "g", "arguments": "{}"}),
    ]
    assert told["content"] is None


def test_a_search_is_no_call_and_its_finds_are_annotations() -> None:
    cited = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "a a"}
    untitled = {"type": "web_search_result_location", "url": "https://b.example", "title": None, "cited_text": ""}
    elsewhere = {"type": "char_location", "cited_text": "c", "document_index": 0}
    told = message(
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]},
        {"type": "text", "text": "Say "},
        {"type": "text", "text": "this.", "citations": [cited, untitled, elsewhere]},
        {"type": "hologram", "shape": [1, 2]},
    )
    assert (told["content"], told.get("tool_calls")) == ("Say this.", None)
    assert told["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 4,
                "end_index": 9,
                "url": "https://a.example",
                "title": "A",
                "content": "a a",
            },
        },
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 4,
                "end_index": 9,
                "url": "https://b.example",
                "title": "https://b.example",
                "content": "",
            },
        },
    ]


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [("end_turn", "stop"), ("tool_use", "tool_calls"), ("max_tokens", "length"), ("new_one", "stop"), (None, "stop")],
)
def test_stop_reasons(stop_reason: Any, finish_reason: str) -> None:
    (choice,) = answer_of({"type": "text", "text": "x"}, stop_reason=stop_reason).payload
    assert choice.finish_reason == finish_reason


def test_an_answer_without_a_stop_reason_that_calls_has_called() -> None:
    (choice,) = answer_of({"type": "tool_use", "id": "t", "name": "f", "input": {}}, stop_reason=None).payload
    assert choice.finish_reason == "tool_calls"


def test_a_refusal_says_why_if_it_is_known() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    assert message(stop_reason="refusal", stop_details=details)["refusal"] == "Not this."
    assert message(stop_reason="refusal", stop_details=None)["refusal"] is None
    assert message(stop_reason="end_turn", stop_details=details)["refusal"] is None


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        (b"", "malformed_response", "a body that is no message: DecodeError"),
        (b"<html>", "malformed_response", "a body that is no message: DecodeError"),
        (b"[]", "malformed_response", "a body that is no message: ValidationError"),
        (b'"\xff"', "malformed_response", "a body that is no message: ValidationError"),
        (b'{"type":"message"}', "malformed_response", "a message without content"),
        (b'{"content":[{"text":"no type"}]}', "malformed_response", "a body that is no message: ValidationError"),
        (recording("anthropic_overloaded.json"), "unavailable", "status 529 overloaded_error"),
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes, kind: str, detail: str) -> None:
    failure = answer(body).failure
    assert failure is not None
    assert (failure.kind, failure.detail) == (kind, detail)
    assert "req_" not in failure.error.message


def test_an_answer_without_usage_reports_none() -> None:
    assert answer_of({"type": "text", "text": "x"}, usage=None).reported == Reported()
