"""Random programs for a ledger: wallets and keys, and batches of commands over a clock that jumps midnights."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID, uuid4

from billing.ledger.commands import AnyCommand, Expire, Mark, Post, Receipt, Reserve, Settle, Void
from billing.pricing.money import Usage
from tests.kit.ledger_model import ModelKey, ModelWallet

HOLDS_MAX = 8
# The last seconds of a day; of a week; of a month; of a February in a leap year; of a year inside an ISO week.
STARTS = [
    datetime(2026, 11, 18, 23, 59, 50, tzinfo=UTC),
    datetime(2026, 11, 22, 23, 59, 50, tzinfo=UTC),
    datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC),
    datetime(2028, 2, 29, 23, 59, 50, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC),
]
STEPS_S = [0, 0, 0.000001, 1, 9.999999, 10, 60, 3_600, 86_400, 7 * 86_400, 31 * 86_400, 366 * 86_400]
LIVES_S = [0.5, 10, 600, 90_000]
POSTS = ["purchase", "grant", "adjustment", "correction", "refund", "expiry"]


class Slot(NamedTuple):
    """A call: its hold's id belongs to one wallet and one key for good."""

    hold_id: UUID
    wallet: UUID
    key: UUID | None


class Program(NamedTuple):
    wallets: list[ModelWallet]
    batches: list[tuple[datetime, list[AnyCommand]]]


def make_program(random: Random, price_id: int = 1) -> Program:
    start = random.choice(STARTS)
    wallets = [make_wallet(random, start) for _ in range(random.randint(1, 3))]
    slots = [make_slot(random, wallets) for _ in range(random.randint(1, HOLDS_MAX))]
    opening: list[AnyCommand] = [opening_post(random, wallet.id) for wallet in wallets]
    batches: list[tuple[datetime, list[AnyCommand]]] = [(start, opening)]
    now = start
    for _ in range(random.randint(1, 8)):
        now += timedelta(seconds=random.choice(STEPS_S))
        batches.append((now, [make_command(random, wallets, slots, price_id) for _ in range(random.randint(1, 8))]))
    return Program(wallets, batches)


def make_wallet(random: Random, start: datetime) -> ModelWallet:
    id = uuid4()
    return ModelWallet(
        id,
        unlimited=random.randrange(5) == 0,
        overdraft=random.choice([0, 0, 30]),
        active=random.randrange(10) > 0,
        keys=tuple(make_key(random, id, start) for _ in range(random.randint(0, 2))),
    )


def make_key(random: Random, wallet: UUID, start: datetime) -> ModelKey:
    period = random.choice([None, "day", "week", "month", "total"])
    return ModelKey(
        uuid4(),
        wallet,
        limit=random.choice([1, 60, 150]) if period else None,
        period=period,
        revoked=random.randrange(12) == 0,
        expires_at=start + timedelta(days=1) if random.randrange(6) == 0 else None,
    )


def make_slot(random: Random, wallets: list[ModelWallet]) -> Slot:
    wallet = random.choice(wallets)
    keys = [None, *(key.id for key in wallet.keys)]
    return Slot(uuid4(), wallet.id, keys[random.randrange(len(keys))])


def opening_post(random: Random, wallet: UUID) -> Post:
    amount = random.choice([0, 50, 200, 500])
    return Post(
        wallet_id=wallet, kind="purchase", amount=amount, actor="alice", reason="start", idempotency_key="opening"
    )


def make_command(random: Random, wallets: list[ModelWallet], slots: list[Slot], price_id: int) -> AnyCommand:
    slot = random.choice(slots)
    kind = random.randrange(12)
    if kind < 4:
        amount = random.randint(0, 120)
        return Reserve(
            wallet_id=slot.wallet,
            hold_id=slot.hold_id,
            key_id=slot.key,
            user_id=None,
            model="sandbox/echo",
            price_id=price_id,
            provider="sandbox",
            amount=amount,
            floor=random.choice([0, amount // 2, amount]),
            life_s=random.choice(LIVES_S),
        )
    if kind < 7:
        receipt = make_receipt(random, price_id)
        actual = random.choice([0, 1, 40, 80, 300])
        return Settle(wallet_id=slot.wallet, hold_id=slot.hold_id, key_id=slot.key, actual=actual, receipt=receipt)
    if kind == 7:
        failed = make_receipt(random, price_id) if random.randrange(2) else None
        return Void(wallet_id=slot.wallet, hold_id=slot.hold_id, key_id=slot.key, receipt=failed)
    if kind == 8:
        reference = f"ref-{random.randrange(3)}"
        return Mark(wallet_id=slot.wallet, hold_id=slot.hold_id, provider="openrouter", provider_ref=reference)
    if kind == 9:
        return Expire(wallet_id=slot.wallet, hold_id=slot.hold_id, key_id=slot.key)
    # Now and then the wallet does not exist.
    wallet = UUID(int=0) if random.randrange(20) == 0 else random.choice(wallets).id
    return Post(
        wallet_id=wallet,
        kind=random.choice(POSTS),
        amount=random.choice([-300, -60, -1, 0, 1, 60, 300]),
        actor="bob",
        reason="because",
        idempotency_key=f"form-{random.randrange(6)}",
    )


def make_receipt(random: Random, price_id: int) -> Receipt:
    return Receipt(
        model="sandbox/echo",
        provider="sandbox",
        price_id=price_id,
        usage=Usage(prompt_tokens=random.randint(0, 1_000)),
        streamed=bool(random.randrange(2)),
    )
