"""`make bench-streams`: what a relayed chunk costs, when the first one comes, many slow streams at once, and clients
who leave.

A relay's cost is the slope between long and short streams, so that what a call costs once (the hold, the head) is
not in it. The event loop's lag is seen from outside: `/healthz` is answered by the same loop, and asks nobody.
"""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psycopg
import uvloop

from benchmarks import load, usage
from benchmarks.contenders import PATH, STREAM_BODY, ours, passthrough
from benchmarks.report import Goal, Report, figure, medians, number, say
from benchmarks.stack import CLAUDE, MODEL, Server, Stack, Tenant, running_stack

STREAMS_AT_ONCE = 32
CHUNKS_SHORT, CHUNKS_LONG, PAUSE_MS = 20, 320, 5
STEADY_PER_S = 50
OPEN_STREAMS, SLOW_PAUSE_MS, SLOW_CHUNKS, OPENED_PER_S = 2_000, 1_000, 25, 200
LEAVING = 500
PROBE_EVERY_S = 0.02
RESOLVED_WITHIN_S = 30.0
OPEN_HOLDS = "SELECT count(*) FROM billing_hold WHERE state = 'open'"

Figures = dict[str, float]


class Way(NamedTuple):
    """A way for a stream to our client: `request(told)` asks for one as the upstream is told to write it."""

    server: Server
    request: Callable[[str], load.Request]


def main() -> None:
    rounds, seconds = number("ROUNDS", 5), number("SECONDS", 3)
    load.raise_open_files_limit()
    report = Report("streams", "Streams")
    with running_stack("streams") as stack:
        stack.prepare()
        tenant = stack.open_tenant()
        ways = {
            "OpenRouter, passed through": our_way(stack, tenant, MODEL),
            "Anthropic, translated": our_way(stack, tenant, CLAUDE, ("x-quantized-provider", "anthropic")),
            "limit: ASGI pass-through": bare_way(stack),
        }
        found: dict[str, list[Figures]] = {name: [] for name in ways}
        for each in range(1, rounds + 1):
            say(f"round {each}")
            direct = first_bytes(direct_way(stack), seconds)
            for name, way in ways.items():
                added = {key: ms - direct[key] for key, ms in first_bytes(way, seconds).items()}
                found[name].append(relay_cost(stack, way) | added)
        many = many_streams(stack, tenant)
        left = leaving_clients(stack, tenant)
        books = stack.manage_json("verifyledger")
        postgres = stack.postgres_facts()
    write(report, {name: medians(of) for name, of in found.items()}, many, left, postgres)
    say(f"The books verify: {books['entries']} entries, {len(books['violations'])} violations.")


# --- the ways -----------------------------------------------------------------------------------


def told(body: bytes, words: str) -> bytes:
    return body.replace(b"What is the capital of France?", words.encode())


def our_way(stack: Stack, tenant: Tenant, model: str, *headers: tuple[str, str]) -> Way:
    server = ours(stack, [tenant], 1).server
    body = STREAM_BODY.replace(MODEL.encode(), model.encode())
    return Way(server, lambda words: streamed(server.port, told(body, words), *tenant.headers, *headers))


def streamed(port: int, body: bytes, *headers: tuple[str, str]) -> load.Request:
    return load.post(port, PATH, headers, body, b"[DONE]")


def bare_way(stack: Stack) -> Way:
    server = passthrough(stack).server
    return Way(server, lambda words: streamed(server.port, told(STREAM_BODY, words)))


def direct_way(stack: Stack) -> Way:
    return Way(stack.upstream, lambda words: streamed(stack.upstream.port, told(STREAM_BODY, words)))


# --- a chunk, and the first byte ----------------------------------------------------------------


def relay_cost(stack: Stack, way: Way) -> Figures:
    cost_s = [cpu_per_stream_s(way, chunks) for chunks in (CHUNKS_SHORT, CHUNKS_LONG)]
    chunks = CHUNKS_LONG - CHUNKS_SHORT
    return {"chunk_us": (cost_s[1] - cost_s[0]) / chunks * 1e6, "call_ms": cost_s[0] * 1000}


