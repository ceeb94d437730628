"""What a process counts of a call, and how the processes' counts are added up: no server, no socket."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing.ledger.commands import Attempt, Receipt, Settle, Settled, Void
from billing.pricing.money import Usage
from common.histogram import Histogram
from completions.calls.call import Call
from completions.calls.metrics import CallMetrics
from quantized.metrics import (
    FAMILIES,
    Counts,
    Distribution,
    Sample,
    SharedCounts,
    book_samples,
    charged_by,
    exposition,
    tokens_of,
)

ASK = SimpleNamespace(endpoint="/v1/chat/completions")
USED = Usage(prompt_tokens=100, cached_tokens=7, completion_tokens=20, reasoning_tokens=3)


def call(*attempts: tuple[str, str], outcome: str = "", provider: str = "sandbox", **given: Any) -> Call:
    tried = [Attempt(name, how, 1) for name, how in attempts]
    route = SimpleNamespace(provider=SimpleNamespace(name=provider), model="echo")
    named = {"elapsed_ms": 800, "first_token_ms": 300} | given
    return cast(Call, SimpleNamespace(ask=ASK, route=route, outcome=outcome, attempts=tried, **named))


def settle(charged: int) -> tuple[Settle, Settled]:
    receipt = Receipt(model="echo", provider="sandbox", price_id=1, usage=USED)
    command = Settle(wallet_id=uuid4(), hold_id=uuid4(), key_id=None, actual=charged, receipt=receipt)
    return command, Settled(charged=charged, remaining=0)


def void() -> tuple[Void, None]:
    return Void(wallet_id=uuid4(), hold_id=uuid4(), key_id=None), None


def lines(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and the labels' values, in the order of the labels' names."""
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples]
    return {(s.name, tuple(value for _, value in sorted(s.labels.items()))): s.value for s in samples}


def test_a_call_is_counted_with_its_tokens_and_credits() -> None:
    metrics = CallMetrics()
    metrics.ended(call(("sandbox", "ok")), *settle(50))
    metrics.ended(call(("sandbox", "ok"), outcome="client_disconnected"), *settle(7))
    metrics.ended(call(("sandbox", "unavailable"), outcome="unavailable", first_token_ms=None), *void())
    counted = {key: series.calls for key, series in metrics.calls.items()}
    assert counted == {
        ("sandbox", "echo", how, ASK.endpoint): 1 for how in ("ok", "client_disconnected", "unavailable")
    }
    assert charged_by(metrics) == {("sandbox", "echo"): 57}
    kinds = {"prompt": 200, "cached": 14, "completion": 40, "reasoning": 6}
    assert tokens_of(metrics) == {("sandbox", "echo", kind): number for kind, number in kinds.items()}
    assert (sum(metrics.seconds["sandbox"].counts), metrics.seconds["sandbox"].total) == (3, pytest.approx(2.4))
    assert (sum(metrics.first_token["sandbox"].counts), metrics.first_token["sandbox"].total) == (2, pytest.approx(0.6))


def test_a_provider_that_was_left_for_the_next_one_is_a_failover() -> None:
    metrics = CallMetrics()
    metrics.ended(call(("shaky", "unavailable"), ("sandbox", "ok")), *settle(1))
    metrics.ended(call(("shaky", "circuit_open"), ("sandbox", "unavailable"), outcome="unavailable"), *void())
    assert metrics.failovers == {("shaky", "unavailable"): 1, ("shaky", "circuit_open"): 1}
    assert metrics.attempts == metrics.failovers | {("sandbox", "ok"): 1, ("sandbox", "unavailable"): 1}


def test_an_observation_at_a_bound_is_within_it() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 8.0)


# --- Several processes ----------------------------------------------------------------------------


def counts(calls: int, streams: int, buckets: list[int]) -> Counts:
    return Counts(
        [Sample("quantized_calls", ("sandbox", "echo", "ok", ASK.endpoint), calls)],
        [Distribution("quantized_call_seconds", ("sandbox",), [0.1, 1.0], buckets, 2.5)],
        [Sample("quantized_open_streams", (), streams), Sample("quantized_processes", (), 1)],
    )


def test_processes_are_added_up() -> None:
    found = lines(exposition([counts(3, 1, [1, 1, 1]), counts(4, 2, [2, 0, 2])], []))
    assert found["quantized_calls_total", (ASK.endpoint, "echo", "ok", "sandbox")] == 7
    assert found["quantized_open_streams", ()] == 3
    assert found["quantized_processes", ()] == 2
    bucket = "quantized_call_seconds_bucket"
    cumulative = [found[bucket, (bound, "sandbox")] for bound in ("0.1", "1.0", "+Inf")]
    assert cumulative == [3, 4, 7]
    assert found["quantized_call_seconds_sum", ("sandbox",)] == 5.0


def test_a_process_that_lives_is_counted_whole_and_a_dead_one_without_its_gauges(tmp_path: Path) -> None:
    ours, theirs = SharedCounts(tmp_path), SharedCounts(tmp_path)
    ours.write(counts(1, 1, [1, 0, 0]))
    theirs.write(counts(4, 2, [1, 2, 3]))
    assert ours.others() == [counts(4, 2, [1, 2, 3])]
    theirs.close()
    assert ours.others() == [Counts(counts(4, 2, []).counters, counts(4, 2, [1, 2, 3]).histograms, [])]
    assert ours.others() == ours.others(), "looking does not lock"
    ours.close()


def test_what_has_not_happened_has_no_line_and_what_has_not_failed_no_age() -> None:
    samples = list(book_samples(0, 0.0, 0, 0, 0, 0, None, None, 0, 3, [("sweep", 1.5, None, 40)]))
    found = lines(exposition([], samples))
    assert not any(name.startswith(("quantized_verifier", "quantized_rollup")) for name, _ in found)
    assert found["quantized_task_success_age_seconds", ("sweep",)] == 1.5
    assert found["quantized_task_seconds", ("sweep",)] == 0.04
    assert ("quantized_task_failure_age_seconds", ("sweep",)) not in found


def test_every_figure_is_one_that_is_described() -> None:
    run = {"kind": "complete", "violations": 2, "failed": 0, "age_s": 1.0, "run_s": 2.0}
    samples = list(book_samples(1, 2.0, 3, 4, 5, 6, [run], 7.0, 8, 9, [("sweep", 1.0, 2.0, 3)]))
    described = {name for name, family in FAMILIES.items() if family.kind == "books"}
    assert {sample.name for sample in samples} == described - {"quantized_spool_files", "quantized_database_up"}
    assert all(len(sample.labels) == len(FAMILIES[sample.name].labels) for sample in samples)


def test_a_label_is_escaped() -> None:
    odd = Counts([Sample("quantized_calls", ('a"b', "c\\d\ne", "ok", ASK.endpoint), 1)], [], [])
    assert lines(exposition([odd], []))["quantized_calls_total", (ASK.endpoint, "c\\d\ne", "ok", 'a"b')] == 1
