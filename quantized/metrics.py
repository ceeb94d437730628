"""/metrics: what this server's processes count, and what the books say, as Prometheus reads it.

Counting is plain arithmetic in each process (completions/calls/metrics.py, billing/ledger/writer.py). Processes that
share a port share a directory, which `serve` makes and removes: each keeps its counts there in a file of its own,
written anew every second, and whichever is asked adds them up. A process that died leaves its counts, so that no sum
goes down, and takes its gauges along: its file's lock is free. Figures of the books are one statement, at most every
few seconds.
"""

import asyncio
import fcntl
import hmac
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from billing.ledger.writer import Writer
from common.histogram import Histogram
from common.postgres import DatabaseUnavailable
from completions.calls.gateway import Gateway
from completions.calls.metrics import CallMetrics
from quantized.database import Reader

SHARE_EVERY_S = 1.0
BOOKS_LIFE_S = 5.0
CONTENT_TYPE = CONTENT_TYPE_LATEST
LOOPBACK = ("127.0.0.1", "::1")

Labels = tuple[str, ...]


class Family(msgspec.Struct, frozen=True):
    """`live`: a gauge of a process, added up over those that are alive."""

    kind: Literal["counter", "histogram", "live", "books"]
    labels: Labels
    help: str


FAMILIES = {
    "quantized_http_answers": Family("counter", ("endpoint", "status"), "Answers of the model API by HTTP status"),
    "quantized_calls": Family("counter", ("provider", "model", "outcome", "endpoint"), "Calls that ended, by how"),
    "quantized_attempts": Family("counter", ("provider", "outcome"), "Times a provider was asked, or spared"),
    "quantized_failovers": Family("counter", ("provider", "outcome"), "Times a call left a provider for the next one"),
    "quantized_tokens": Family("counter", ("provider", "model", "kind"), "Tokens of calls that were charged"),
    "quantized_charged_microcredits": Family("counter", ("provider", "model"), "Micro-credits charged for calls"),
    "quantized_call_seconds": Family("histogram", ("provider",), "From a call's hold to its settlement"),
    "quantized_first_token_seconds": Family("histogram", ("provider",), "From a call's hold to its first output"),
    "quantized_ledger_batch_size": Family("histogram", (), "Ledger commands per transaction"),
    "quantized_ledger_commit_seconds": Family("histogram", (), "Duration of a ledger transaction"),
    "quantized_processes": Family("live", (), "Server processes that are alive"),
    "quantized_open_calls": Family("live", (), "Calls that are running"),
    "quantized_open_streams": Family("live", (), "Streams that are open"),
    "quantized_ledger_queue_length": Family("live", (), "Ledger commands that wait"),
    "quantized_circuits_open": Family("live", ("provider",), "Processes that leave this provider alone for now"),
    "quantized_spool_files": Family("books", (), "Files of settlements that wait for the next start"),
    "quantized_database_up": Family("books", (), "1 if the database answered, and what follows is there"),
    "quantized_holds_open": Family("books", (), "Holds that are open"),
    "quantized_hold_oldest_seconds": Family("books", (), "Age of the oldest open hold"),
    "quantized_loss_microcredits": Family("books", (), "What wallets could not pay of their calls, in all"),
    "quantized_reconciliation_calls": Family("books", ("state",), "Calls by state of reconciliation, of open ones"),
    "quantized_verifier_violations": Family("books", ("kind",), "Violations that the last run found"),
    "quantized_verifier_failed": Family("books", ("kind",), "1 if the last run could not end"),
    "quantized_verifier_age_seconds": Family("books", ("kind",), "Since the last run began"),
    "quantized_verifier_run_seconds": Family("books", ("kind",), "How long the last run took"),
    "quantized_rollup_lag_seconds": Family("books", (), "Age of the newest call that roll-ups are sure to have"),
    "quantized_usage_default_rows": Family("books", (), "Usage rows that are in no month's partition, up to 10000"),
    "quantized_usage_months_ahead": Family("books", (), "Partitions of usage for months to come"),
    "quantized_task_success_age_seconds": Family("books", ("task",), "Since the periodic task last succeeded"),
    "quantized_task_failure_age_seconds": Family("books", ("task",), "Since the periodic task last failed"),
    "quantized_task_seconds": Family("books", ("task",), "How long its last success took"),
}

