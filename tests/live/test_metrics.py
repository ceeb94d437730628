"""/metrics over a socket: what calls leave there, summed over processes, and who may look."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing.models import Usage
from billing.oversight import heartbeats, verifier
from billing.usage import partitions, rollups
from quantized.metrics import refusal_status
from tests.kit import MODEL
from tests.kit.calls import PATH, chat
from tests.kit.live import Server, start_server
from tests.kit.tenants import Tenant, make_tenant

Lines = dict[tuple[str, frozenset[tuple[str, str]]], float]
PATIENCE_S = 10.0


def scrape(server: Server, **headers: str) -> Lines:
    response = httpx.get(f"{server.origin}/metrics", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(lines: Lines, name: str, **labels: str) -> float:
    return lines.get((name, frozenset(labels.items())), 0.0)


def total(lines: Lines, name: str) -> float:
    return sum(number for (found, _), number in lines.items() if found == name)


def call(server: Server, tenant: Tenant, **given: Any) -> httpx.Response:
    return httpx.post(f"{server.base_url}/chat/completions", headers=tenant.headers, json=chat(**given), timeout=30)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture
def pair(server_environment: dict[str, str], shared_servers: dict[str, Server], directory: Path) -> Server:
    """One server of two worker processes, for all tests of this file that do not kill any."""
    if "pair" not in shared_servers:
        server = Server({**server_environment, "TMPDIR": str(directory)}, directory / "pair.log", "--workers", "2")
        server.wait_ready()
        shared_servers["pair"] = server
    return shared_servers["pair"]


def eventually(server: Server, name: str, expected: float, **labels: str) -> Lines:
    return once(server, lambda lines: value(lines, name, **labels) == expected)


def once(server: Server, is_there: Callable[[Lines], bool]) -> Lines:
    """The other process tells its counts within a second or so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_there(lines := scrape(server)):
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)
    return lines


def test_every_call_is_counted_once_whichever_process_served_it(pair: Server, alice: Tenant) -> None:
    before = scrape(pair)
    answered = [call(pair, alice) for _ in range(20)]
    assert {response.status_code for response in answered} == {200}
    streamed = call(pair, alice, stream=True)
    assert streamed.status_code == 200
    refused = call(pair, make_tenant(credits_micro=1))
    assert refused.status_code == 402
    labels = {"provider": "openrouter", "model": MODEL}
    answers = total(before, "quantized_http_answers_total") + 22
    lines = once(pair, lambda lines: total(lines, "quantized_http_answers_total") == answers)

    def grown(name: str, **labels: str) -> float:
        return value(lines, name, **labels) - value(before, name, **labels)

    used = Usage.objects.filter(wallet_id=alice.organization_id)
    assert grown("quantized_calls_total", outcome="ok", endpoint=PATH, **labels) == 21
    assert grown("quantized_charged_microcredits_total", **labels) == sum(row.charged for row in used)
    assert grown("quantized_tokens_total", kind="prompt", **labels) == sum(row.prompt_tokens for row in used)
    assert grown("quantized_tokens_total", kind="completion", **labels) == sum(row.completion_tokens for row in used)
    assert grown("quantized_http_answers_total", endpoint=PATH, status="200") == 21
    assert grown("quantized_http_answers_total", endpoint=PATH, status="402") == 1
    assert grown("quantized_attempts_total", provider="openrouter", outcome="ok") == 21
    for histogram in ("quantized_call_seconds", "quantized_first_token_seconds"):
        assert grown(f"{histogram}_count", provider="openrouter") == 21
        assert grown(f"{histogram}_bucket", provider="openrouter", le="+Inf") == 21
    assert grown("quantized_ledger_batch_size_sum") >= 3 * 21, "a hold, a mark and a settlement each"
    assert grown("quantized_ledger_commit_seconds_count") > 0
    assert value(lines, "quantized_processes") == 2
    assert value(lines, "quantized_open_streams") == value(lines, "quantized_open_calls") == 0
    assert value(lines, "quantized_circuits_open", provider="openrouter") == 0
    assert not any("wallet" in str(line) or str(alice.organization_id) in str(line) for line in lines)


