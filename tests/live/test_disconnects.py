"""The client leaves: a stream's provider is let go within a second, and what was delivered is settled, once."""

import time

import pytest
from django.db import transaction

from billing.models import Usage, Wallet
from tests.kit.calls import ask, holds, open_call, read_until, usage_of, wallet
from tests.kit.live import start_server
from tests.kit.tenants import make_tenant, wait_closed

# Half of 61 estimated tokens in, no token out; and with "The capital", 11 bytes at 3.5 each, out.
PROMPT_MICRO, TWO_WORDS_MICRO = 1_306, 1_979


@pytest.fixture
def upstream(sandbox):
    sandbox.reset()
    return sandbox


def streamed(server, tenant, directive, **fields):
    return open_call(server, tenant, directive, stream=True, **fields)


def left(upstream, left_at):
    """The provider's only call, which saw its connection close within a second after the client's."""
    [call] = upstream.wait_until(lambda calls: bool(calls) and calls[-1].disconnected_at is not None)
    assert abs(call.disconnected_at - left_at) < 1  # it may notice before we have looked at the clock
    assert call.state == "cancelled"
    return call


def log_line(server, tenant, timeout_s=5):
    """What the server says about the tenant's only call, as soon as it does."""
    [hold] = holds(tenant)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        lines = [line for line in server.log.read_text().splitlines() if f"gen-{hold.pk.hex}" in line]
        if lines:
            [line] = lines
            return line
        time.sleep(0.02)
    raise AssertionError("the call was never logged")


def test_a_stream_left_in_the_middle_ends_at_the_provider_and_is_charged_for_what_was_delivered(
    gateway, upstream, alice
):
    with streamed(gateway, alice, "fault=stall_after:2") as connection:
        read_until(connection, b'" capital"')
    assert left(upstream, time.time()).delivered_tokens == 2
    wait_closed(alice)
    usage = usage_of(alice)
    assert (usage.streamed, usage.cancelled, usage.estimated) == (True, True, True)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.charged) == (31, 4, TWO_WORDS_MICRO)
    assert usage.error_code == "client_disconnected"
    assert wallet(alice) == (1_000_000 - TWO_WORDS_MICRO, 0)
    assert log_line(gateway, alice).endswith("outcome=client_disconnected")


def test_a_stream_left_while_it_runs_ends_at_the_provider(gateway, upstream, alice):
    with streamed(gateway, alice, "tokens=2000 delay_ms=5") as connection:
        read_until(connection, b'"content":"')
    assert left(upstream, time.time()).delivered_tokens < 2000
    wait_closed(alice)
    usage = usage_of(alice)
    assert (usage.cancelled, usage.estimated, usage.charged > PROMPT_MICRO) == (True, True, True)


def test_a_stream_left_before_its_first_event_is_charged_for_its_prompt(gateway, upstream, alice):
    with streamed(gateway, alice, "first_ms=60000"):
        upstream.wait_until(lambda calls: bool(calls) and calls[0].started_at is not None)
        time.sleep(0.1)  # the provider's head is on its way
    left(upstream, time.time())
    wait_closed(alice)
    usage = usage_of(alice)
    assert (usage.completion_tokens, usage.charged) == (0, PROMPT_MICRO)
    assert (usage.cancelled, usage.estimated) == (True, True)


def test_a_stream_left_before_the_provider_answered_ends_there_and_is_free(gateway, upstream, alice):
    with streamed(gateway, alice, "head_ms=60000"):
        upstream.wait_until(lambda calls: len(calls) == 1)
    assert left(upstream, time.time()).delivered_tokens == 0
    wait_closed(alice)
    assert [(hold.state, hold.charged) for hold in holds(alice)] == [("voided", None)]
    assert wallet(alice) == (1_000_000, 0)


def test_a_whole_answer_is_settled_though_its_client_left(gateway, upstream, alice):
    with open_call(gateway, alice, "first_ms=300"):
        upstream.wait_until(lambda calls: len(calls) == 1)
    [call] = upstream.wait_until(lambda calls: calls[0].is_over)
    assert (call.state, call.disconnected_at) == ("finished", None)
    wait_closed(alice)
    usage = usage_of(alice)
    assert (usage.charged, usage.cancelled, usage.estimated) == (2_400, False, False)


def test_a_client_that_leaves_after_the_answer_pays_the_whole_price(gateway, upstream, alice):
    with streamed(gateway, alice, "") as connection:
        read_until(connection, b"[DONE]")
    wait_closed(alice)
    usage = usage_of(alice)
    assert (usage.charged, usage.cancelled, usage.estimated) == (2_400, False, False)


def test_a_client_that_leaves_while_the_books_are_written_ends_its_call(server_environment, tmp_path, upstream, alice):
    """Many clients go at the finish reason. The call is booked and logged, and nothing of it stays in the server."""
    with start_server(server_environment, tmp_path) as server:
        with transaction.atomic():
            with streamed(server, alice, "first_ms=200") as connection:
                upstream.wait_until(lambda calls: len(calls) == 1)
                Wallet.objects.select_for_update().get(pk=alice.organization_id)  # the settlement has to wait
                read_until(connection, b'"finish_reason":"stop"')
                time.sleep(0.1)
            time.sleep(0.2)
        wait_closed(alice)
        assert log_line(server, alice).endswith("outcome=ok")
        stopping = time.monotonic()
        assert server.stop() == 0
    assert time.monotonic() - stopping < 5
    assert usage_of(alice).charged == 2_400


def test_a_client_that_never_reads_holds_the_provider_back_and_can_leave(gateway, upstream, live_db):
    """No buffer of ours grows without end: the provider waits until the client reads, or leaves."""
    bob = make_tenant(10_000_000)
    answer = {"max_tokens": 32_768, "logprobs": True, "top_logprobs": 20}
    with streamed(gateway, bob, "tokens=32768", **answer):
        [call] = upstream.wait_until(lambda calls: bool(calls) and stands_still(calls[0]), timeout_s=20)
        assert 0 < call.delivered_tokens < 32_768
    left(upstream, time.time())
    wait_closed(bob)
    usage = usage_of(bob)
    assert (usage.cancelled, usage.estimated) == (True, True)


def stands_still(call, time_s=0.5):
    before = call.delivered_tokens
    time.sleep(time_s)
    return call.delivered_tokens == before > 0


def test_many_clients_leave_at_once(gateway, upstream, alice):
    connections = [streamed(gateway, alice, "tokens=2000 delay_ms=20") for _ in range(20)]
    for connection in connections:
        read_until(connection, b'"content":"')
    left_at = time.time()
    for connection in connections:
        connection.close()
    calls = upstream.wait_until(lambda calls: all(call.disconnected_at is not None for call in calls))
    assert max(call.disconnected_at for call in calls) - left_at < 1
    wait_closed(alice)
    assert [hold.state for hold in holds(alice)] == ["settled"] * 20
    assert Usage.objects.filter(wallet_id=alice.organization_id, cancelled=True, estimated=True).count() == 20
    posted, held = wallet(alice)
    assert (posted, held) == (1_000_000 - sum(hold.charged for hold in holds(alice)), 0)
    assert ask(gateway, alice).status == 200