def cpu_per_stream_s(way: Way, chunks: int) -> float:
    """Paced, so that every chunk is a read and a write of its own."""
    seconds = max(1.0, chunks * PAUSE_MS / 1000)
    request = way.request(f"chunks={chunks} pause_ms={PAUSE_MS}")
    before_s = usage.cpu_s(way.server.pid)
    outcome = uvloop.run(load.closed(request, STREAMS_AT_ONCE, seconds))
    if outcome.errors:
        say(f"streams that failed: {outcome.errors}")
    return (usage.cpu_s(way.server.pid) - before_s) / (len(outcome.timings) or math.nan)


def first_bytes(way: Way, seconds: float) -> Figures:
    outcome = uvloop.run(load.steady(way.request("chunks=4 pause_ms=2"), STEADY_PER_S, seconds))
    return {
        "first_p50_ms": outcome.percentile_ms(0.50, first=True),
        "first_p99_ms": outcome.percentile_ms(0.99, first=True),
    }


# --- many at once -------------------------------------------------------------------------------


def many_streams(stack: Stack, tenant: Tenant) -> Figures:
    say(f"{OPEN_STREAMS} slow streams")
    way = our_way(stack, tenant, MODEL)
    uvloop.run(load.closed(way.request("chunks=4"), STREAMS_AT_ONCE, 1.0))  # what is allocated once is there
    figures = uvloop.run(opened_at_once(way))
    stack.stop(way.server)
    return figures


async def opened_at_once(way: Way) -> Figures:
    request = way.request(f"chunks={SLOW_CHUNKS} pause_ms={SLOW_PAUSE_MS}")
    pool = load.Pool(load.get(way.server.port, "/healthz", expected=b"ok"))
    probe = asyncio.create_task(watch_lag(pool))
    await asyncio.sleep(1)
    idle_bytes = usage.resident_bytes(way.server.pid)
    streams = []
    for _ in range(OPEN_STREAMS):
        streams.append(asyncio.create_task(one_stream(request)))
        await asyncio.sleep(1 / OPENED_PER_S)
    await asyncio.sleep(2 * SLOW_PAUSE_MS / 1000)
    open_bytes = usage.resident_bytes(way.server.pid)
    errors = Counter(filter(None, await asyncio.gather(*streams)))
    if errors:
        say(f"streams that failed: {dict(errors)}")
    probe.cancel()
    with suppress(asyncio.CancelledError):
        await probe
    return {
        "kb_per_stream": (open_bytes - idle_bytes) / OPEN_STREAMS / 1000,
        "errors": float(errors.total()),
        "lag_p50_ms": load.percentile([timing.total_s for timing in pool.timings], 0.50) * 1000,
        "lag_p99_ms": load.percentile([timing.total_s for timing in pool.timings], 0.99) * 1000,
    }


async def watch_lag(pool: load.Pool) -> None:
    """How long the loop takes to get to us, asked at fixed times until cancelled."""
    due_s = time.perf_counter()
    while True:
        due_s += PROBE_EVERY_S
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        await pool.call(due_s)


async def one_stream(request: load.Request) -> str:
    """What went wrong, "" if nothing did."""
    try:
        connection = await load.connect(request.port)
        await connection.ask(request.content)
    except (OSError, TimeoutError) as error:
        return type(error).__name__
    connection.transport.close()
    if connection.status != 200:
        return f"status {connection.status}"
    return "" if request.expected in connection.body else "another end than [DONE]"


# --- clients who leave --------------------------------------------------------------------------


def leaving_clients(stack: Stack, tenant: Tenant) -> Figures:
    say(f"{LEAVING} clients leave at once")
    way = our_way(stack, tenant, MODEL)
    left_s = uvloop.run(leave_at_once(way))
    figures = {
        "upstream_closed_s": seconds_until(lambda: open_upstream(stack) == 0) + left_s,
        "holds_resolved_s": seconds_until(lambda: open_holds(stack) == 0) + left_s,
    }
    stack.stop(way.server)
    return figures


