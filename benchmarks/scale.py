"""`make bench-scale`: ten million calls in the books, beside an empty database on the same server.

Both databases have a server of ours and the same upstream; what is measured on one is measured on the other next.
ROWS, TENANTS and KEYS (per tenant) make it smaller.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import uvloop

from benchmarks import load
from benchmarks.books import Books, Size, generate
from benchmarks.contenders import ask
from benchmarks.report import Goal, Report, figure, medians, number, say
from benchmarks.scale_told import Job, Told
from benchmarks.stack import RICH_MICRO, Server, Stack, running_stack
from quantized.devstack.places import CHECKOUT

IN_FLIGHT = 32
CALLERS = 200  # keys of so many tenants share the load
LOOKUPS = 1_000
API_VIEWS = 40
PAGE_GOAL_MS = 150
USAGE_PATHS = tuple(f"/v1/usage?group_by={group}" for group in ("day", "hour", "model", "key", "member"))
API_PATHS = ("/v1/credits", "/v1/key", "/v1/models")
EMPTY = "empty"

Figures = dict[str, float]


class Side(NamedTuple):
    """One of the two databases, with a server before it."""

    env: Mapping[str, str]
    owner: str
    password: str
    api_key: str
    books: Books
    server: Server


def main() -> None:
    rounds, seconds = number("ROUNDS", 5), number("SECONDS", 3)
    rows = number("ROWS", 10_000_000)
    full = Size(rows, max(10, number("TENANTS", min(10_000, rows // 100))), number("KEYS", 10))
    report = Report("scale", f"{rows:,} calls in the books")
    with running_stack("scale") as stack:
        sides = {f"{rows:,} calls": side(stack, "quantized", stack.env, full)}
        sides[EMPTY] = side(stack, EMPTY, stack.other_database(EMPTY), Size(0, 10, 10))
        completions: dict[str, list[Figures]] = {name: [] for name in sides}
        for each in range(1, rounds + 1):
            say(f"round {each}")
            for name, here in sides.items():
                completions[name].append(calls(here, seconds))
        told = {name: inside(stack, here) for name, here in sides.items()}
        paths = {name: api(here) for name, here in sides.items()}
        postgres = stack.postgres_facts()
    write(report, full, {name: medians(of) for name, of in completions.items()}, told, paths, sides, postgres)


def side(stack: Stack, database: str, env: Mapping[str, str], size: Size) -> Side:
    stack.prepare(env)
    name = f"bench-{database}"
    owner = f"{name}@example.com"
    told = stack.manage_json("createtenant", name, "--owner", owner, "--credits", str(RICH_MICRO), env=env)
    started_s = time.perf_counter()
    books = generate(lambda: stack.superuser(database), UUID(told["organization"]), size, env["KEY_PEPPER"])
    say(f"{size.rows:,} calls in {time.perf_counter() - started_s:.0f} s, {books.bytes_per_row:,.0f} bytes each")
    return Side(env, owner, told["password"], told["api_key"], books, stack.start_ours(env=env))


# --- what is measured ---------------------------------------------------------------------------


def calls(here: Side, seconds: float) -> Figures:
    """Completions by many tenants at once."""
    first, *more = [ask(here.server.port, ("authorization", f"Bearer {key}")) for key in here.books.api_keys[:CALLERS]]
    uvloop.run(load.closed(first, IN_FLIGHT, 1.0, *more))
    outcome = uvloop.run(load.closed(first, IN_FLIGHT, seconds, *more))
    if outcome.errors:
        say(f"calls that failed: {outcome.errors}")
    return {"requests_per_s": outcome.per_second, "p50_ms": outcome.percentile_ms(0.5)}


def inside(stack: Stack, here: Side) -> Told:
    say("tasks and pages ...")
    job = Job(owner=here.owner, api_keys=here.books.api_keys[:LOOKUPS])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale_work"],
        cwd=CHECKOUT,
        env=here.env,
        input=msgspec.json.encode(job),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Told)


def api(here: Side) -> dict[str, list[float]]:
    """Milliseconds of each view; as the owner, who sees the whole organization's usage."""
    token = uvloop.run(access_token(here))
    found = {path: uvloop.run(viewed(here, path, token)) for path in USAGE_PATHS}
    return found | {path: uvloop.run(viewed(here, path, here.api_key)) for path in API_PATHS}


async def access_token(here: Side) -> str:
    body = msgspec.json.encode({"email": here.owner, "password": here.password})
    connection = await load.connect(here.server.port)
    await connection.ask(load.post(here.server.port, "/v1/auth/token", (), body, b"").content)
    connection.transport.close()
    answer: dict[str, Any] = msgspec.json.decode(connection.body)
    return str(answer["access_token"])


async def viewed(here: Side, path: str, token: str) -> list[float]:
    request = load.get(here.server.port, path, (("authorization", f"Bearer {token}"),), expected=b"{")
    pool = load.Pool(request)
    for _ in range(API_VIEWS + 1):
        await pool.call(time.perf_counter())
    pool.close()
    if pool.errors:
        say(f"{path}: {pool.errors}")
    return [timing.total_s * 1000 for timing in pool.timings[1:]]


# --- the report ---------------------------------------------------------------------------------


def write(
    report: Report,
    size: Size,
    completions: dict[str, Figures],
    told: dict[str, Told],
    paths: dict[str, dict[str, list[float]]],
    sides: dict[str, Side],
    postgres: str,
) -> None:
    full, empty = completions
    report.say(
        f"{postgres} {size.tenants:,} tenants, {size.tenants * size.keys_per_tenant:,} keys; the tenant whose pages "
        f"are read has a tenth of all calls. {sides[full].books.bytes_per_row:,.0f} bytes per call in all tables and "
        "indexes. Medians over interleaved rounds."
    )
    rows = [["completions/s, 32 in flight", *(figure(of["requests_per_s"]) for of in completions.values())]]
    rows += [
        ["key look-up p50 (ms)", *(figure(of.lookup_p50_ms) for of in told.values())],
        ["key look-up p95 (ms)", *(figure(of.lookup_p95_ms) for of in told.values())],
    ]
    rows += [[f"{task} (s)", *(figure(of.tasks_s[task]) for of in told.values())] for task in told[full].tasks_s]
    report.table(["", full, empty], rows)
    views = {path: [load.percentile(of[path], 0.95) for of in paths.values()] for path in paths[full]}
    views |= {path: [of.pages[path].p95_ms for of in told.values() if path in of.pages] for path in told[full].pages}
    report.table(["p95 (ms)", full, empty], [[path, *map(figure, both)] for path, both in views.items()])
    slowest = max(views, key=lambda path: views[path][0])
    report.goals(
        [
            Goal(
                "of the empty database's throughput",
                0.9,
                completions[full]["requests_per_s"] / completions[empty]["requests_per_s"],
                "×",
                at_most=False,
            ),
            Goal(f"slowest p95 ({slowest})", PAGE_GOAL_MS, views[slowest][0], "ms"),
            Goal("violations of the ledger's rules", 0, told[full].violations),
        ]
    )
    report.raw("completions", completions)
    report.raw("inside", told)
    report.raw("views_p95_ms", views)
    report.finish()


if __name__ == "__main__":
    main()