BOOKS = """
SELECT (SELECT count(*) FROM billing_hold WHERE state = 'open'),
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
        FROM billing_hold WHERE state = 'open'),
       (SELECT coalesce(sum(actual - charged), 0)::bigint FROM billing_hold WHERE actual > charged),
       (SELECT count(*) FROM billing_usage WHERE reconciliation = 'pending'),
       (SELECT count(*) FROM billing_usage WHERE reconciliation = 'queued'),
       (SELECT count(*) FROM billing_usage WHERE reconciliation = 'gave_up'),
       (SELECT json_agg(v) FROM unnest(ARRAY['complete', 'incremental']) AS kinds(kind), LATERAL (
            SELECT r.kind, r.violations, (r.error <> '')::int AS failed,
                   extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age_s,
                   extract(epoch FROM r.finished_at - r.started_at)::float8 AS run_s
            FROM billing_verifierrun r WHERE r.kind = kinds.kind ORDER BY r.started_at DESC LIMIT 1) v),
       (SELECT extract(epoch FROM clock_timestamp() - through)::float8 FROM billing_rollupstate WHERE id = 1),
       (SELECT count(*) FROM (SELECT FROM billing_usage_default LIMIT 10000) AS astray),
       (SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'billing_usage'::regclass
          AND c.relname > to_char(clock_timestamp() AT TIME ZONE 'UTC', '"billing_usage_"YYYY_MM')
          AND c.relname <> 'billing_usage_default'),
       (SELECT json_agg(json_build_array(task, extract(epoch FROM clock_timestamp() - succeeded_at)::float8,
                                         extract(epoch FROM clock_timestamp() - failed_at)::float8, duration_ms))
        FROM billing_heartbeat)
"""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: Labels
    value: float


