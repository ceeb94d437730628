"""Recorded OpenRouter streams → our own, whatever the cut."""

import random
from decimal import Decimal

import msgspec
import pytest
from msgspec import Raw

from billing.pricing.money import Usage
from completions.ask import Progress, Reported
from completions.chat.answer import ChoiceDelta, Delta
from completions.dialects.base import Charge, Head
from completions.dialects.openai_chat.answers import ChunkWriter
from completions.errors import InvalidRequest
from completions.providers.base import StreamDecoder
from completions.upstream.sse import SSEDecoder
from tests.kit import openrouter_recordings as recordings
from tests.kit.translators import adapter

USAGE = Usage(prompt_tokens=254, completion_tokens=9, reasoning_tokens=4)
REPORTED = Reported(USAGE, Decimal("0.000897"), None)

HEAD = b'data: {"id":"gen-q1","object":"chat.completion.chunk","created":1,"model":"anthropic/claude-sonnet-4.6",'
OURS = (
    HEAD + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null,"logprobs":null}],'
    b'"usage":null}\n\n' + HEAD + b'"choices":[{"index":0,"delta":{"reasoning":"Short.","reasoning_details":'
    b'[{"type":"reasoning.text","text":"Short.","format":"anthropic-claude-v1","index":0}]},'
    b'"finish_reason":null,"logprobs":null}],"usage":null}\n\n'
    + HEAD
    + b'"choices":[{"index":0,"delta":{"content":"Rhine"},"finish_reason":null,"logprobs":null}],"usage":null}\n\n'
    + HEAD
    + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop","logprobs":null}],"usage":null}\n\n'
    + HEAD
    + b'"choices":[],"usage":{"prompt_tokens":254,"completion_tokens":9,"total_tokens":263,"credits_used":2400,'
    b'"credits_remaining":997600,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0}}}\n\ndata: [DONE]\n\n'
)


def decoder() -> StreamDecoder:
    return adapter("openrouter").decoder(context_length=1_000_000)


def chunks_of(*pieces: bytes) -> list[Progress]:
    events, stream = SSEDecoder(), decoder()
    meant = [stream.event(data) for piece in pieces for data in events.feed(piece)]
    return [chunk for chunk in (*meant, stream.close()) if chunk is not None]


def relayed(*pieces: bytes) -> bytes:
    writer = ChunkWriter(Head("gen-q1", "anthropic/claude-sonnet-4.6", 1), include_usage=True)
    chunks = chunks_of(*pieces)
    written = b"".join(writer.piece(chunk) for chunk in chunks)
    usage = next(chunk.reported.usage for chunk in reversed(chunks) if chunk.reported)
    assert usage is not None
    return written + writer.end(Charge(usage, 2400, 997600))


def event(choices: object, **top: object) -> bytes:
    return msgspec.json.encode({"id": "gen-1", "choices": choices, **top})


def delta(finish_reason: str | None = None, **fields: object) -> bytes:
    return event([{"index": 0, "delta": fields, "finish_reason": finish_reason}])


def deltas(*events: bytes) -> list[Delta]:
    stream = decoder()
    chunks = (stream.event(data) for data in events)
    return [choice.delta for chunk in chunks if chunk for choice in chunk.payload]


def shown(*events: bytes) -> list[bytes]:
    return [msgspec.json.encode(one) for one in deltas(*events)]


def test_recorded_stream_comes_out_clean() -> None:
    assert relayed(recordings.STREAM) == OURS


def test_recorded_stream_cut_at_every_byte_comes_out_the_same() -> None:
    stream = recordings.STREAM
    for cut in range(len(stream) + 1):
        assert relayed(stream[:cut], stream[cut:]) == OURS, cut
    assert relayed(*(stream[at : at + 1] for at in range(len(stream)))) == OURS


