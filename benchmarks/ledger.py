"""`make bench-ledger`: the writer and the kernel on durable PostgreSQL, without HTTP: holds, settlements, batches."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from benchmarks import usage
from benchmarks.ledger_worker import Job, Told
from benchmarks.report import Goal, Report, figure, medians, number, say
from benchmarks.stack import RICH_MICRO, Stack, running_stack
from quantized.devstack.places import CHECKOUT

WALLETS = 1_000
IN_FLIGHT = (1, 64, 256)
SHOWN = {
    "pairs_per_s": "pairs/s",
    "hold_p50_ms": "hold p50 (ms)",
    "hold_p99_ms": "p99",
    "python_ms": "Python ms/pair",
    "postgres_ms": "PostgreSQL ms/pair",
}
Figures = dict[str, float]

# Wallets with credits, their first entries, and a key each; the triggers open the wallets.
TENANTS = """
WITH organization AS (
    INSERT INTO accounts_organization (id, name, status) SELECT gen_random_uuid(), 'bench ' || n, 'active'
    FROM generate_series(1, %s) n RETURNING id)
INSERT INTO accounts_apikey (id, organization_id, name, digest, prefix, last_four)
SELECT gen_random_uuid(), id, 'bench', sha256(id::text::bytea), '', '' FROM organization
"""
ENTRIES = """
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, actor, reason, created_at)
SELECT organization_id, 1, 'grant', 'promotion', %(micro)s, %(micro)s, 'bench', 'bench', now() FROM billing_wallet
"""
CREDITS = "UPDATE billing_wallet SET posted = %(micro)s, seq = 1"
FOUND = "SELECT organization_id, id FROM accounts_apikey ORDER BY id"
PRICE = "SELECT min(id) FROM billing_price"


class Bench:
    def __init__(self, stack: Stack, seconds: float) -> None:
        self._stack = stack
        self._seconds = seconds
        with psycopg.connect(stack.database_url) as connection:
            connection.execute(TENANTS, [WALLETS])
            connection.execute(ENTRIES, {"micro": RICH_MICRO})
            connection.execute(CREDITS, {"micro": RICH_MICRO})
            self._rows: list[tuple[UUID, UUID]] = connection.execute(FOUND).fetchall()
            price = connection.execute(PRICE).fetchone()
        assert price is not None
        self._price_id = int(price[0])

    def job(self, wallets: int, in_flight: int, **more: Any) -> Job:
        rows = self._rows[:wallets]
        return Job(
            database_url=self._stack.database_url,
            spool=str(self._stack.root / "spool"),
            wallets=[wallet for wallet, _ in rows],
            keys=[key for _, key in rows],
            price_id=self._price_id,
            in_flight=in_flight,
            seconds=self._seconds,
            **more,
        )

    def figures(self, *jobs: Job) -> Figures:
        """Of processes that work side by side: their sum, and the slower one's waits."""
        postgres_s = usage.cpu_s(self._stack.postgres_pid)
        told = run(jobs)
        pairs = sum(each.pairs for each in told)
        return {
            "pairs_per_s": sum(each.pairs / each.seconds for each in told),
            "hold_p50_ms": max(each.hold_p50_ms for each in told),
            "hold_p99_ms": max(each.hold_p99_ms for each in told),
            "python_ms": sum(each.cpu_s for each in told) / pairs * 1000,
            "postgres_ms": (usage.cpu_s(self._stack.postgres_pid) - postgres_s) / pairs * 1000,
            "pairs_per_batch": pairs / max(1, sum(each.batches for each in told)),
            "statements_per_batch": sum(each.statements for each in told) / max(1, sum(each.batches for each in told)),
        }


def run(jobs: Sequence[Job]) -> list[Told]:
    """Each in a process of its own, all at once."""
    command = [sys.executable, "-m", "benchmarks.ledger_worker"]
    workers = [subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in jobs]
    for worker, job in zip(workers, jobs, strict=True):
        assert worker.stdin is not None
        worker.stdin.write(msgspec.json.encode(job))
        worker.stdin.close()
    answers = [worker.stdout.read() for worker in workers if worker.stdout is not None]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit("a ledger worker failed, see above")
    return [msgspec.json.decode(answer, type=Told) for answer in answers]


def main() -> None:
    rounds, seconds = number("ROUNDS", 5), number("SECONDS", 3)
    report = Report("ledger", "The ledger alone")
    with running_stack("ledger") as stack:
        stack.prepare()
        bench = Bench(stack, seconds)
        found: dict[str, list[Figures]] = {name: [] for name in jobs(bench)}
        for each in range(1, rounds + 1):
            say(f"round {each}")
            for name, wanted in jobs(bench).items():
                found[name].append(bench.figures(*wanted))
        counted = bench.figures(bench.job(1, 64, marks=True, counts_statements=True))
        books = stack.manage_json("verifyledger")
        write(report, {name: medians(of) for name, of in found.items()}, counted, found, stack.postgres_facts())
    say(f"The books verify: {books['entries']} entries, {len(books['violations'])} violations.")


def jobs(bench: Bench) -> dict[str, list[Job]]:
    one_wallet = {f"1 wallet, {n} in flight": [bench.job(1, n)] for n in IN_FLIGHT}
    return one_wallet | {
        "1 wallet, 64 in flight, with marks": [bench.job(1, 64, marks=True)],
        f"{WALLETS:,} wallets, 64 in flight": [bench.job(WALLETS, 64)],
        f"{WALLETS:,} wallets, 256 in flight": [bench.job(WALLETS, 256)],
        "1 wallet, 2 processes, 64 in flight each": [bench.job(1, 64), bench.job(1, 64)],
        f"{WALLETS:,} wallets, 2 processes, 64 in flight each": [bench.job(WALLETS, 64), bench.job(WALLETS, 64)],
    }


def write(report: Report, found: dict[str, Figures], counted: Figures, rounds: object, postgres: str) -> None:
    report.say(
        f"{postgres} A pair is a durable hold and its settlement through `billing.writer`, one after the other per "
        "caller. Medians over interleaved rounds."
    )
    report.table(["", *SHOWN.values()], [[name, *(figure(of[key]) for key in SHOWN)] for name, of in found.items()])
    report.say(
        f"At 64 in flight a batch holds {figure(counted['pairs_per_batch'])} pairs with their marks and takes "
        f"{figure(counted['statements_per_batch'])} statements (BEGIN and COMMIT apart), in two round trips."
    )
    at_64 = found["1 wallet, 64 in flight"]
    best = max(
        (of for name, of in found.items() if name.startswith("1 wallet,") and "processes" not in name),
        key=lambda of: of["pairs_per_s"],
    )
    report.goals(
        [
            Goal("pairs/s on one wallet", 2_000, best["pairs_per_s"], at_most=False),
            Goal("hold p99 at 64 in flight", 60, at_64["hold_p99_ms"], "ms"),
            Goal("ledger's CPU in the server, per pair", 0.2, at_64["python_ms"], "ms"),
        ]
    )
    report.raw("rounds", rounds)
    report.raw("counted", counted)
    report.finish()


if __name__ == "__main__":
    main()
