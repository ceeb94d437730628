"""Organizations with credits, keys and calls, for the tests of the ledger."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connection

from accounts.models import ApiKey, Organization
from billing.ledger import journal
from billing.ledger.commands import AnyCommand, Expire, Held, Mark, Outcome, Post, Receipt, Reserve, Settle, Void
from billing.models import Price, Wallet

T = TypeVar("T")
MODEL = "sandbox/echo"
ROWS: dict[str, str] = {
    "wallet": "SELECT posted, held, seq FROM billing_wallet WHERE organization_id = %s",
    "hold": "SELECT state, amount, actual, charged FROM billing_hold WHERE id = %s",
}


class Tenant:
    """An organization that commands are made for. Nothing is cached: every figure is read from the books."""

    def __init__(
        self, credits: int = 0, *, unlimited: bool = False, overdraft: int = 0, id: UUID | None = None
    ) -> None:
        self.id = Organization.objects.create(id=id or uuid4(), name=f"Tenant {uuid4()}").pk
        self.price_id = price_id()
        Wallet.objects.filter(pk=self.id).update(unlimited=unlimited, overdraft=overdraft)
        if credits:
            journal.execute([self.post(credits, kind="purchase", idempotency_key="opening")])

    # --- commands -----------------------------------------------------------------------------

    def reserve(self, amount: int, *, hold_id: UUID | None = None, key: UUID | None = None, **given: Any) -> Reserve:
        named = {"floor": amount, "life_s": 600.0, "price_id": self.price_id, "user_id": None} | given
        return Reserve(
            wallet_id=self.id,
            hold_id=hold_id or make_hold_id(),
            key_id=key,
            model=MODEL,
            provider="sandbox",
            amount=amount,
            **named,
        )

    def settle(self, hold_id: UUID, actual: int, *, key: UUID | None = None, **of_receipt: Any) -> Settle:
        receipt = make_receipt(**({"price_id": self.price_id} | of_receipt))
        return Settle(wallet_id=self.id, hold_id=hold_id, key_id=key, actual=actual, receipt=receipt)

    def void(self, hold_id: UUID, *, key: UUID | None = None, receipt: Receipt | None = None) -> Void:
        return Void(wallet_id=self.id, hold_id=hold_id, key_id=key, receipt=receipt)

    def expire(self, hold_id: UUID, *, key: UUID | None = None) -> Expire:
        return Expire(wallet_id=self.id, hold_id=hold_id, key_id=key)

    def mark(self, hold_id: UUID, reference: str = "ref-1") -> Mark:
        return Mark(wallet_id=self.id, hold_id=hold_id, provider="openrouter", provider_ref=reference)

    def post(self, amount: int, **given: Any) -> Post:
        named = {"kind": "adjustment", "actor": "alice", "reason": "a test", "idempotency_key": str(uuid4())} | given
        return Post(wallet_id=self.id, amount=amount, **named)

    # --- the books ----------------------------------------------------------------------------

    def hold(self, amount: int, **given: Any) -> UUID:
        """A committed hold of exactly this amount."""
        command = self.reserve(amount, **given)
        assert do(command) == Held(amount)
        return command.hold_id

    def key(self, **given: Any) -> UUID:
        return ApiKey.objects.create(organization_id=self.id, digest=os.urandom(32), **given).pk

    def set_status(self, status: str) -> None:
        Wallet.objects.filter(pk=self.id).update(status=status)

    @property
    def wallet(self) -> tuple[int, int, int]:
        """(posted, held, seq)"""
        return one_row("wallet", self.id)

    def entries(self) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT seq, kind, amount, balance_after FROM billing_entry WHERE wallet_id = %s ORDER BY seq",
                [self.id],
            )
            return cursor.fetchall()


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