def test_the_books_are_in_it(pair: Server, alice: Tenant) -> None:
    rollups.roll_up()
    partitions.ensure_ahead()
    verifier.run()
    heartbeats.succeeded("billing.tasks.roll_up", 120)
    heartbeats.failed("completions.tasks.reconcile", ValueError("never told"))
    lines = eventually(pair, "quantized_task_seconds", 0.12, task="billing.tasks.roll_up")
    assert value(lines, "quantized_database_up") == 1
    assert value(lines, "quantized_verifier_violations", kind="complete") == 0
    assert 0 <= value(lines, "quantized_verifier_age_seconds", kind="complete") < 600
    assert value(lines, "quantized_verifier_failed", kind="complete") == 0
    assert 100 <= value(lines, "quantized_rollup_lag_seconds") < 600
    assert value(lines, "quantized_usage_months_ahead") >= 3
    assert ("quantized_task_failure_age_seconds", frozenset({("task", "completions.tasks.reconcile")})) in lines
    names = {name for name, _ in lines}
    assert {
        "quantized_holds_open",
        "quantized_hold_oldest_seconds",
        "quantized_loss_microcredits",
        "quantized_spool_files",
        "quantized_usage_default_rows",
    } <= names
    for state in ("pending", "queued", "gave_up"):
        assert ("quantized_reconciliation_calls", frozenset({("state", state)})) in lines


@pytest.fixture
def mortal(server_environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    with start_server({**server_environment, "TMPDIR": str(tmp_path)}, tmp_path, "--workers", "2") as server:
        yield server


def test_a_dead_process_leaves_its_counts_and_takes_its_gauges(mortal: Server, alice: Tenant, tmp_path: Path) -> None:
    for _ in range(10):
        assert call(mortal, alice).status_code == 200
    labels = {"provider": "openrouter", "model": MODEL, "outcome": "ok"}
    eventually(mortal, "quantized_calls_total", 10, endpoint=PATH, **labels)
    eventually(mortal, "quantized_processes", 2)
    time.sleep(2)  # both have written down what they counted
    [shared] = tmp_path.glob("quantized-metrics-*")
    [first, _] = sorted(shared.glob("*.lock"))
    os.kill(int(first.name.split("-")[0]), signal.SIGKILL)
    eventually(mortal, "quantized_processes", 1)
    lines = eventually(mortal, "quantized_processes", 2)  # the supervisor has started another one
    assert value(lines, "quantized_calls_total", endpoint=PATH, **labels) == 10
    mortal.stop()
    assert list(tmp_path.glob("quantized-metrics-*")) == []


# --- Who may look ---------------------------------------------------------------------------------


def test_without_a_token_only_this_machine_sees_it_and_no_proxy_on_it(pair: Server) -> None:
    assert httpx.get(f"{pair.origin}/metrics").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded"):
        refused = httpx.get(f"{pair.origin}/metrics", headers={header: "203.0.113.7"})
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("client", "headers", "token", "status"),
    [
        (("127.0.0.1", 4), {}, "", None),
        (("::1", 4), {}, "", None),
        (("10.0.0.7", 4), {}, "", 404),
        (None, {}, "", 404),
        (("127.0.0.1", 4), {b"x-forwarded-for": b"127.0.0.1"}, "", 404),
        (("10.0.0.7", 4), {b"authorization": b"Bearer open sesame"}, "", 404),
        (("10.0.0.7", 4), {b"authorization": b"Bearer open sesame"}, "open sesame", None),
        (("10.0.0.7", 4), {b"authorization": b"Bearer open sesam"}, "open sesame", 401),
        (("127.0.0.1", 4), {}, "open sesame", 401),
        (("127.0.0.1", 4), {b"authorization": b"Bearer "}, "open sesame", 401),
    ],
)
def test_who_may_look(client: Any, headers: dict[bytes, bytes], token: str, status: int | None) -> None:
    assert refusal_status(client, headers, token) == status


def test_with_a_token_it_is_asked_for(server_environment: dict[str, str], tmp_path: Path) -> None:
    with start_server({**server_environment, "METRICS_TOKEN": "a long secret"}, tmp_path) as server:
        refused = httpx.get(f"{server.origin}/metrics")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_token")
        lines = scrape(server, Authorization="Bearer a long secret")
        assert value(lines, "quantized_processes") == 1
