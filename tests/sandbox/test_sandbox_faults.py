"""Every way in which the sandbox can go wrong, byte by byte over a real socket."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox import faults
from sandbox.server import SandboxServer
from tests.kit.sandbox import Raw, chat, chunks, client, raw, said

BOTH = pytest.mark.parametrize("streamed", [False, True])
TESTED = {
    "http",
    "200_error_top",
    "200_error_choice",
    "midstream_documented",
    "midstream_recorded",
    "die_before",
    "die_after",
    "reset_after",
    "stall_before",
    "stall_after",
    "slow_headers",
    "html",
    "empty_body",
    "invalid_json",
    "truncated_json",
    "wrong_content_type",
    "no_choices",
    "huge_line",
    "comments_only",
    "no_done",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


def parts(found: Raw) -> list[dict[str, Any]]:
    return chunks(found.body.decode())


def test_every_fault_is_tested_here() -> None:
    assert set(faults.KINDS) == TESTED


@pytest.mark.parametrize(
    "word", ["fire", "die_after:x", "die_after:", "no_done:3", "die_after:-1", "http:42", "html:1000"]
)
def test_a_fault_that_is_none_is_named(word: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        faults.parse(word)


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [(status, None) for status in (400, 401, 402, 403, 404, 408, 413, 422, 500, 502, 524, 529, 599)]
    + [(429, "12"), (503, "12")],
)
@BOTH
def test_an_http_error_comes_before_anything(
    upstream: SandboxServer, status: int, retry_after: str | None, streamed: bool
) -> None:
    with client(upstream) as http:
        response = http.post("/chat/completions", json=chat(f"fault=http:{status}", stream=streamed))
    assert (response.status_code, response.headers.get("retry-after")) == (status, retry_after)
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["error"]["code"] == status
    assert isinstance(body["error"]["message"], str)
    assert ("user_id" in body) == (status != 401)
    assert (upstream.calls[-1].state, upstream.calls[-1].bill.cost_usd) == ("refused", 0)


def test_the_recorded_rate_limit_and_payment_errors_are_told_in_their_words(upstream: SandboxServer) -> None:
    limited = json.loads(raw(upstream, "fault=http:429", streamed=True).body)["error"]
    assert limited == {
        "message": "Provider returned error",
        "code": 429,
        "metadata": {"raw": "upstream is temporarily rate-limited", "provider_name": "Google"},
    }
    unpaid = json.loads(raw(upstream, "fault=http:402", streamed=False).body)["error"]
    assert unpaid["message"].endswith("You requested up to 32000 tokens, but can only afford 27342.")


def test_the_time_to_wait_can_be_told(upstream: SandboxServer) -> None:
    assert raw(upstream, "fault=http:429 retry_after=0", streamed=False).headers["retry-after"] == "0"
    assert raw(upstream, "fault=http:402 retry_after=3", streamed=False).headers["retry-after"] == "3"


def test_an_error_may_take_its_time(upstream: SandboxServer) -> None:
    raw(upstream, "fault=http:500 first_ms=60", streamed=True)
    call = upstream.calls[-1]
    assert call.started_at - call.received_at >= 0.05


def test_200_with_an_error_instead_of_choices(upstream: SandboxServer) -> None:
    whole = raw(upstream, "fault=200_error_top", streamed=False)
    assert (whole.status, set(json.loads(whole.body))) == (200, {"error", "user_id"})
    streamed = raw(upstream, "fault=200_error_top", streamed=True)
    assert (streamed.status, streamed.end) == (200, "complete")
    assert [set(part) for part in parts(streamed)] == [{"error", "user_id"}]
    assert b"[DONE]" not in streamed.body
    assert upstream.calls[-1].bill.cost_usd == 0


def test_200_with_an_error_in_the_choice(upstream: SandboxServer) -> None:
    choice = json.loads(raw(upstream, "fault=200_error_choice", streamed=False).body)["choices"][0]
    assert choice["finish_reason"] == "error"
    assert choice["error"]["metadata"]["error_type"] == "provider_unavailable"
    assert choice["message"]["content"] == "The capital of"
    streamed = parts(raw(upstream, "fault=200_error_choice", streamed=True))
    assert said(streamed) == "The capital of"
    assert streamed[-1]["error"]["code"] == 502


def test_a_stream_breaks_off_as_documented(upstream: SandboxServer) -> None:
    found = raw(upstream, "fault=midstream_documented:3", streamed=True)
    *before, last = parts(found)
    assert found.end == "complete"
    assert said(before) == "The capital of"
    assert last["error"] == {
        "code": 502,
        "message": "Provider disconnected",
        "metadata": {"error_type": "provider_unavailable", "provider_code": "stream_closed"},
    }
    assert last["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "finish_reason": "error",
            "native_finish_reason": None,
            "logprobs": None,
        }
    ]
    assert b"[DONE]" not in found.body
    call = upstream.calls[-1]
    assert (call.bill.usage.completion_tokens, call.bill.cost_usd, call.finish_reason) == (3, 0, "error")


def test_a_stream_breaks_off_as_recorded(upstream: SandboxServer) -> None:
    found = raw(upstream, "fault=midstream_recorded:1", streamed=True)
    *before, last = parts(found)
    assert said(before) == "The"
    assert last["error"] == {"code": 400, "message": "Token limit reached"}
    assert last["choices"][0]["finish_reason"] is None
    assert (last["usage"]["prompt_tokens"], last["usage"]["cost"]) == (25, 0)
    assert found.body.endswith(b"data: [DONE]\n\n")


def test_an_answer_that_is_not_streamed_breaks_off_too(upstream: SandboxServer) -> None:
    for fault in ("midstream_documented:2", "midstream_recorded:2"):
        choice = json.loads(raw(upstream, f"fault={fault}", streamed=False).body)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("The capital", "error")


@BOTH
def test_a_connection_dies_before_the_response(upstream: SandboxServer, streamed: bool) -> None:
    assert raw(upstream, "fault=die_before", streamed=streamed) == Raw(None, {}, b"", "eof")
    assert (upstream.calls[-1].state, upstream.calls[-1].bill.cost_usd) == ("failed", 0)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_connection_dies_after_so_many_chunks(upstream: SandboxServer, number: int) -> None:
    found = raw(upstream, f"fault=die_after:{number} comments=1", streamed=True)
    assert (found.status, found.end) == (200, "eof")
    assert len(parts(found)) == number
    assert found.body.startswith(b": OPENROUTER PROCESSING\n\n")
    call = upstream.calls[-1]
    assert (call.state, call.bill.usage.completion_tokens, call.bill.usage.prompt_tokens) == ("failed", number, 25)


@pytest.mark.parametrize(("fault", "end"), [("die_after", "eof"), ("stall_after", "silence"), ("reset_after", "reset")])
def test_half_of_a_whole_answer_is_sent(upstream: SandboxServer, fault: str, end: str) -> None:
    found = raw(upstream, f"fault={fault}", streamed=False)
    assert (found.status, found.end) == (200, end)
    if end != "reset":
        assert len(found.body) == int(found.headers["content-length"]) // 2


def test_a_connection_is_reset(upstream: SandboxServer) -> None:
    assert raw(upstream, "fault=reset_after:1", streamed=True).end == "reset"
    assert upstream.calls[-1].state == "failed"


@BOTH
def test_nothing_comes_at_all(upstream: SandboxServer, streamed: bool) -> None:
    assert raw(upstream, "fault=stall_before", streamed=streamed) == Raw(None, {}, b"", "silence")
    calls = upstream.wait_until(lambda calls: calls[-1].is_over)
    assert (calls[-1].state, calls[-1].bill.cost_usd) == ("cancelled", 0)


def test_nothing_more_comes_after_so_many_chunks(upstream: SandboxServer) -> None:
    found = raw(upstream, "fault=stall_after:2", streamed=True)
    assert (found.status, found.end, len(parts(found))) == (200, "silence", 2)
    calls = upstream.wait_until(lambda calls: calls[-1].is_over)
    assert (calls[-1].state, calls[-1].bill.usage.completion_tokens) == ("cancelled", 2)


@BOTH
def test_the_head_of_the_response_dribbles(upstream: SandboxServer, streamed: bool) -> None:
    with client(upstream) as http:
        response = http.post("/chat/completions", json=chat("fault=slow_headers:150", stream=streamed))
    call = upstream.calls[-1]
    assert response.status_code == 200
    assert b"Paris" in response.content
    assert response.headers["connection"] == "close"
    assert call.state == "finished"
    assert call.finished_at - call.started_at >= 0.14


@pytest.mark.parametrize("status", [200, 502])
@BOTH
def test_a_web_page_comes(upstream: SandboxServer, status: int, streamed: bool) -> None:
    found = raw(upstream, f"fault=html:{status}", streamed=streamed)
    assert (found.status, found.headers["content-type"], found.end) == (status, "text/html", "complete")
    assert found.body == faults.HTML


@BOTH
def test_the_body_is_empty(upstream: SandboxServer, streamed: bool) -> None:
    found = raw(upstream, "fault=empty_body", streamed=streamed)
    assert (found.status, found.body, found.end) == (200, b"", "complete")
    assert upstream.calls[-1].bill.cost_usd == 0


def test_what_comes_is_not_json(upstream: SandboxServer) -> None:
    assert raw(upstream, "fault=invalid_json", streamed=False).body == b'{"id": "gen-1", "choices": [oops'
    streamed = raw(upstream, "fault=invalid_json comments=0", streamed=True).body
    assert streamed.startswith(b'data: {"id": "gen-1", "choices": [oops\n\ndata: {"id":"gen-')
    assert streamed.endswith(b"data: [DONE]\n\n")


def test_json_is_cut_in_half(upstream: SandboxServer) -> None:
    whole = raw(upstream, "fault=truncated_json", streamed=False)
    assert whole.end == "complete"
    with pytest.raises(json.JSONDecodeError):
        json.loads(whole.body)
    first, second = raw(upstream, "fault=truncated_json comments=0", streamed=True).body.split(b"\n\n")[:2]
    assert first.startswith(b'data: {"id":"gen-')
    assert not first.endswith(b"}")
    assert json.loads(second.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == " capital"


@BOTH
def test_the_right_body_has_the_wrong_type(upstream: SandboxServer, streamed: bool) -> None:
    found = raw(upstream, "fault=wrong_content_type", streamed=streamed)
    assert found.headers["content-type"] == "text/plain; charset=utf-8"
    assert b" France" in found.body


def test_the_choices_are_missing(upstream: SandboxServer) -> None:
    body = json.loads(raw(upstream, "fault=no_choices", streamed=False).body)
    assert "choices" not in body
    assert body["usage"]["total_tokens"] == 33
    first, *rest = parts(raw(upstream, "fault=no_choices", streamed=True))
    assert "choices" not in first
    assert said(rest) == "The capital of France is Paris."


@BOTH
def test_one_line_is_huge(upstream: SandboxServer, streamed: bool) -> None:
    found = raw(upstream, "fault=huge_line:3000000", streamed=streamed, silence_s=5)
    assert found.end == "complete"
    assert max(len(line) for line in found.body.split(b"\n")) > 3_000_000
    assert upstream.calls[-1].bill.usage.completion_tokens == 2


def test_comments_and_nothing_else_come(upstream: SandboxServer) -> None:
    found = raw(upstream, "fault=comments_only:3 comments=0", streamed=True)
    assert (found.body, found.end) == (b": OPENROUTER PROCESSING\n\n" * 3, "complete")
    assert raw(upstream, "fault=comments_only:3", streamed=False).body == b"\n\n\n"


def test_comments_come_until_the_client_leaves(upstream: SandboxServer) -> None:
    with (
        client(upstream) as http,
        http.stream(
            "POST", "/chat/completions", json=chat("fault=comments_only:0 comment_ms=5", stream=True)
        ) as answer,
    ):
        lines = answer.iter_lines()
        assert {next(lines) for _ in range(40)} == {": OPENROUTER PROCESSING", ""}
    calls = upstream.wait_until(lambda calls: calls[-1].is_over)
    assert calls[-1].state == "cancelled"


def test_a_stream_ends_without_done(upstream: SandboxServer) -> None:
    found = raw(upstream, "fault=no_done", streamed=True)
    assert found.end == "complete"
    assert b"[DONE]" not in found.body
    assert parts(found)[-1]["usage"]["total_tokens"] == 33
    assert json.loads(raw(upstream, "fault=no_done", streamed=False).body)["usage"]["total_tokens"] == 33


def test_a_connection_serves_on_after_an_error(upstream: SandboxServer) -> None:
    with client(upstream) as http:
        for directive in ("fault=http:500", "fault=invalid_json", "", "fault=html", ""):
            last = http.post("/chat/completions", json=chat(directive))
    assert last.json()["usage"]["total_tokens"] == 33


def test_clients_see_a_dead_connection_as_such(upstream: SandboxServer) -> None:
    with client(upstream) as http, pytest.raises(httpx.RemoteProtocolError):
        http.post("/chat/completions", json=chat("fault=die_after:1", stream=True))
