"""A process with a writer of its own, told what to do line by line: `python -m tests.kit.ledger_process`.

Each line of standard input is a job as JSON, each line of standard output its answer. Without Django, as the writer is.
"""

import asyncio
import json
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from billing.ledger.commands import Held, Receipt, Refused, Reserve, Settle, Settled
from billing.ledger.spool import Spool
from billing.ledger.writer import Writer

DRAIN_S = 20.0


class Process:
    def __init__(self, given: dict[str, Any]) -> None:
        self.writer = Writer(given["database_url"], Spool(Path(given["spool"])), queue_max=10_000)
        self.price_id = given["price_id"]
        self.key_id = UUID(given["key_id"]) if given.get("key_id") else None
        self.held: list[tuple[UUID, UUID, int]] = []  # wallet, hold, amount

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        match job.pop("do"):
            case "reserve":
                return await self.reserve(**job)
            case "settle":
                return await self.settle()
            case "calls":
                return await self.calls(**job)
        raise ValueError(job)

    async def reserve(self, wallets: list[str], count: int, amount: int, life_s: float) -> dict[str, Any]:
        """So many at once, on the wallets in turn."""
        turns = islice(cycle(map(UUID, wallets)), count)
        answers = await asyncio.gather(*[self.reserve_one(wallet, amount, life_s) for wallet in turns])
        refused = [answer for answer in answers if answer is not None]
        return {"held": count - len(refused), "refused": refused}

    async def reserve_one(self, wallet: UUID, amount: int, life_s: float) -> str | None:
        command = Reserve(
            wallet_id=wallet,
            hold_id=uuid4(),
            key_id=self.key_id,
            user_id=None,
            model="sandbox/echo",
            price_id=self.price_id,
            provider="sandbox",
            amount=amount,
            floor=amount,
            life_s=life_s,
        )
        outcome = await self.writer.submit(command)
        if isinstance(outcome, Refused):
            return outcome.reason
        assert outcome == Held(amount)
        self.held.append((wallet, command.hold_id, amount))
        return None

    async def settle(self) -> dict[str, Any]:
        """All that is held, at its full amount."""
        held, self.held = self.held, []
        return {"charged": sum(await asyncio.gather(*[self.settle_one(*hold) for hold in held]))}

    async def settle_one(self, wallet: UUID, hold: UUID, amount: int) -> int:
        receipt = Receipt(model="sandbox/echo", provider="sandbox", price_id=self.price_id)
        outcome = await self.writer.submit(
            Settle(wallet_id=wallet, hold_id=hold, key_id=self.key_id, actual=amount, receipt=receipt)
        )
        assert isinstance(outcome, Settled)
        return outcome.charged

    async def calls(
        self, wallets: list[str], count: int, amount: int, life_s: float, side_by_side: int = 8
    ) -> dict[str, Any]:
        """Reserve on every wallet, in this order, then settle; each settlement is said as soon as it is known."""
        charged = 0
        for _ in range(count):
            for _ in range(side_by_side):
                await self.reserve(wallets, len(wallets), amount, life_s)
            held, self.held = self.held, []
            for settled in asyncio.as_completed([self.say_settled(*hold) for hold in held]):
                charged += await settled
        return {"charged": charged}

    async def say_settled(self, wallet: UUID, hold: UUID, amount: int) -> int:
        charged = await self.settle_one(wallet, hold, amount)
        say({"settled": str(hold), "charged": charged})
        return charged


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main() -> None:
    process = Process(json.loads(sys.stdin.readline()))
    await process.writer.start()
    say({"ready": True})
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(await process.do(json.loads(line)))
    await process.writer.close(DRAIN_S)


if __name__ == "__main__":
    asyncio.run(main())