@pytest.mark.parametrize(
    "last",
    [recordings.LAST_OF_2025, recordings.LAST_OF_MARCH_2026, recordings.LAST_OF_2026],
    ids=["2025", "mar", "aug"],
)
def test_every_shape_of_the_usage_chunk(last: bytes) -> None:
    stream = recordings.stream_of(recordings.FIRST, recordings.SECOND, recordings.FINISH, last, b"[DONE]")
    assert relayed(stream) == OURS
    chunks = chunks_of(stream)
    assert [chunk.reported for chunk in chunks] == [None, None, None, REPORTED]
    assert chunks[-1].payload == ()


def test_usage_beside_the_finish_is_read() -> None:
    stream = recordings.stream_of(recordings.FIRST, recordings.SECOND, recordings.LAST_OF_2026, b"[DONE]")
    assert relayed(stream) == OURS


def test_nothing_of_the_providers_own_gets_through() -> None:
    assert not any(word in OURS for word in (b"native", b"provider", b"Google", b"gen-179", b"cost", b"20260217"))


def test_chunk_tells_reference_fingerprint_and_output_bytes() -> None:
    chunk = decoder().event(recordings.FIRST)
    assert chunk is not None
    assert (chunk.provider_ref, chunk.system_fingerprint, chunk.output_bytes) == ("gen-1790000002-zz", None, 6)
    chunk = decoder().event(event([{"delta": {"content": "é"}}], system_fingerprint="fp_1"))
    assert chunk is not None
    assert (chunk.system_fingerprint, chunk.output_bytes) == ("fp_1", 2)


def test_fingerprint_is_said_from_when_it_is_known() -> None:
    writer = ChunkWriter(Head("gen-1", "a/b", 1), include_usage=False)
    written = writer.piece(Progress(system_fingerprint="fp_1", payload=(ChoiceDelta(0, Delta(content="x")),)))
    assert written.count(b'"system_fingerprint":"fp_1"') == 2
    assert b'"usage"' not in written
    assert writer.end(Charge(USAGE, 0, None)) == b"data: [DONE]\n\n"


def test_first_event_without_words_still_begins_our_stream() -> None:
    writer = ChunkWriter(Head("gen-1", "a/b", 1), include_usage=False)
    first = decoder().event(delta(role="assistant", content=""))
    assert first is not None
    assert first.payload == ()
    assert writer.piece(first).count(b"data: ") == 1
    assert writer.piece(first) == b""


def test_error_null_is_no_error() -> None:
    chunk = decoder().event(event([{"delta": {"content": "x"}, "error": None}], error=None))
    assert chunk is not None
    assert (chunk.failure, len(chunk.payload)) == (None, 1)


def test_finish_reason_comes_once() -> None:
    stream = decoder()
    said = [stream.event(delta("stop", content="")), stream.event(delta("stop", content="")), stream.event(b"[DONE]")]
    assert [chunk and [choice.finish_reason for choice in chunk.payload] for chunk in said] == [["stop"], [], None]
    assert (stream.finished, stream.close()) == (True, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": "x"}, "stop"),
        ({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}, "tool_calls"),
    ],
)
def test_missing_finish_reason_is_said_at_the_end(fields: dict[str, object], expected: str) -> None:
    stream = decoder()
    stream.event(delta(**fields))
    assert stream.event(b"[DONE]") == Progress(
        payload=(ChoiceDelta(0, Delta(), expected),), has_output=True, finish_reason=expected
    )
    assert stream.close() is None


def test_end_without_done_is_fine_after_a_finish_reason() -> None:
    stream = decoder()
    stream.event(delta("stop", content="x"))
    assert stream.finished is False
    assert stream.close() is None
    assert stream.finished is True


@pytest.mark.parametrize("events", [[], [delta(content="x")]], ids=["nothing", "half"])
def test_end_in_the_middle_is_a_failure(events: list[bytes]) -> None:
    stream = decoder()
    for data in events:
        stream.event(data)
    end = stream.close()
    assert end is not None
    assert end.failure is not None
    assert (end.failure.kind, end.failure.may_fail_over) == ("unavailable", True)


def test_only_done_is_nonsense() -> None:
    chunk = decoder().event(b"[DONE]")
    assert chunk is not None
    assert chunk.failure is not None
    assert chunk.failure.kind == "malformed_response"