class Distribution(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: Labels
    bounds: list[float]
    counts: list[int]
    total: float


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """All that one process tells the others."""

    counters: list[Sample]
    histograms: list[Distribution]
    gauges: list[Sample]


class Metrics:
    def __init__(self, gateway: Gateway, writer: Writer, reader: Reader, spool_dir: Path, directory: str) -> None:
        self._gateway = gateway
        self._writer = writer
        self._reader = reader
        self._spool_dir = spool_dir
        self._shared = SharedCounts(Path(directory)) if directory else None
        self._books: list[Sample] = []
        self._books_read_s = float("-inf")
        self._reading = asyncio.Lock()

    async def page(self) -> bytes:
        own = counts_of(self._gateway, self._writer)
        others = await asyncio.to_thread(self._shared.others) if self._shared else []
        books = await self._current_books()
        return await asyncio.to_thread(exposition, [own, *others], books)

    async def share(self) -> None:
        if self._shared:
            await asyncio.to_thread(self._shared.write, counts_of(self._gateway, self._writer))

    async def close(self) -> None:
        """The last counts stay for those who go on."""
        if self._shared:
            await self.share()
            self._shared.close()

    async def _current_books(self) -> list[Sample]:
        """However many ask at once, the database is asked by one, and then not for a while."""
        async with self._reading:
            if time.monotonic() - self._books_read_s >= BOOKS_LIFE_S:
                self._books = await self._read_books()
                self._books_read_s = time.monotonic()
            return self._books

    async def _read_books(self) -> list[Sample]:
        spooled = sum(1 for _ in self._spool_dir.glob("*.jsonl"))
        try:
            row = await self._reader.fetch_one(BOOKS, ())
        except DatabaseUnavailable:
            row = None
        figures = list(book_samples(*row)) if row else []
        up = Sample("quantized_database_up", (), int(row is not None))
        return [Sample("quantized_spool_files", (), spooled), up, *figures]


class SharedCounts:
    """The processes' files in one directory. A live process holds the lock on its own."""

    def __init__(self, directory: Path) -> None:
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._directory = directory
        self._counts = directory / f"{name}.counts"
        self._lock = (directory / f"{name}.lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self, counts: Counts) -> None:
        partial = self._counts.with_suffix(".partial")
        partial.write_bytes(msgspec.msgpack.encode(counts))
        partial.replace(self._counts)

    def others(self) -> list[Counts]:
        found = []
        for path in self._directory.glob("*.counts"):
            if path != self._counts:
                counts = msgspec.msgpack.decode(path.read_bytes(), type=Counts)
                alive = is_locked(path.with_suffix(".lock"))
                found.append(counts if alive else msgspec.structs.replace(counts, gauges=[]))
        return found

    def close(self) -> None:
        self._lock.close()


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


# --- One process's counts ---------------------------------------------------------------------------


def counts_of(gateway: Gateway, writer: Writer) -> Counts:
    calls = gateway.metrics
    answers = {(endpoint, str(status)): count for (endpoint, status), count in calls.answers.items()}
    counters: dict[str, Mapping[Any, int]] = {
        "quantized_http_answers": answers,
        "quantized_calls": {key: series.calls for key, series in calls.calls.items()},
        "quantized_attempts": calls.attempts,
        "quantized_failovers": calls.failovers,
        "quantized_tokens": tokens_of(calls),
        "quantized_charged_microcredits": charged_by(calls),
    }
    histograms: list[tuple[str, Labels, Histogram]] = [
        ("quantized_ledger_batch_size", (), writer.batch_sizes),
        ("quantized_ledger_commit_seconds", (), writer.commit_seconds),
        *(("quantized_call_seconds", (provider,), found) for provider, found in calls.seconds.items()),
        *(("quantized_first_token_seconds", (provider,), found) for provider, found in calls.first_token.items()),
    ]
    gauges = [
        Sample("quantized_processes", (), 1),
        Sample("quantized_open_calls", (), gateway.running),
        Sample("quantized_open_streams", (), calls.open_streams),
        Sample("quantized_ledger_queue_length", (), writer.queue_length),
        *(Sample("quantized_circuits_open", (name,), int(is_open)) for name, is_open in open_circuits(gateway).items()),
    ]
    return Counts(
        [Sample(name, labels, value) for name, found in counters.items() for labels, value in found.items()],
        [Distribution(name, labels, list(h.bounds), list(h.counts), h.total) for name, labels, h in histograms],
        gauges,
    )


def charged_by(calls: CallMetrics) -> Counter[Labels]:
    """By provider and model."""
    charged: Counter[Labels] = Counter()
    for (provider, model, *_), series in calls.calls.items():
        charged[provider, model] += series.charged_micro
    return charged


def tokens_of(calls: CallMetrics) -> Counter[Labels]:
    """By provider, model and kind."""
    tokens: Counter[Labels] = Counter()
    for (provider, model, *_), series in calls.calls.items():
        tokens[provider, model, "prompt"] += series.prompt_tokens
        tokens[provider, model, "cached"] += series.cached_tokens
        tokens[provider, model, "completion"] += series.completion_tokens
        tokens[provider, model, "reasoning"] += series.reasoning_tokens
    return tokens


def open_circuits(gateway: Gateway) -> dict[str, bool]:
    """Of every provider that is served, closed ones too: a line that goes away cannot be told from one that is fine."""
    routes = [route for model in gateway.terms.catalog.models.values() for route in model.routes]
    names = {route.provider.name for route in routes}
    return {name: gateway.circuits.state(name) != "closed" for name in sorted(names)}


# --- The books' figures -----------------------------------------------------------------------------


def book_samples(
    holds: int,
    oldest_s: float,
    loss_micro: int,
    pending: int,
    queued: int,
    gave_up: int,
    runs: list[dict[str, Any]] | None,
    lag_s: float | None,
    astray: int,
    months_ahead: int,
    heartbeats: list[tuple[str, float | None, float | None, int]] | None,
) -> Iterator[Sample]:
    """The columns of BOOKS. What has never happened has no line."""
    yield Sample("quantized_holds_open", (), holds)
    yield Sample("quantized_hold_oldest_seconds", (), oldest_s)
    yield Sample("quantized_loss_microcredits", (), loss_micro)
    for state, calls in (("pending", pending), ("queued", queued), ("gave_up", gave_up)):
        yield Sample("quantized_reconciliation_calls", (state,), calls)
    for run in runs or ():
        kind = (run["kind"],)
        yield Sample("quantized_verifier_violations", kind, run["violations"])
        yield Sample("quantized_verifier_failed", kind, run["failed"])
        yield Sample("quantized_verifier_age_seconds", kind, run["age_s"])
        yield Sample("quantized_verifier_run_seconds", kind, run["run_s"])
    if lag_s is not None:
        yield Sample("quantized_rollup_lag_seconds", (), lag_s)
    yield Sample("quantized_usage_default_rows", (), astray)
    yield Sample("quantized_usage_months_ahead", (), months_ahead)
    for task, success_age_s, failure_age_s, duration_ms in heartbeats or ():
        if success_age_s is not None:
            yield Sample("quantized_task_success_age_seconds", (task,), success_age_s)
            yield Sample("quantized_task_seconds", (task,), duration_ms / 1000)
        if failure_age_s is not None:
            yield Sample("quantized_task_failure_age_seconds", (task,), failure_age_s)


# --- The text ---------------------------------------------------------------------------------------


class FamilyCollector:
    """What prometheus_client asks of a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(processes: list[Counts], books: list[Sample]) -> bytes:
    counters = summed(sample for counts in processes for sample in counts.counters)
    gauges = summed(sample for counts in processes for sample in counts.gauges)
    gauges |= summed(books)
    histograms = merged(found for counts in processes for found in counts.histograms)
    families = [family_of(name, family, counters | gauges, histograms) for name, family in FAMILIES.items()]
    return generate_latest(FamilyCollector(families))


def summed(samples: Iterable[Sample]) -> dict[str, dict[Labels, float]]:
    found: dict[str, dict[Labels, float]] = {}
    for sample in samples:
        values = found.setdefault(sample.name, {})
        values[sample.labels] = values.get(sample.labels, 0) + sample.value
    return found


def merged(distributions: Iterable[Distribution]) -> dict[str, dict[Labels, Histogram]]:
    found: dict[str, dict[Labels, Histogram]] = {}
    for one in distributions:
        whole = found.setdefault(one.name, {}).setdefault(one.labels, Histogram(one.bounds))
        whole.counts = [count + more for count, more in zip(whole.counts, one.counts, strict=True)]
        whole.total += one.total
    return found


def family_of(
    name: str,
    family: Family,
    values: Mapping[str, Mapping[Labels, float]],
    histograms: Mapping[str, Mapping[Labels, Histogram]],
) -> Metric:
    if family.kind == "histogram":
        described = HistogramMetricFamily(name, family.help, labels=family.labels)
        for labels, histogram in sorted(histograms.get(name, {}).items()):
            described.add_metric(labels, buckets(histogram), histogram.total)
        return described
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    told = kind(name, family.help, labels=family.labels)
    for labels, value in sorted(values.get(name, {}).items()):
        told.add_metric(labels, value)
    return told


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus's are cumulative."""
    found, so_far = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        so_far += count
        found.append(("+Inf" if bound == float("inf") else str(float(bound)), float(so_far)))
    return found


# --- Who may look -----------------------------------------------------------------------------------


def refusal_status(client: tuple[str, int] | None, headers: Mapping[bytes, bytes], token: str) -> int | None:
    """None lets in: whoever shows the token; without one set, only a client on this machine that came directly, not
    through a proxy that runs here. To others there is nothing."""
    if token:
        given = headers.get(b"authorization", b"")
        return None if hmac.compare_digest(given, b"Bearer " + token.encode()) else 401
    is_direct = b"x-forwarded-for" not in headers and b"forwarded" not in headers
    return None if client is not None and client[0] in LOOPBACK and is_direct else 404
