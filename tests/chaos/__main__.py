"""`python -m tests.chaos --seconds 240 --seed 7`: exit code 0 only if nothing was lost, charged twice or mistold."""

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from billing.pricing.money import CreditRate
from quantized.devstack.places import VAR, remove_sockets
from tests.chaos.audit import Audit, audit
from tests.chaos.faults import Faults
from tests.chaos.load import Client, Told
from tests.chaos.stack import Stack

CLIENTS = 16
# Most credits there are, hardly any, and no bound: the floor has to hold for the second.
TENANTS = (("--credits", "1000000000"), ("--credits", "400000"), ("--unlimited",))
QUIET_WITHIN_S = 120.0
# The pauses between look-ups are for providers that need hours; here time may pass faster.
MAKE_DUE = (
    "UPDATE billing_usage SET reconcile_at = now() WHERE reconciliation = 'pending'",
    "UPDATE billing_failedattempt SET reconcile_at = now() WHERE reconciliation = 'pending'",
)


def main() -> int:
    options = arguments()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # answers that a sandbox still owes when it stops
    root = VAR / "chaos" / str(os.getpid())
    shutil.rmtree(root, ignore_errors=True)
    stack = Stack(root)
    try:
        stack.start()
        figures = run(stack, options.seconds, options.seed)
    finally:
        stack.close()
        remove_sockets(root)
    tell(figures, options)
    if figures["wrong"]:
        print(f"The logs are in {root}", file=sys.stderr)
        return 1
    shutil.rmtree(root)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="how long under load (240)")
    parser.add_argument("--seed", type=int, default=None, help="the order of everything that is drawn (printed)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


def run(stack: Stack, seconds: float, seed: int) -> dict[str, Any]:
    keys = [tenant_key(stack, number) for number in range(CLIENTS)]
    clients = [Client(n, api_key, list(stack.ports.values()), seed * 1000 + n) for n, (_, api_key) in enumerate(keys)]
    faults = Faults(stack, seed)
    load_and_break(clients, faults, seconds)
    ended_s = time.monotonic()
    become_quiet(stack)
    quiet_s = time.monotonic() - ended_s
    told = [one for client in clients for one in client.told]
    calls = stack.calls
    rate = CreditRate.of(Decimal(stack.env.get("CREDITS_PER_USD", "100")), Decimal(stack.env.get("MARGIN", "0.05")))
    key_ids = [key_id for key_id, _ in keys]
    found = audit(stack.env["DATABASE_URL"], calls, told, key_ids, rate, faults.killed, faults.polite)
    verified = stack.manage("verifyledger")
    if stack.received != len(calls):
        found.wrong.append("the sandbox has forgotten calls: a shorter run, please")
    found.wrong += [str(violation) for violation in verified["violations"]]
    found.wrong += [f"a server ended with code {code} after SIGTERM" for code in faults.polite_exits if code]
    found.wrong += [f"settlements are still spooled in {name}" for name in stack.note_spool()]
    return figures_of(seed, stack, faults, told, found, verified) | {"seconds until quiet": round(quiet_s)}


def tenant_key(stack: Stack, number: int) -> tuple[UUID, str]:
    """A tenant for every few clients, a key for each client."""
    tenant = number % len(TENANTS)
    name = f"tenant-{tenant}"
    if number < len(TENANTS):
        stack.manage("createtenant", name, "--owner", f"{name}@example.com", *TENANTS[tenant])
    issued = stack.manage("issuekey", name, "--name", f"client {number}")
    return UUID(issued["id"]), issued["api_key"]


def load_and_break(clients: list[Client], faults: Faults, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    over = threading.Event()
    striker = threading.Thread(target=faults.run, args=(until_s, over), name="faults")
    striker.start()
    try:
        asyncio.run(all_of(clients, over))
    finally:
        striker.join()
    if faults.trouble is not None:
        raise faults.trouble


async def all_of(clients: list[Client], over: threading.Event) -> None:
    await asyncio.gather(*(client.run(over) for client in clients))


def become_quiet(stack: Stack) -> None:
    """Sweep and reconcile as the worker would, until nothing is left to do."""
    deadline_s = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < deadline_s:
        swept = stack.manage("sweepholds")
        with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
            for statement in MAKE_DUE:
                connection.execute(statement)
        reconciled = stack.manage("reconcile")
        if not swept["pending"] and not reconciled["pending"] and not stack.note_spool():
            return
        time.sleep(1)
    print(f"not quiet after {QUIET_WITHIN_S:.0f} s: {swept}, {reconciled}", file=sys.stderr)


def figures_of(
    seed: int, stack: Stack, faults: Faults, told: list[Told], found: Audit, verified: dict[str, Any]
) -> dict[str, Any]:
    statuses = Counter("left" if one.left else f"{one.status or 'no answer'} {one.code}".strip() for one in told)
    return {
        "seed": seed,
        "requests": len(told),
        "as their clients saw them": dict(sorted(statuses.items())),
        "upstream calls": len(stack.calls),
        "served": found.served,
        "of these": found.ends,
        "blows": dict(sorted(faults.counts.items())),
        "ended while their server was stopping": found.asked_of_the_leaving,
        "idempotent requests answered more than once, alike": found.twins,
        "files of spooled settlements, replayed": len(stack.spooled),
        "starts": dict(sorted(stack.starts.items())),
        "entries": verified["entries"],
        "violations": len(verified["violations"]),
        "lost or wrong": len(found.wrong),
        "wrong": found.wrong,
    }


def tell(figures: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        if name == "wrong":
            continue
        elif isinstance(figure, dict):
            print(f"{name}")
            print("\n".join(f"    {word:<62} {count:>7,}" for word, count in figure.items()))
        else:
            print(f"{name:<66} {figure:>7,}" if name != "seed" else f"{name:<66} {figure:>7}")
    print("\n".join(figures["wrong"][:50]))
    print(verdict(figures))


def verdict(figures: dict[str, Any]) -> str:
    blows = sum(figures["blows"].values())
    if figures["wrong"]:
        return (
            f"FAILED: {figures['lost or wrong']:,} lost or wrong after {blows} blows; again with SEED={figures['seed']}"
        )
    return f"PASSED: {figures['served']:,} calls served, {blows} blows, 0 lost, 0 charged twice, 0 mistold"


if __name__ == "__main__":
    sys.exit(main())