def test_tool_call_fragments_say_id_type_and_name_once() -> None:
    def fragment(arguments: str, **extra: object) -> bytes:
        call = {"index": 0, "type": "function", "function": {"name": "f", "arguments": arguments}, **extra}
        return delta(role="assistant", content=None, tool_calls=[call])

    assert shown(fragment("", id="call_1"), fragment('{"a"', id="call_1"), fragment(":1}", id=None), fragment("")) == [
        b'{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}',
        b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\""}}]}',
        b'{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}',
    ]


def calls(*fragments: dict[str, object]) -> list[tuple[int, str | None, str | None, str | None]]:
    events = [delta(tool_calls=[fragment]) for fragment in fragments]
    found = [call for one in deltas(*events) for call in one.tool_calls or ()]
    return [(call.index, call.id, call.function.name, call.function.arguments) for call in found]


def test_tool_call_indexes_are_contiguous_from_zero() -> None:
    assert calls(
        {"index": 1, "id": "a", "function": {"name": "f", "arguments": "1"}},
        {"index": 3, "id": "b", "function": {"name": "g", "arguments": "2"}},
        {"index": 1, "function": {"arguments": "3"}},
        {"index": 3, "function": {"arguments": "4"}},
    ) == [(0, "a", "f", "1"), (1, "b", "g", "2"), (0, None, None, "3"), (1, None, None, "4")]


def test_tool_calls_all_numbered_zero_are_told_apart_by_id() -> None:
    assert calls(
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}},
        {"index": 0, "id": "b", "function": {"name": "f", "arguments": "2"}},
        {"index": 0, "function": {"arguments": "3"}},
    ) == [(0, "a", "f", "1"), (1, "b", "f", "2"), (1, None, None, "3")]


def test_whole_tool_calls_without_a_number() -> None:
    found = calls(
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "", "function": {"name": "g", "arguments": "{"}},
        {"function": {"arguments": "}"}},
    )
    assert [(index, name, arguments) for index, _, name, arguments in found] == [
        (0, "f", "{}"),
        (1, "g", "{"),
        (1, None, "}"),
    ]
    assert found[0][1] == "a"
    assert str(found[1][1]).startswith("call_")


def test_a_new_id_on_every_fragment_is_still_one_call() -> None:
    assert calls(
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "id": "b", "function": {"name": None, "arguments": "{}"}},
    ) == [(0, "a", "f", ""), (0, None, None, "{}")]


def test_name_that_comes_late_is_waited_for() -> None:
    assert calls(
        {"index": 0, "id": "a", "function": None},
        {"index": 0, "function": {"arguments": "{"}},
        {"index": 0, "function": {"name": "f", "arguments": "}"}},
    ) == [(0, "a", "f", "{}")]


def test_lists_carry_an_integer_index() -> None:
    text = {"type": "reasoning.text", "text": "a"}
    sealed = {"type": "reasoning.encrypted", "data": "b", "index": None}
    assert shown(delta(reasoning_details=[text, sealed]), delta(reasoning_details=[text])) == [
        b'{"reasoning_details":[{"type":"reasoning.text","text":"a","index":0},'
        b'{"type":"reasoning.encrypted","data":"b","index":1}]}',
        b'{"reasoning_details":[{"type":"reasoning.text","text":"a","index":0}]}',
    ]
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    annotations = [msgspec.json.decode(one)["annotations"] for one in shown(*[delta(annotations=[cited])] * 3)]
    assert [item["index"] for items in annotations for item in items] == [0, 1, 2]


def test_reasoning_formats_and_ids_are_said_once_per_block() -> None:
    def detail(index: int, text: str) -> bytes:
        one = {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "id": "r", "index": index}
        return delta(reasoning_details=[one])

    assert shown(detail(0, "a"), detail(0, "b"), detail(1, "c")) == [
        b'{"reasoning_details":[{"type":"reasoning.text","text":"a","format":"anthropic-claude-v1","id":"r","index":0}]}',
        b'{"reasoning_details":[{"type":"reasoning.text","text":"b","index":0}]}',
        b'{"reasoning_details":[{"type":"reasoning.text","text":"c","format":"anthropic-claude-v1","id":"r","index":1}]}',
    ]


