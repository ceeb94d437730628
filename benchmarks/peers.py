"""`make bench`: ours beside the peers and the limits, in interleaved rounds on one machine.

Every round asks the upstream directly first; "added" is a contender's time less that, of the same round.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import uvloop

from benchmarks import load, usage
from benchmarks.contenders import Contender, NotHere, Running, ask, contenders
from benchmarks.report import Bar, Goal, Report, figure, medians, number, say
from benchmarks.stack import Server, Stack, running_stack
from quantized.devstack.errors import StackError

IN_FLIGHT = 32
STEADY_PER_S = 50
WALLETS = 4
WARM_UP_S = 1.0
DIRECT = "direct to the upstream"
SHOWN = {
    "requests_per_s": "requests/s",
    "cpu_ms": "CPU ms/request",
    "postgres_ms": "PostgreSQL ms/request",
    "alone_p50_ms": "added p50, 1 in flight (ms)",
    "alone_p99_ms": "p99",
    "steady_p50_ms": f"added p50, {STEADY_PER_S}/s (ms)",
    "steady_p99_ms": "p99",
    "peak_mb": "peak MB",
}
LATENCIES = ("alone_p50_ms", "alone_p99_ms", "steady_p50_ms", "steady_p99_ms")

Figures = dict[str, float]


class Entrant(NamedTuple):
    contender: Contender
    running: Running
    rounds: list[Figures]


def main() -> None:
    rounds, seconds = number("ROUNDS", 5), number("SECONDS", 3)
    load.raise_open_files_limit()
    report = Report("peers", "Beside the peers")
    with running_stack("peers") as stack:
        stack.prepare()
        absent: dict[str, str] = {}
        entrants = list(enter(stack, contenders([stack.open_tenant(f"bench-{n}") for n in range(WALLETS)]), absent))
        direct = [measured_round(stack, entrants, seconds, number) for number in range(1, rounds + 1)]
        postgres = stack.postgres_facts()
    write(report, entrants, direct, absent, f"{rounds} rounds of {seconds} s. {postgres}")


def enter(stack: Stack, wanted: list[Contender], absent: dict[str, str]) -> Iterator[Entrant]:
    """Start each and see one right answer; who cannot is absent, and it is said why."""
    for contender in wanted:
        say(f"starting {contender.name}")
        try:
            running = contender.start(stack)
            outcome = uvloop.run(load.closed(running.request, IN_FLIGHT, WARM_UP_S))
        except (NotHere, StackError, OSError, TimeoutError) as error:
            absent[contender.name] = " ".join(str(error).split())[:300] or type(error).__name__
            continue
        if not outcome.timings:
            absent[contender.name] = f"gave no right answer: {outcome.errors}"
            stack.stop(running.server)
            continue
        yield Entrant(contender, running, [])


# --- one round ----------------------------------------------------------------------------------


def measured_round(stack: Stack, entrants: list[Entrant], seconds: float, number: int) -> Figures:
    """Adds a round's figures to every entrant; returns those of the upstream itself."""
    say(f"round {number}")
    direct = measure(stack, Running(stack.upstream, ask(stack.upstream.port)), seconds)
    for contender, running, rounds in entrants:
        figures = measure(stack, running, seconds)
        figures |= {name: figures[name] - direct[name] for name in LATENCIES}
        if not contender.keeps_books:
            del figures["postgres_ms"]
        rounds.append(figures)
    return direct


