"""`make bench-pages`: every page, in the server, for a tenant with a million calls. ROWS makes it smaller."""

import msgspec

from benchmarks.books import Size
from benchmarks.report import Goal, Report, figure, number
from benchmarks.scale import PAGE_GOAL_MS, inside, side
from benchmarks.scale_told import Told
from benchmarks.stack import running_stack

KEYS = 10


def main() -> None:
    rows = number("ROWS", 1_000_000)
    report = Report("pages", f"every page of a tenant with {rows:,} calls")
    with running_stack("pages") as stack:
        here = side(stack, "quantized", stack.env, Size(rows, tenants=1, keys_per_tenant=KEYS))
        told = inside(stack, here)
        postgres = stack.postgres_facts()
    write(report, told, postgres)


def write(report: Report, told: Told, postgres: str) -> None:
    report.say(f"{postgres} Milliseconds from the request to the whole answer, in the server's process.")
    slowest_first = sorted(told.pages, key=lambda path: -told.pages[path].p95_ms)
    report.table(
        ["page", "p50 (ms)", "p95 (ms)", "CPU (ms)"],
        [[path, *map(figure, msgspec.structs.astuple(told.pages[path]))] for path in slowest_first],
    )
    slowest = slowest_first[0]
    report.goals(
        [
            Goal(f"slowest p95 ({slowest})", PAGE_GOAL_MS, told.pages[slowest].p95_ms, "ms"),
            Goal("violations of the ledger's rules", 0, told.violations),
        ]
    )
    report.raw("pages", told.pages)
    report.finish()


if __name__ == "__main__":
    main()