def test_pictures_sound_and_refusals_pass() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert shown(delta(images=[picture]), delta(audio={"id": "a", "data": "AAAA"}), delta(refusal="No.")) == [
        b'{"images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"},"index":0}]}',
        b'{"audio":{"id":"a","data":"AAAA"}}',
        b'{"refusal":"No."}',
    ]


def test_delivered_pictures_are_counted_into_the_usage() -> None:
    stream = decoder()
    stream.event(delta(images=[{"type": "image_url"}, {"type": "image_url"}]))
    chunk = stream.event(recordings.LAST_OF_MARCH_2026)
    assert chunk is not None
    assert chunk.reported is not None
    assert chunk.reported.usage is not None
    assert chunk.reported.usage.units == {"images": 2}


def test_log_probabilities_pass() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    chunk = decoder().event(event([{"index": 0, "delta": {"content": "x"}, "logprobs": logprobs}]))
    assert chunk is not None
    assert chunk.payload[0].logprobs == Raw(msgspec.json.encode(logprobs))


def test_reasoning_by_its_other_name() -> None:
    assert deltas(delta(reasoning_content="Hm.")) == [Delta(reasoning="Hm.")]


def test_documented_error_event() -> None:
    chunk = decoder().event(recordings.DOCUMENTED_ERROR)
    assert chunk is not None
    assert chunk.failure is not None
    assert chunk.payload == ()
    assert (chunk.failure.kind, chunk.failure.status, chunk.failure.error.status) == ("unavailable", 502, 503)
    assert chunk.failure.detail == "status 502 provider_unavailable stream_closed"


def test_recorded_error_event_keeps_its_usage() -> None:
    chunk = decoder().event(recordings.RECORDED_ERROR)
    assert chunk is not None
    assert chunk.failure is not None
    assert isinstance(chunk.failure.error, InvalidRequest)
    assert chunk.failure.error.message == "The provider refused the request: Token limit reached"
    usage = Usage(prompt_tokens=43, completion_tokens=10, reasoning_tokens=11)
    assert chunk.reported == Reported(usage, Decimal(0), None)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"error":{"message":"x","code":"server_error"}}', "unavailable"),
        (b'{"error":{"message":"x","code":429}}', "unavailable"),
        (b'{"error":{"message":"x","code":401}}', "provider_auth"),
        (b'{"error":"it broke"}', "unavailable"),
        (b'{"object":"error","message":"x","type":"BadRequestError","code":400}', "refused"),
        (b'{"error":{"error_type":"provider_overloaded","http_status":503}}', "unavailable"),
        (b'{"error":{"error_type":"content_policy_violation"}}', "refused"),
        (b'{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}', "unavailable"),
        (b'{"choices":[{"index":0,"delta":{},"error":{"code":400,"message":"x"}}]}', "refused"),
        (b'{"detail":"Not Found"}', "malformed_response"),
        (b"{}", "malformed_response"),
        (b"[]", "malformed_response"),
        (b"hello", "malformed_response"),
        (b"", "malformed_response"),
        (b"\xff", "malformed_response"),
        (b'{"choices":[{"delta":{"content":"\xff"}}]}', "malformed_response"),
        (b'{"choices":[{"delta":{"content":1}}]}', "malformed_response"),
        (b'{"choices":"x"}', "malformed_response"),
        (b"[" * 100_000, "malformed_response"),
    ],
)
def test_every_kind_of_failing_event(data: bytes, kind: str) -> None:
    chunk = decoder().event(data)
    assert chunk is not None
    assert chunk.failure is not None
    assert chunk.failure.kind == kind
    assert chunk.payload == ()


