"""Organizations with credits, keys and calls, for the tests of the ledger."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection

from billing.ledger import journal
from billing.ledger.commands import AnyCommand, Outcome, Receipt
from billing.models import Price

T = TypeVar("T")
MODEL = "sandbox/echo"
ROWS: dict[str, str] = {
    "wallet": "SELECT posted, held, seq FROM billing_wallet WHERE organization_id = %s",
    "hold": "SELECT state, amount, actual, charged FROM billing_hold WHERE id = %s",
}


def do(command: AnyCommand) -> Outcome:
    [outcome] = journal.execute([command])
    return outcome


def hold_row(hold_id: UUID) -> tuple[Any, ...]:
    """(state, amount, actual, charged)"""
    return one_row("hold", hold_id)


def one_row(name: str, id: UUID) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(ROWS[name], [id])
        row = cursor.fetchone()
    assert row is not None
    return tuple(row)


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Each job in a thread with a connection of its own, started together."""
    start = Barrier(len(jobs))

    def work(job: Callable[[], T]) -> T:
        try:
            connection.ensure_connection()
            start.wait()
            return job()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(work, jobs))


def make_hold_id(at: datetime | None = None) -> UUID:
    """UUIDv7, as the gateway makes them."""
    milliseconds = int(at.timestamp() * 1_000) if at else time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10)) & ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | random)


def make_receipt(**given: Any) -> Receipt:
    named: dict[str, Any] = {"model": MODEL, "provider": "sandbox"} | given
    if "price_id" not in named:
        named["price_id"] = price_id()
    return Receipt(**named)


def price_id() -> int:
    """A price of 1 and 2 USD per million tokens; the same one for everybody."""
    rates = {"input": "1.000000", "output": "2.000000"}
    found = Price.objects.filter(version=1, rates=rates).order_by("pk").first()
    return (found or Price.objects.create(version=1, rates=rates)).pk
