"""What the sandbox remembers: states, bills, receipts, and what its controls do."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox.app import Config
from sandbox.calls import CALLS_MAX, Call, Journal
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.sandbox import CAPITAL, ask, chat, client, connect, refused, stream

SLOW = "tokens=1000 delay_ms=20"


@pytest.fixture
def upstream() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


def controls(server: SandboxServer, path: str, body: Any = None) -> httpx.Response:
    url = f"{server.origin}/_sandbox/{path}"
    return httpx.get(url) if body is None else httpx.post(url, json=body)


def leave_after_a_chunk(server: SandboxServer, directive: str) -> float:
    """The moment at which the client closed a stream it had begun to read."""
    connection = connect(server, chat(directive, stream=True))
    received = b""
    while b'"content":"' not in received:
        received += connection.recv(65536)
    connection.close()
    return time.time()


def test_a_call_is_remembered_without_what_was_said(upstream: SandboxServer) -> None:
    body = json.dumps(chat(max_tokens=64, temperature=0.5)).encode()
    refused(upstream, body)
    shown = controls(upstream, "calls").json()
    call = shown["calls"][0]
    assert (call["state"], call["status"], call["model"], call["provider"]) == ("finished", 200, MODEL, "OpenAI")
    assert (call["prompt_tokens"], call["completion_tokens"], call["cost"]) == (25, 8, 0.0000228)
    assert (call["max_tokens"], call["stream"], call["client_disconnected"]) == (64, False, False)
    assert call["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert call["fields"] == ["max_tokens", "messages", "model", "temperature"]
    assert "authorization" in call["header_names"]
    assert call["received_at"] <= call["started_at"] <= call["finished_at"]
    assert shown["counters"] == {
        "received": 1,
        "finished": 1,
        "cancelled": 0,
        "refused": 0,
        "failed": 0,
        "in_flight": 0,
    }
    for secret in ("sk-or-test", "France", "Paris"):
        assert secret not in json.dumps(shown)


def test_headers_and_bodies_are_kept_only_in_process_and_only_if_wanted() -> None:
    with SandboxServer(Config(keep=True)) as server:
        ask(server)
        call = server.calls[0]
        assert json.loads(call.kept_body)["messages"] == CAPITAL
        assert call.kept_headers["authorization"] == "Bearer sk-or-test"
        assert "sk-or-test" not in controls(server, "calls").text


def test_every_end_is_counted(upstream: SandboxServer) -> None:
    ask(upstream)
    refused(upstream, b"{")
    refused(upstream, chat("fault=http:429"))
    with client(upstream) as http, pytest.raises(httpx.HTTPError):
        http.post("/chat/completions", json=chat("fault=die_before"))
    assert upstream.counters == {
        "received": 4,
        "finished": 1,
        "cancelled": 0,
        "refused": 2,
        "failed": 1,
        "in_flight": 0,
    }


def test_a_client_that_leaves_a_stream_cancels_it(upstream: SandboxServer) -> None:
    left_at = leave_after_a_chunk(upstream, SLOW)
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    assert call.state == "cancelled"
    assert abs(call.disconnected_at - left_at) < 1
    assert 1 <= call.bill.usage.completion_tokens == call.delivered_tokens < 1000
    assert call.bill.usage.prompt_tokens == 25
    assert float(call.bill.cost_usd) == pytest.approx(25 * 0.4e-6 + call.delivered_tokens * 1.6e-6)


def test_a_client_that_leaves_is_noticed_while_nothing_is_sent(upstream: SandboxServer) -> None:
    connection = connect(upstream, chat("first_ms=60000", stream=True))
    upstream.wait_until(lambda calls: bool(calls) and calls[-1].state == "started")
    connection.close()
    left_at = time.time()
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    assert (call.state, call.bill.usage.completion_tokens) == ("cancelled", 0)
    assert call.finished_at - left_at < 1


def test_a_provider_that_cannot_cancel_bills_it_all(upstream: SandboxServer) -> None:
    leave_after_a_chunk(upstream, "tokens=50 delay_ms=5 cancel=drain")
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    assert (call.state, call.bill.usage.completion_tokens) == ("finished", 50)
    assert call.disconnected_at is not None


def test_a_whole_answer_is_billed_though_the_client_left(upstream: SandboxServer) -> None:
    connection = connect(upstream, chat("first_ms=200"))
    upstream.wait_until(bool)
    connection.close()
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    assert (call.state, call.bill.usage.completion_tokens) == ("finished", 8)
    assert call.disconnected_at < call.finished_at
    assert call.finished_at - call.received_at >= 0.19


def test_a_client_that_never_sends_its_body_is_cancelled(upstream: SandboxServer) -> None:
    host, port = upstream.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /api/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        upstream.wait_until(bool)
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    assert (call.state, call.bill.cost_usd) == ("cancelled", 0)


def test_a_stream_without_delays_leaves_room_for_others(upstream: SandboxServer) -> None:
    connection = connect(upstream, chat("tokens=500000 chunk=10", stream=True, max_tokens=16_384))
    started_at = time.monotonic()
    ask(upstream)
    assert time.monotonic() - started_at < 2
    connection.close()


# --- Receipts -------------------------------------------------------------------------------


def receipt(server: SandboxServer, generation_id: str) -> httpx.Response:
    with client(server) as http:
        return http.get("/generation", params={"id": generation_id})


def test_a_receipt_says_what_was_billed_some_time_after_the_end(upstream: SandboxServer) -> None:
    answer = ask(upstream, "generation_ms=150 cached=5", user="alice")
    early = receipt(upstream, answer["id"])
    assert (early.status_code, early.json()["error"]["code"]) == (404, 404)
    time.sleep(0.16)
    told = receipt(upstream, answer["id"]).json()["data"]
    assert told["total_cost"] == told["usage"] == answer["usage"]["cost"]
    assert (told["native_tokens_prompt"], told["native_tokens_completion"]) == (25, 8)
    assert (told["native_tokens_cached"], told["native_tokens_reasoning"]) == (5, 0)
    assert (told["id"], told["model"], told["provider_name"]) == (answer["id"], MODEL, "OpenAI")
    assert (told["streamed"], told["cancelled"], told["finish_reason"]) == (False, False, "stop")
    assert told["external_user"] == "alice"


def test_a_receipt_may_differ_from_what_was_reported(upstream: SandboxServer) -> None:
    answer = stream(upstream, "generation_ms=0 billed=0.5")[-1]
    assert answer["usage"]["cost"] == 0.0000228
    assert receipt(upstream, answer["id"]).json()["data"]["total_cost"] == 0.5


def test_the_receipt_of_a_cancelled_stream_tells_what_was_delivered(upstream: SandboxServer) -> None:
    leave_after_a_chunk(upstream, f"{SLOW} generation_ms=0")
    call = upstream.wait_until(lambda calls: calls[-1].is_over)[-1]
    told = receipt(upstream, call.id).json()["data"]
    assert (told["cancelled"], told["streamed"], told["finish_reason"]) == (True, True, None)
    assert told["native_tokens_completion"] == call.delivered_tokens
    assert told["total_cost"] == float(call.bill.cost_usd)


def test_refused_and_unknown_calls_have_no_receipt(upstream: SandboxServer) -> None:
    refused(upstream, chat("fault=http:500 generation_ms=0"))
    assert receipt(upstream, upstream.calls[-1].id).status_code == 404
    assert receipt(upstream, "gen-1-nothing").status_code == 404
    assert httpx.get(f"{upstream.base_url}/generation").status_code == 401


def test_the_accounts_usage_is_the_sum_of_all_bills(upstream: SandboxServer) -> None:
    for _ in range(3):
        ask(upstream)
    with client(upstream) as http:
        key, credits = http.get("/key").json()["data"], http.get("/credits").json()["data"]
    assert key["usage"] == credits["total_usage"] == 0.0000684
    assert credits["total_credits"] == 1000


# --- Controls -------------------------------------------------------------------------------


def test_the_default_directive_holds_until_a_call_or_a_reset_says_otherwise() -> None:
    with SandboxServer(Config(default="tokens=30")) as server:
        assert ask(server)["usage"]["completion_tokens"] == 30
        assert controls(server, "default", {"directive": "tokens=40 chunk=2"}).json() == {
            "directive": "tokens=40 chunk=2"
        }
        assert ask(server)["usage"]["completion_tokens"] == 40
        assert ask(server, "tokens=50")["usage"]["completion_tokens"] == 50
        assert controls(server, "reset", {}).json() == {"directive": "tokens=30"}
        assert controls(server, "default").json() == {"directive": "tokens=30"}
        assert server.calls == []
        assert server.counters["received"] == 0


@pytest.mark.parametrize("body", [{"directive": "speed=9"}, {"directive": 5}, {}])
def test_a_default_that_is_none_is_refused(upstream: SandboxServer, body: dict[str, Any]) -> None:
    response = controls(upstream, "default", body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, 400)
    assert controls(upstream, "default").json() == {"directive": ""}


def test_a_sandbox_does_not_start_with_a_directive_it_cannot_read() -> None:
    with pytest.raises(ValueError, match="speed"):
        SandboxServer(Config(default="speed=9"))


def test_a_reset_forgets_the_calls_that_still_run(upstream: SandboxServer) -> None:
    connection = connect(upstream, chat("fault=stall_before"))
    upstream.wait_until(bool)
    upstream.reset()
    connection.close()
    ask(upstream)
    assert upstream.counters == {
        "received": 1,
        "finished": 1,
        "cancelled": 0,
        "refused": 0,
        "failed": 0,
        "in_flight": 0,
    }


def test_a_server_that_stops_cuts_the_calls_that_never_end() -> None:
    with SandboxServer() as server:
        connection = connect(server, chat("fault=stall_after:1", stream=True))
        server.wait_until(lambda calls: bool(calls) and calls[-1].delivered_tokens == 1)
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 1
    assert server.calls[-1].state == "cancelled"
    connection.close()


def test_only_the_newest_calls_are_remembered() -> None:
    journal = Journal()
    for number in range(CALLS_MAX + 5):
        call = Call(id=str(number), path="", received_at=0)
        journal.open(call)
        journal.close(call, "finished")
    assert len(journal.calls) == CALLS_MAX
    assert journal.calls[0].id == "5"
    assert journal.counters()["finished"] == CALLS_MAX + 5
