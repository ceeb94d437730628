"""PostgreSQL away: no provider is called, everything says so, all comes back by itself. Redis away: nobody minds."""

import os
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from accounts import keys
from tests.kit.calls import (
    CHARGE_MICRO,
    ask,
    assert_error,
    call,
    chat,
    holds,
    open_call,
    post,
    read_answers,
    read_until,
    stream,
    usage_of,
    wallet,
)
from tests.kit.live import start_server
from tests.kit.tenants import wait_closed

AWAY = (503, "provider_unavailable", "service_unavailable", None, "The service is unavailable. Nothing was charged.")


@contextmanager
def database_away():
    """Nobody is connected to the test database and nobody can connect, ourselves included."""
    name = connection.settings_dict["NAME"]
    connection.close()
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path="/postgres").geturl()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@pytest.fixture
def upstream(sandbox):
    sandbox.reset()
    return sandbox


def health(server):
    return call(server, "GET", "/healthz").status, call(server, "GET", "/readyz").status


def wait_back(server):
    deadline = time.monotonic() + 10
    while health(server) != (200, 200):
        assert time.monotonic() < deadline, "the server did not come back"
        time.sleep(0.05)


def test_without_the_database_no_provider_is_called_and_it_comes_back_without_a_restart(
    server_environment, tmp_path, upstream, alice
):
    with start_server(server_environment, tmp_path) as server:
        assert ask(server, alice).status == 200
        with database_away():
            for answer in (ask(server, alice), stream(server, alice)):
                assert_error(answer, *AWAY)
                assert answer.headers["retry-after"] == "1"
            for path in ("/v1/credits", "/v1/key", "/v1/models", "/v1/generation?id=gen-0"):
                answer = call(server, "GET", path, alice.headers)
                assert_error(answer, *AWAY)
                assert answer.headers["retry-after"] == "1"
            assert health(server) == (200, 503)
            checks = call(server, "GET", "/readyz").json["checks"]
            assert (checks["database"], checks["provider"]) == (False, True)
        wait_back(server)
        assert upstream.counters["received"] == 1
        assert ask(server, alice).usage["credits_remaining"] == 1_000_000 - 2 * CHARGE_MICRO
        assert [hold.state for hold in holds(alice)] == ["settled", "settled"]


def test_a_key_that_cannot_be_one_is_told_so_also_without_the_database(gateway, upstream, alice):
    with database_away():
        for headers in ({}, {"authorization": "Bearer sk-quantized-x"}):
            assert_error(post(gateway, None, chat(), headers), 401, "authentication_error", "invalid_api_key")
        answer = post(gateway, None, chat(), {"authorization": f"Bearer {keys.mint()}"})
        assert_error(answer, *AWAY)
    wait_back(gateway)


def test_a_call_under_way_is_settled_when_the_database_is_back(gateway, upstream, alice):
    """Its answer waits: what it cost must be certain before the client is told."""
    with open_call(gateway, alice, "first_ms=300") as connection:
        upstream.wait_until(lambda calls: len(calls) == 1)
        with database_away():
            upstream.wait_until(lambda calls: calls[0].is_over)
            time.sleep(0.3)
        [answer] = read_answers(connection, 1)
    assert answer.usage["credits_used"] == CHARGE_MICRO
    wait_closed(alice)
    assert usage_of(alice).charged == CHARGE_MICRO
    assert wallet(alice) == (1_000_000 - CHARGE_MICRO, 0)
    wait_back(gateway)


def test_a_stream_under_way_is_settled_when_the_database_is_back(gateway, upstream, alice):
    """All of its words come; what it cost is said when it is certain."""
    usage_please = {"stream": True, "stream_options": {"include_usage": True}}
    with open_call(gateway, alice, "first_ms=300", **usage_please) as connection:
        upstream.wait_until(lambda calls: len(calls) == 1)
        with database_away():
            said = read_until(connection, b'"finish_reason":"stop"')
            assert b"credits_used" not in said
            time.sleep(0.3)
        said += read_until(connection, b"[DONE]")
    assert b'"credits_used":%d' % CHARGE_MICRO in said
    wait_closed(alice)
    assert usage_of(alice).charged == CHARGE_MICRO
    assert wallet(alice) == (1_000_000 - CHARGE_MICRO, 0)
    wait_back(gateway)


def test_a_connection_that_is_lost_while_nobody_calls_is_made_anew(gateway, upstream, alice):
    assert ask(gateway, alice).status == 200
    with database_away():
        pass
    answer = ask(gateway, alice)
    assert (answer.status, answer.usage["credits_remaining"]) == (200, 1_000_000 - 2 * CHARGE_MICRO)
    wait_back(gateway)


def test_without_redis_completions_go_on(server_environment, tmp_path, upstream, alice):
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0"}
    with start_server({**server_environment, **nowhere}, tmp_path) as server:
        assert health(server) == (200, 200)
        assert ask(server, alice).usage["credits_used"] == CHARGE_MICRO
        assert stream(server, alice).events[-1] == "[DONE]"