async def leave_at_once(way: Way) -> float:
    """All have begun; then every connection is cut. The time that takes us."""
    request = way.request(f"chunks={SLOW_CHUNKS} pause_ms={SLOW_PAUSE_MS}")
    connections = [await load.connect(request.port) for _ in range(LEAVING)]
    await asyncio.gather(*(connection.begin(request.content) for connection in connections))
    started_s = time.perf_counter()
    for connection in connections:
        connection.transport.abort()
    await asyncio.sleep(0)
    return time.perf_counter() - started_s


def seconds_until(done: Callable[[], bool]) -> float:
    started_s = time.perf_counter()
    while not done():
        if time.perf_counter() - started_s > RESOLVED_WITHIN_S:
            return math.inf
        time.sleep(0.01)
    return time.perf_counter() - started_s


def open_upstream(stack: Stack) -> int:
    async def asked() -> int:
        connection = await load.connect(stack.upstream.port)
        await connection.ask(load.get(stack.upstream.port, "/open").content)
        connection.transport.close()
        return int(json.loads(connection.body)["open"])

    return uvloop.run(asked())


def open_holds(stack: Stack) -> int:
    with psycopg.connect(stack.database_url) as connection:
        row = connection.execute(OPEN_HOLDS).fetchone()
    assert row is not None
    return int(row[0])


# --- the report ---------------------------------------------------------------------------------


def write(report: Report, found: dict[str, Figures], many: Figures, left: Figures, postgres: str) -> None:
    report.say(
        f"{postgres} {STREAMS_AT_ONCE} streams at once, a chunk every {PAUSE_MS} ms each; CPU of the server's "
        f"process, the slope between {CHUNKS_SHORT} and {CHUNKS_LONG} chunks. Time to the first byte at "
        f"{STEADY_PER_S} streams/s, less that of asking the upstream itself in the same round. Medians."
    )
    names = {
        "chunk_us": "CPU µs/chunk",
        "call_ms": f"CPU ms/stream of {CHUNKS_SHORT}",
        "first_p50_ms": "added first byte p50 (ms)",
        "first_p99_ms": "p99",
    }
    report.table(["", *names.values()], [[way, *(figure(of[key]) for key in names)] for way, of in found.items()])
    report.say(
        f"{OPEN_STREAMS:,} streams open at once on one worker, a chunk a second each: "
        f"{figure(many['kb_per_stream'])} KB per stream, {many['errors']:.0f} errors, loop lag p50 "
        f"{figure(many['lag_p50_ms'])} ms, p99 {figure(many['lag_p99_ms'])} ms (`/healthz` every "
        f"{PROBE_EVERY_S * 1000:.0f} ms, from the first stream's begin to the last one's end)."
    )
    report.say(
        f"{LEAVING} clients leave at once: the last upstream connection is closed after "
        f"{left['upstream_closed_s']:.2f} s, the last hold resolved after {left['holds_resolved_s']:.2f} s."
    )
    passed, translated = found["OpenRouter, passed through"], found["Anthropic, translated"]
    report.goals(
        [
            Goal("CPU per passed-through chunk", 25, passed["chunk_us"], "µs"),
            Goal("CPU per translated chunk", 60, translated["chunk_us"], "µs"),
            Goal("added first byte p50", 5, passed["first_p50_ms"], "ms"),
            Goal("added first byte p99", 20, passed["first_p99_ms"], "ms"),
            Goal("memory per open stream", 60, many["kb_per_stream"], "KB"),
            Goal("errors", 0, many["errors"]),
            Goal("loop lag p99", 50, many["lag_p99_ms"], "ms"),
        ]
    )
    report.raw("relay", found)
    report.raw("many", many)
    report.raw("left", left)
    report.finish()


if __name__ == "__main__":
    main()
