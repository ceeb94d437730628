"""Streams of Anthropic → our own, whatever the cut; and the same answer whole and streamed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from billing.pricing.money import Usage
from completions.ask import Progress, Reported
from completions.chat.answer import ChoiceDelta, Delta
from completions.dialects.base import Charge, Head
from completions.dialects.openai_chat.answers import STREAM_FAILURE_EVENT, ChunkWriter
from completions.providers.base import StreamDecoder
from completions.upstream.sse import SSEDecoder
from tests.kit.claude_routes import recording
from tests.kit.profiles import examples
from tests.kit.translators import adapter

ANTHROPIC = adapter("anthropic")
THINKING = recording("anthropic_thinking.sse")
OURS = recording("anthropic_thinking.ours.sse")
STARTED = Usage(prompt_tokens=420, completion_tokens=2)
ENDED = Usage(prompt_tokens=420, completion_tokens=96, reasoning_tokens=31)


def decoder() -> StreamDecoder:
    return ANTHROPIC.decoder(context_length=1_000_000)


def chunks_of(*pieces: bytes) -> list[Progress]:
    events, stream = SSEDecoder(), decoder()
    meant = [stream.event(data) for piece in pieces for data in events.feed(piece)]
    return [chunk for chunk in (*meant, stream.close()) if chunk is not None]


def relayed(*pieces: bytes) -> bytes:
    writer = ChunkWriter(Head("gen-q2", "anthropic/claude-opus-5", 1790000007), include_usage=True)
    chunks = chunks_of(*pieces)
    written = b"".join(writer.piece(chunk) for chunk in chunks if chunk.payload)
    usage = next(chunk.reported.usage for chunk in reversed(chunks) if chunk.reported)
    assert usage is not None
    return written + writer.end(Charge(usage, 4500, 995500))


def event(kind: str, **parts: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **parts})


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, **delta: Any) -> bytes:
    return event("content_block_delta", index=index, delta=delta)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def end(stop_reason: Any = "end_turn", **more: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": stop_reason, **more}, usage={"output_tokens": 5})


BEGIN = event("message_start", message={"id": "msg_1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}})
STOP = event("message_stop")


def deltas(*events: bytes) -> list[dict[str, Any]]:
    stream = decoder()
    chunks = (stream.event(data) for data in events)
    found = [choice.delta for chunk in chunks if chunk for choice in chunk.payload]
    return [msgspec.json.decode(msgspec.json.encode(one)) for one in found]


# --- The recorded stream ------------------------------------------------------------------------------


def test_the_sample_with_thinking_and_tools_to_the_byte() -> None:
    assert relayed(THINKING) == OURS


def test_the_sample_cut_at_every_byte_comes_out_the_same() -> None:
    for cut in range(len(THINKING) + 1):
        assert relayed(THINKING[:cut], THINKING[cut:]) == OURS, cut
    assert relayed(*(THINKING[at : at + 1] for at in range(len(THINKING)))) == OURS


def test_other_line_ends_and_trailing_blanks_change_nothing() -> None:
    assert relayed(THINKING.replace(b"\n", b"\r\n")) == OURS
    assert relayed(THINKING.replace(b"}\n\n", b"}  \n\n")) == OURS


def test_usage_is_partial_until_the_answer_has_ended() -> None:
    reported = [chunk.reported for chunk in chunks_of(THINKING) if chunk.reported]
    assert reported == [Reported(STARTED, is_partial=True), Reported(ENDED)]


def test_the_sample_says_who_answered_and_how_much() -> None:
    chunks = chunks_of(THINKING)
    assert [chunk.provider_ref for chunk in chunks if chunk.provider_ref] == ["msg_02SAMPLE"]
    assert sum(chunk.output_bytes for chunk in chunks) == len('Need the weather.Checking.get_weather{"city": "Paris"}')


def test_nothing_of_the_providers_own_gets_through() -> None:
    assert not any(
        word in OURS for word in (b"msg_", b"claude-opus-5-", b"service_tier", b"inference_geo", b"ephemeral")
    )


# --- Blocks -------------------------------------------------------------------------------------------


def test_our_calls_are_numbered_over_calls_alone() -> None:
    shown = deltas(
        BEGIN,
        start(0, type="thinking", thinking="", signature=""),
        stop(0),
        start(3, type="tool_use", id="a", name="f", input={}),
        delta(3, type="input_json_delta", partial_json=""),
        stop(3),
        start(4, type="server_tool_use", id="s", name="web_search", input={}),
        delta(4, type="input_json_delta", partial_json='{"query": "x"}'),
        stop(4),
        start(5, type="web_search_tool_result", tool_use_id="s", content=[]),
        stop(5),
        start(6, type="tool_use", id="b", name="g", input={}),
        delta(6, type="input_json_delta", partial_json='{"x": 1}'),
        stop(6),
    )
    assert [one["tool_calls"][0] for one in shown] == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": '{"x": 1}'}},
    ]


def test_thinking_that_is_not_shown_has_its_signature_alone() -> None:
    shown = deltas(
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="signature_delta", signature="SIG"),
        stop(0),
        start(1, type="redacted_thinking", data="DATA"),
        stop(1),
    )
    ours = {"format": "anthropic-claude-v1"}
    assert shown == [
        {"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "SIG", **ours, "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "DATA", **ours, "index": 1}]},
    ]


def test_thinking_says_its_place_and_format_once() -> None:
    shown = deltas(
        start(0, type="text", text="Say"),
        start(1, type="thinking", thinking="", signature=""),
        delta(1, type="thinking_delta", thinking="a"),
        delta(1, type="thinking_delta", thinking=""),
        delta(1, type="thinking_delta", thinking="b"),
        delta(1, type="signature_delta", signature="SIG"),
    )
    told = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    assert shown == [
        {"content": "Say"},
        {"reasoning": "a", "reasoning_details": [{**told, "text": "a", "id": "after-1"}]},
        {"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.text", "signature": "SIG", "index": 0}]},
    ]


def test_citations_come_when_their_text_is_whole() -> None:
    cited = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "a"}
    shown = deltas(
        start(0, type="text", text=""),
        delta(0, type="text_delta", text="Say "),
        stop(0),
        start(1, type="text", text="", citations=[]),
        delta(1, type="citations_delta", citation=cited),
        delta(1, type="text_delta", text="this."),
        delta(1, type="citations_delta", citation={**cited, "title": None}),
        delta(1, type="citations_delta", citation={"type": "char_location", "cited_text": "x"}),
        stop(1),
    )
    where = {"start_index": 4, "end_index": 9, "url": "https://a.example"}
    assert shown[2] == {
        "annotations": [
            {"type": "url_citation", "url_citation": {**where, "title": "A", "content": "a"}, "index": 0},
            {
                "type": "url_citation",
                "url_citation": {**where, "title": "https://a.example", "content": "a"},
                "index": 1,
            },
        ]
    }


@pytest.mark.parametrize(
    "unknown",
    [
        event("ping"),
        event("surprise", index="x", delta=7),
        start(0, type="hologram", shape=[1]),
        delta(0, type="hologram_delta", shape=[2]),
        delta(9, type="text_delta", text="of no block"),
        stop(9),
        delta(1, type="thinking_delta", thinking="in a text"),
    ],
)
def test_what_nobody_knows_is_passed_over(unknown: bytes) -> None:
    stream = decoder()
    assert stream.event(start(1, type="text", text="")) is None
    found = stream.event(unknown)
    assert found is None or (found.payload, found.failure) == ((), None)


# --- Ends ---------------------------------------------------------------------------------------------


def test_a_stream_is_whole_with_its_stop() -> None:
    stream = decoder()
    for data in (BEGIN, start(0, type="text", text="Hi"), stop(0), end()):
        stream.event(data)
        assert not stream.finished
    assert stream.event(STOP) is None
    assert stream.finished
    assert stream.close() is None


def test_a_stream_cut_off_is_a_failure() -> None:
    stream = decoder()
    stream.event(BEGIN)
    stream.event(end())
    chunk = stream.close()
    assert chunk is not None
    assert chunk.failure is not None
    assert (chunk.failure.kind, chunk.failure.may_fail_over) == ("unavailable", True)


def test_an_answer_that_did_not_say_how_it_ended() -> None:
    stream = decoder()
    stream.event(BEGIN)
    stream.event(start(0, type="tool_use", id="a", name="f", input={}))
    assert stream.event(event("message_delta", delta={"stop_reason": None})) == Progress()
    assert stream.event(STOP) == Progress(
        payload=(ChoiceDelta(0, Delta(), "tool_calls"),), has_output=True, finish_reason="tool_calls"
    )


def test_a_refusal_comes_with_the_finish() -> None:
    stream = decoder()
    chunk = stream.event(end("refusal", stop_details={"explanation": "Not this."}))
    assert chunk is not None
    assert chunk.payload == (ChoiceDelta(0, Delta(refusal="Not this."), "content_filter"),)
    again = stream.event(end("refusal"))
    assert again is not None
    assert again.payload == ()


def test_usage_of_later_events_replaces_that_of_earlier_ones_key_by_key() -> None:
    begun = {
        "input_tokens": 1128,
        "cache_read_input_tokens": 500,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 1,
    }
    more = {"input_tokens": 2411, "cache_read_input_tokens": None, "output_tokens": 40}
    stream = decoder()
    stream.event(event("message_start", message={"id": "m", "usage": begun}))
    chunk = stream.event(event("message_delta", delta={"stop_reason": "end_turn"}, usage=more))
    assert chunk is not None
    assert chunk.reported == Reported(
        Usage(
            prompt_tokens=2411 + 500 + 30,
            completion_tokens=40,
            cached_tokens=500,
            cache_write_5m_tokens=10,
            cache_write_1h_tokens=20,
        )
    )


def test_an_error_in_mid_stream_ends_ours_with_one_event() -> None:
    events = SSEDecoder().feed(recording("anthropic_broken.sse"))
    stream = decoder()
    stream.event(BEGIN)
    stream.event(start(0, type="text", text=""))
    said, broken = (stream.event(data) for data in events)
    assert said is not None
    assert said.payload == (ChoiceDelta(0, Delta(content="Once upon")),)
    assert broken is not None
    assert broken.failure is not None
    assert (broken.failure.kind, broken.failure.status) == ("unavailable", 529)
    assert recording("anthropic_broken.ours.sse") == STREAM_FAILURE_EVENT


@pytest.mark.parametrize(
    ("kind", "status", "failure"),
    [
        ("overloaded_error", 529, "unavailable"),
        ("rate_limit_error", 429, "unavailable"),
        ("api_error", 500, "unavailable"),
        ("billing_error", 402, "provider_auth"),
        ("authentication_error", 401, "provider_auth"),
        ("invalid_request_error", 400, "refused"),
        ("unheard_of_error", 500, "unavailable"),
    ],
)
def test_an_error_as_the_first_event_has_the_meaning_of_its_status(kind: str, status: int, failure: str) -> None:
    chunk = decoder().event(event("error", error={"type": kind, "message": "Sorry"}, request_id="req_011CSAMPLE"))
    assert chunk is not None
    assert chunk.failure is not None
    assert (chunk.failure.status, chunk.failure.kind, chunk.payload) == (status, failure, ())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"type":1}', b'{"type":"content_block_start"}', b"\xff"])
def test_an_event_that_is_none_is_a_failure(data: bytes) -> None:
    chunk = decoder().event(data)
    assert chunk is not None
    assert chunk.failure is not None
    assert chunk.failure.kind == "malformed_response"


# --- Whole and streamed are the same --------------------------------------------------------------------

texts = st.text(min_size=1, max_size=6)
inputs = st.dictionaries(texts, st.integers() | texts | st.none() | st.lists(st.booleans(), max_size=2), max_size=3)
citations = st.builds(
    lambda url, title: {"type": "web_search_result_location", "url": url, "title": title, "cited_text": "x"},
    st.sampled_from(["https://a.example", "https://b.example"]),
    st.none() | texts,
)
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, texts),
    st.builds(lambda text, cited: {"type": "text", "text": text, "citations": cited}, texts, st.lists(citations)),
    st.builds(lambda text, seal: {"type": "thinking", "thinking": text, "signature": seal}, st.text(max_size=6), texts),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, texts),
    st.builds(lambda name, given: {"type": "tool_use", "id": name, "name": name, "input": given}, texts, inputs),
    st.just({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}),
)
ends = st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn"])
pieces_of_any = st.integers(1, 4)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def events_of(index: int, block: dict[str, Any], size: int) -> list[bytes]:
    """How Anthropic streams a block."""
    match block["type"]:
        case "text":
            told = [delta(index, type="citations_delta", citation=one) for one in block.get("citations", ())]
            told += [delta(index, type="text_delta", text=piece) for piece in cut(block["text"], size)]
            begun = {"type": "text", "text": ""}
        case "thinking":
            told = [delta(index, type="thinking_delta", thinking=piece) for piece in cut(block["thinking"], size)]
            told.append(delta(index, type="signature_delta", signature=block["signature"]))
            begun = {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use":
            text = msgspec.json.format(msgspec.json.encode(block["input"]), indent=0).decode()
            parts = cut(text, size) if text != "{}" else []
            told = [delta(index, type="input_json_delta", partial_json=piece) for piece in ("", *parts)]
            begun = {**block, "input": {}}
        case _:
            told, begun = [], block
    return [start(index, **begun), *told, stop(index)]


@examples(300)
@given(st.lists(blocks, max_size=6), ends, pieces_of_any)
def test_an_answer_is_the_same_whole_and_streamed(content: list[Any], stop_reason: str, size: int) -> None:
    """Put together as the OpenAI SDK does; only that an absent text is "" in a stream."""
    details = {"type": "refusal", "category": None, "explanation": "Not this."}
    usage = {"input_tokens": 3, "output_tokens": 5}
    told = {"type": "message", "content": content, "stop_reason": stop_reason, "stop_details": details, "usage": usage}
    whole = ANTHROPIC.answer(msgspec.json.encode(told))
    stream = decoder()
    events = [BEGIN, *(data for at, block in enumerate(content) for data in events_of(at, block, size))]
    chunks = [stream.event(data) for data in (*events, end(stop_reason, stop_details=details), STOP)]
    gathered: dict[object, object] = {"role": "assistant", "content": ""}
    for chunk in chunks:
        for choice in chunk.payload if chunk else ():
            gathered = accumulate_delta(gathered, msgspec.json.decode(msgspec.json.encode(choice.delta)))
    message = msgspec.json.decode(msgspec.json.encode(whole.payload[0].message))
    assert without_indexes(gathered) == without_indexes(message)
    assert [choice.finish_reason for chunk in chunks if chunk for choice in chunk.payload if choice.finish_reason] == [
        whole.payload[0].finish_reason
    ]
    assert sum(chunk.output_bytes for chunk in chunks if chunk) == whole.output_bytes
    assert [chunk.reported for chunk in chunks if chunk and chunk.reported][-1] == whole.reported


def without_indexes(message: Any) -> dict[str, Any]:
    """What a client keeps of an answer: indexes of calls and annotations exist in streams alone."""
    told = {name: value for name, value in message.items() if value not in (None, "")}
    for name in ("tool_calls", "annotations"):
        if name in told:
            told[name] = [{key: part for key, part in one.items() if key != "index"} for one in told[name]]
    return told