def measure(stack: Stack, running: Running, seconds: float) -> Figures:
    uvloop.run(load.closed(running.request, IN_FLIGHT, WARM_UP_S / 2, *running.more))
    before = cpu_of(stack, running.server)
    full = uvloop.run(load.closed(running.request, IN_FLIGHT, seconds, *running.more))
    used = {name: cpu - before[name] for name, cpu in cpu_of(stack, running.server).items()}
    alone = uvloop.run(load.closed(running.request, 1, seconds / 2))
    steady = uvloop.run(load.steady(running.request, STEADY_PER_S, seconds))
    answered = len(full.timings) or math.nan
    return {
        "requests_per_s": full.per_second,
        **{name: cpu_s / answered * 1000 for name, cpu_s in used.items()},
        "alone_p50_ms": alone.percentile_ms(0.50),
        "alone_p99_ms": alone.percentile_ms(0.99),
        "steady_p50_ms": steady.percentile_ms(0.50),
        "steady_p99_ms": steady.percentile_ms(0.99),
        "peak_mb": usage.peak_bytes(running.server.pid) / 1e6,
        "errors": float(sum(sum(outcome.errors.values()) for outcome in (full, alone, steady))),
    }


def cpu_of(stack: Stack, server: Server) -> Figures:
    return {
        "cpu_ms": usage.cpu_s(server.pid),
        "postgres_ms": usage.cpu_s(stack.postgres_pid),
        "upstream_ms": usage.cpu_s(stack.upstream.pid),
        "load_ms": usage.own_cpu_s(),
    }


# --- the report ---------------------------------------------------------------------------------


def write(report: Report, entrants: list[Entrant], direct: list[Figures], absent: dict[str, str], how: str) -> None:
    found = {entrant.contender.name: medians(entrant.rounds) for entrant in entrants}
    upstream = medians(direct)
    report.say(f"{how} Medians over the rounds, which are interleaved; {IN_FLIGHT} in flight unless said.")
    report.table(["", *SHOWN.values()], [row(name, figures) for name, figures in found.items()])
    for name, why in absent.items():
        report.say(f"**{name}** did not take part: {why}")
    failed = {name: figures["errors"] for name, figures in found.items() if figures["errors"]}
    if failed:
        report.say(f"Calls without a right answer, median per round: {failed}")
    report.say(
        f"{DIRECT}: {figure(upstream['requests_per_s'])} requests/s; per request it takes "
        f"{upstream['upstream_ms']:.3f} ms of CPU itself and {upstream['load_ms']:.3f} ms to ask it."
    )
    report.goals(goals(found))
    bars = [Bar(name, figures["requests_per_s"], name.startswith("Quantized")) for name, figures in found.items()]
    report.chart(f"Requests per second, {IN_FLIGHT} in flight, not streamed", bars)
    report.table(["version", ""], [[entrant.contender.name, entrant.contender.version()] for entrant in entrants])
    report.raw("direct", direct)
    report.raw("rounds", {entrant.contender.name: entrant.rounds for entrant in entrants})
    report.raw("absent", absent)
    report.finish()


def row(name: str, figures: Figures) -> list[str]:
    return [name, *(figure(figures.get(key, math.nan)) for key in SHOWN)]


def goals(found: dict[str, Figures]) -> list[Goal]:
    ours = found.get("Quantized, 1 worker", {})

    def times(other: str) -> float:
        return ours.get("requests_per_s", math.nan) / found.get(other, {}).get("requests_per_s", math.nan)

    return [
        Goal("requests/s of LiteLLM", 25, times("LiteLLM proxy, 1 worker"), "×", at_most=False),
        Goal("requests/s of Portkey", 2.5, times("Portkey gateway"), "×", at_most=False),
        Goal("requests/s of the bare pass-through", 0.45, times("limit: ASGI pass-through"), "×", at_most=False),
        Goal("server CPU per request", 0.9, ours.get("cpu_ms", math.nan), "ms"),
        Goal(
            "twice ferrogw's CPU per request",
            2 * found.get("ferrogw", {}).get("cpu_ms", math.nan),
            ours.get("cpu_ms", math.nan),
            "ms",
        ),
        Goal(f"added p50 at {STEADY_PER_S}/s", 5, ours.get("steady_p50_ms", math.nan), "ms"),
        Goal(f"added p99 at {STEADY_PER_S}/s", 20, ours.get("steady_p99_ms", math.nan), "ms"),
    ]


if __name__ == "__main__":
    main()