def test_words_before_an_error_in_the_same_event_are_kept() -> None:
    chunk = decoder().event(event([{"delta": {"content": "half"}, "finish_reason": "error"}], error={"code": 502}))
    assert chunk is not None
    assert chunk.payload == (ChoiceDelta(0, Delta(content="half")),)
    assert chunk.failure is not None


def reported(usage: object) -> Reported | None:
    chunk = decoder().event(event([], usage=usage))
    assert chunk is not None
    assert chunk.failure is None
    return chunk.reported


@pytest.mark.parametrize(
    ("usage", "problem"),
    [
        ({"prompt_tokens": -1, "completion_tokens": 1}, "negative"),
        ({"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -5}}, "negative"),
        ({"prompt_tokens": 10_000_001, "completion_tokens": 1}, "absurd"),
        ({"prompt_tokens": 1, "completion_tokens": 2**63}, "absurd"),
        ({"prompt_tokens": 1.5, "completion_tokens": 1}, "malformed"),
        ({"prompt_tokens": "1", "completion_tokens": 1}, "malformed"),
        ({"prompt_tokens": True, "completion_tokens": 1}, "malformed"),
        ({"prompt_tokens": 1}, "malformed"),
        ({}, "malformed"),
        ([], "malformed"),
        ("none", "malformed"),
    ],
)
def test_usage_that_cannot_be_true_is_named(usage: object, problem: str) -> None:
    assert reported(usage) == Reported(None, None, problem)


def test_usage_absent_is_absent_and_zero_is_zero() -> None:
    assert reported(None) is None
    assert reported({"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}) == Reported(Usage(), Decimal(0), None)


def test_usage_with_every_detail() -> None:
    assert reported(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "cost": 0.0076509169000000005,
            "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 20, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 7, "image_tokens": 1},
            "server_tool_use_details": {"web_search_requests": 2},
        }
    ) == Reported(
        Usage(
            prompt_tokens=100,
            completion_tokens=50,
            cached_tokens=10,
            cache_write_5m_tokens=20,
            reasoning_tokens=30,
            audio_input_tokens=5,
            audio_output_tokens=7,
            units={"web_searches": 2},
        ),
        Decimal("0.0076509169000000005"),
    )


def test_usage_with_null_details_and_the_overviews_name_for_searches() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": None}
    assert reported(usage) == Reported(Usage(prompt_tokens=1, completion_tokens=2))
    usage["server_tool_use"] = {"web_search_requests": 3}
    assert reported(usage) == Reported(Usage(prompt_tokens=1, completion_tokens=2, units={"web_searches": 3}))


@pytest.mark.parametrize("cost", [-0.1, "free", None, 10**9, True])
def test_cost_that_cannot_be_true_is_left_out(cost: object) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "cost": cost}
    assert reported(usage) == Reported(Usage(prompt_tokens=1, completion_tokens=2))


def test_context_length_bounds_what_is_believed() -> None:
    data = event([], usage={"prompt_tokens": 81_921, "completion_tokens": 1})
    small, large = (adapter("openrouter").decoder(context_length=size).event(data) for size in (8_192, 128_000))
    assert small is not None
    assert large is not None
    assert small.reported == Reported(problem="absurd")
    assert large.reported == Reported(Usage(prompt_tokens=81_921, completion_tokens=1))


def test_random_damage_never_raises() -> None:
    rng = random.Random(7)
    originals = (recordings.FIRST, recordings.LAST_OF_2026, recordings.DOCUMENTED_ERROR, recordings.RECORDED_ERROR)
    for turn in range(4_000):
        damaged = bytearray(originals[turn % 4])
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'{}[]",:0-x\xff\\')
        chunk = decoder().event(bytes(damaged))
        assert chunk is not None
        assert chunk.failure is not None or chunk.payload or chunk.reported or chunk.output_bytes == 0


def test_unheard_of_numbers_of_choices_are_ignored() -> None:
    stream = decoder()
    for index in (-1, 128, 10**9):
        chunk = stream.event(event([{"index": index, "delta": {"content": "x"}}]))
        assert chunk is not None
        assert chunk.payload == ()
