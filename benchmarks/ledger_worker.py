"""One process with a writer of its own under load: `python -m benchmarks.ledger_worker`, its job on standard input.

Each caller holds and settles, one call after the other, as a completion does without its provider. What it tells is
one JSON object. Without Django, as the writer is.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop

from benchmarks.load import percentile
from billing.ledger.batch import Row, Statement
from billing.ledger.commands import Held, Mark, Receipt, Reserve, Settle, Settled
from billing.ledger.pipeline import BEGIN, COMMIT, Connection, Flusher
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire
from billing.ledger.writer import Writer
from billing.pricing.money import Usage

QUEUE_MAX = 10_000
DRAIN_S = 20.0
WARM_UP_S = 0.5
AMOUNT_MICRO, ACTUAL_MICRO = 24_127, 2_400
USAGE = Usage(prompt_tokens=25, completion_tokens=8)


class Job(msgspec.Struct):
    database_url: str
    spool: str
    wallets: list[UUID]
    keys: list[UUID]  # one of each wallet
    price_id: int
    in_flight: int
    seconds: float
    marks: bool = False  # also note that the provider has begun, as the gateway does
    counts_statements: bool = False


class Told(msgspec.Struct):
    pairs: int
    seconds: float
    cpu_s: float  # of Python
    hold_p50_ms: float
    hold_p99_ms: float
    statements: int
    batches: int


class CountingFlusher(Flusher):
    statements = batches = 0

    async def run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        CountingFlusher.batches += BEGIN in statements
        CountingFlusher.statements += sum(statement not in (BEGIN, COMMIT) for statement in statements)
        return await super().run(statements)


class CountingWire(Wire):
    async def connect(self) -> Connection:
        connection = await super().connect()
        self._flusher = CountingFlusher(connection)
        return connection


class Callers:
    def __init__(self, job: Job, writer: Writer) -> None:
        self._job = job
        self._writer = writer
        self._turns = count()
        self.pairs = 0
        self.waits_s: list[float] = []

    async def run(self, seconds: float) -> None:
        self.pairs, self.waits_s = 0, []
        ends_s = time.perf_counter() + seconds
        await asyncio.gather(*(self._caller(ends_s) for _ in range(self._job.in_flight)))

    async def _caller(self, ends_s: float) -> None:
        while time.perf_counter() < ends_s:
            place = next(self._turns) % len(self._job.wallets)
            await self._pair(self._job.wallets[place], self._job.keys[place])
            self.pairs += 1

    async def _pair(self, wallet_id: UUID, key_id: UUID) -> None:
        price_id = self._job.price_id
        reserve = Reserve(
            wallet_id=wallet_id,
            hold_id=UUID(int=time.time_ns() // 1_000_000 << 80 | random.getrandbits(80)),
            key_id=key_id,
            user_id=None,
            model="bench",
            price_id=price_id,
            provider="bench",
            amount=AMOUNT_MICRO,
            floor=AMOUNT_MICRO,
            life_s=900.0,
        )
        asked_s = time.perf_counter()
        held = await self._writer.submit(reserve)
        self.waits_s.append(time.perf_counter() - asked_s)
        assert isinstance(held, Held), held
        if self._job.marks:
            self._writer.submit(
                Mark(wallet_id=wallet_id, hold_id=reserve.hold_id, provider="bench", provider_ref="gen-1")
            )
        receipt = Receipt(model="bench", provider="bench", price_id=price_id, usage=USAGE)
        settled = await self._writer.submit(
            Settle(wallet_id=wallet_id, hold_id=reserve.hold_id, key_id=key_id, actual=ACTUAL_MICRO, receipt=receipt)
        )
        assert isinstance(settled, Settled), settled


async def work(job: Job) -> Told:
    wire = CountingWire(job.database_url) if job.counts_statements else None
    writer = Writer(job.database_url, Spool(Path(job.spool)), queue_max=QUEUE_MAX, wire=wire)
    await writer.start()
    callers = Callers(job, writer)
    await callers.run(WARM_UP_S)
    statements, batches = CountingFlusher.statements, CountingFlusher.batches
    cpu_s, started_s = time.process_time(), time.perf_counter()
    await callers.run(job.seconds)
    told = Told(
        pairs=callers.pairs,
        seconds=time.perf_counter() - started_s,
        cpu_s=time.process_time() - cpu_s,
        hold_p50_ms=percentile(callers.waits_s, 0.50) * 1000,
        hold_p99_ms=percentile(callers.waits_s, 0.99) * 1000,
        statements=CountingFlusher.statements - statements,
        batches=CountingFlusher.batches - batches,
    )
    await writer.close(DRAIN_S)
    return told


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(work(job))))


if __name__ == "__main__":
    main()
