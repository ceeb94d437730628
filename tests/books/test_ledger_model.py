"""Whatever is asked of the ledger, in any order and any batching, it answers and books like a serial one."""

from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import ApiKey, Organization
from billing.ledger import journal, kernel
from billing.ledger.commands import AnyCommand, Post
from billing.ledger.kernel import Books
from billing.models import Wallet
from billing.oversight import verifier
from tests.kit.books import price_id
from tests.kit.clock import DatabaseClock
from tests.kit.ledger_model import Model, ModelKey, ModelWallet, Told, told
from tests.kit.ledger_programs import STARTS, Program, make_program
from tests.kit.profiles import LONG, examples

SEEDS = 100_000 if LONG else 3_000

# The books in plain rows, as the model, the kernel and the database can all say them.
Rows = dict[Any, tuple[Any, ...]]
State = dict[str, Rows]
METER = ["wallet_id", "day_start", "week_start", "month_start"] + [
    f"{window}_{what}" for window in ("day", "week", "month", "total") for what in ("spent", "held")
]


class KernelPlayer:
    """The kernel over dictionaries. A batch sees the rows it would have locked; what it says it changed is kept."""

    def __init__(self, wallets: Sequence[ModelWallet]) -> None:
        self.wallets = {wallet.id: kernel_wallet(wallet) for wallet in wallets}
        self.keys = {key.id: kernel_key(key) for wallet in wallets for key in wallet.keys}
        self.meters: dict[UUID, kernel.Meter] = {}
        self.holds: dict[UUID, kernel.Hold] = {}
        self.entries: dict[tuple[UUID, int], kernel.Entry] = {}
        self.usage: Rows = {}

    def run(self, now: datetime, commands: Sequence[AnyCommand]) -> list[Told]:
        books = self._read(now, commands)
        outcomes = [told(kernel.decide(books, command)) for command in commands]
        self._write(books)
        return outcomes

    def _read(self, now: datetime, commands: Sequence[AnyCommand]) -> Books:
        keys = {getattr(command, "key_id", None) for command in commands}
        posts = {(command.wallet_id, command.idempotency_key) for command in commands if isinstance(command, Post)}
        return Books(
            now=now,
            wallets=copies(self.wallets, {command.wallet_id for command in commands}),
            keys=copies(self.keys, keys),
            meters=copies(self.meters, keys),
            holds=copies(self.holds, {getattr(command, "hold_id", None) for command in commands}),
            entries={
                (entry.wallet_id, entry.idempotency_key): entry
                for entry in self.entries.values()
                if entry.idempotency_key and (entry.wallet_id, entry.idempotency_key) in posts
            },
        )

    def _write(self, books: Books) -> None:
        assert not books.new_holds & self.holds.keys()
        self.wallets |= {id: books.wallets[id] for id in books.changed_wallets}
        self.meters |= {id: books.meters[id] for id in books.changed_meters}
        self.holds |= {id: books.holds[id] for id in books.new_holds | books.changed_holds}
        for entry in books.new_entries:
            assert (entry.wallet_id, entry.seq) not in self.entries
            self.entries[entry.wallet_id, entry.seq] = entry
        for hold, receipt in books.new_receipts:
            assert hold.id not in self.usage
            self.usage[hold.id] = (hold.wallet_id, hold.charged or 0, receipt.usage.prompt_tokens, receipt.streamed)

    def state(self) -> State:
        return {
            "wallets": {w.id: (w.posted, w.held, w.seq) for w in self.wallets.values()},
            "holds": {hold.id: hold_figures(hold, hold.wallet_id, hold.key_id) for hold in self.holds.values()},
            "entries": {at: entry_figures(entry, entry.hold_id) for at, entry in self.entries.items()},
            "usage": self.usage,
            "meters": {m.key_id: tuple(getattr(m, name) for name in METER) for m in self.meters.values()},
        }


class DatabasePlayer:
    """billing.ledger on PostgreSQL, by its clock."""

    def __init__(self, clock: DatabaseClock, wallets: Sequence[ModelWallet]) -> None:
        self.clock = clock
        self.ids = [wallet.id for wallet in wallets]
        for wallet in wallets:
            store_wallet(wallet)

    def run(self, now: datetime, commands: Sequence[AnyCommand]) -> list[Told]:
        self.clock.set(now)
        return [told(outcome) for outcome in journal.execute(commands)]

    def state(self) -> State:
        holds = """SELECT id, wallet_id, key_id, amount, state, actual, charged, created_at, expires_at, resolved_at,
                   provider, provider_ref, dispatched_at FROM billing_hold WHERE wallet_id = ANY(%s)"""
        entries = """SELECT wallet_id, seq, kind, contra, amount, balance_after, hold_id, idempotency_key, actor,
                     reason, created_at FROM billing_entry WHERE wallet_id = ANY(%s)"""
        usage = """SELECT hold_id, wallet_id, charged, prompt_tokens, streamed
                   FROM billing_usage WHERE wallet_id = ANY(%s)"""
        return {
            "wallets": self._rows(
                "SELECT organization_id, posted, held, seq FROM billing_wallet WHERE organization_id = ANY(%s)"
            ),
            "holds": self._rows(holds),
            "entries": {(row[0], row[1]): row[2:] for row in self._all(entries)},
            "usage": self._rows(usage),
            "meters": self._rows(f"SELECT key_id, {', '.join(METER)} FROM billing_meter WHERE wallet_id = ANY(%s)"),
        }

    def _rows(self, sql: str) -> Rows:
        return {row[0]: row[1:] for row in self._all(sql)}

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.ids])
            return cursor.fetchall()


def copies(rows: dict[UUID, Any], wanted: set[Any]) -> dict[UUID, Any]:
    return {id: copy(rows[id]) for id in wanted if id in rows}


def kernel_wallet(wallet: ModelWallet) -> kernel.Wallet:
    return kernel.Wallet(wallet.id, 0, 0, wallet.unlimited, wallet.overdraft, 0, wallet.active)


def kernel_key(key: ModelKey) -> kernel.Key:
    return kernel.Key(key.id, key.revoked, key.expires_at, key.limit, key.period)  # type: ignore[arg-type]


def store_wallet(wallet: ModelWallet) -> None:
    Organization.objects.create(id=wallet.id, name=f"Model {wallet.id}")
    Wallet.objects.filter(pk=wallet.id).update(
        unlimited=wallet.unlimited, overdraft=wallet.overdraft, status="active" if wallet.active else "frozen"
    )
    for key in wallet.keys:
        ApiKey.objects.create(
            id=key.id,
            organization_id=wallet.id,
            digest=key.id.bytes * 2,
            limit_micro=key.limit,
            limit_period=key.period,
            expires_at=key.expires_at,
            revoked_at=STARTS[0] if key.revoked else None,
        )


def model_state(model: Model) -> State:
    return {
        "wallets": {id: (model.posted(id), model.held(id), len(model.entries_of(id))) for id in model.wallets},
        "holds": {hold.id: hold_figures(hold, hold.wallet, hold.key) for hold in model.holds.values()},
        "entries": {(entry.wallet, entry.seq): entry_figures(entry, entry.hold) for entry in model.entries},
        "usage": {
            id: (model.holds[id].wallet, model.holds[id].charged or 0, receipt.usage.prompt_tokens, receipt.streamed)
            for id, receipt in model.receipts.items()
        },
    }


def hold_figures(hold: Any, wallet: UUID, key: UUID | None) -> tuple[Any, ...]:
    return (
        wallet,
        key,
        hold.amount,
        hold.state,
        hold.actual,
        hold.charged,
        hold.created_at,
        hold.expires_at,
        hold.resolved_at,
        hold.provider,
        hold.provider_ref,
        hold.dispatched_at,
    )


def entry_figures(entry: Any, hold: UUID | None) -> tuple[Any, ...]:
    return (
        entry.kind,
        entry.contra,
        entry.amount,
        entry.balance_after,
        hold,
        entry.idempotency_key,
        entry.actor,
        entry.reason,
        entry.created_at,
    )


def assert_played_alike(player: KernelPlayer | DatabasePlayer, program: Program) -> None:
    model = Model({wallet.id: wallet for wallet in program.wallets})
    for now, commands in program.batches:
        assert player.run(now, commands) == model.run(now, commands)
        assert_floors(model)
    state = player.state()
    meters = state.pop("meters")
    assert state == model_state(model)
    check_meters(meters, model, program.batches[-1][0])


def assert_floors(model: Model) -> None:
    """The model itself keeps the promise it is the measure of."""
    for wallet in model.wallets.values():
        assert wallet.unlimited or model.posted(wallet.id) - model.held(wallet.id) >= -wallet.overdraft


def check_meters(meters: Rows, model: Model, now: datetime) -> None:
    """Every key that was used has one; each window begins like a day, a week, a month and counts its own holds."""
    holds = list(model.holds.values())
    assert meters.keys() == {hold.key for hold in holds if hold.key}
    for key, row in meters.items():
        meter = dict(zip(METER, row, strict=True))
        ours = [hold for hold in holds if hold.key == key]
        newest = max(hold.created_at for hold in ours)
        for window in ("day", "week", "month", "total"):
            start = meter.get(f"{window}_start", datetime.min.replace(tzinfo=UTC))
            if window != "total":
                assert begins(window, start)
                assert start <= newest or start <= now
                assert newest >= start or newest.date() < start.date() <= now.date()
            counted = [hold for hold in ours if hold.created_at >= start]
            assert meter[f"{window}_spent"] == sum(hold.charged or 0 for hold in counted)
            assert meter[f"{window}_held"] == sum(hold.amount for hold in counted if hold.state == "open")


def begins(window: str, moment: datetime) -> bool:
    midnight = (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
    return midnight and (window != "week" or moment.isoweekday() == 1) and (window != "month" or moment.day == 1)


# --- The tests --------------------------------------------------------------------------------


@examples(100)
@given(st.randoms(use_true_random=False))
def test_the_kernel_equals_a_serial_ledger(random: Random) -> None:
    program = make_program(random)
    assert_played_alike(KernelPlayer(program.wallets), program)


@pytest.mark.timeout(600)  # the long form
def test_the_kernel_equals_a_serial_ledger_in_thousands_of_programs() -> None:
    for seed in range(SEEDS):
        program = make_program(Random(seed))
        try:
            assert_played_alike(KernelPlayer(program.wallets), program)
        except AssertionError:
            print(f"program of seed {seed}: {program}")  # noqa: T201
            raise


def test_the_programs_reach_every_outcome() -> None:
    """What the programs never do, they do not test."""
    seen: set[tuple[Any, ...]] = set()
    for seed in range(600):
        program = make_program(Random(seed))
        model = Model({wallet.id: wallet for wallet in program.wallets})
        for now, commands in program.batches:
            seen |= {sort_of(outcome) for outcome in model.run(now, commands)}
    refusals = {
        "no_wallet",
        "organization_suspended",
        "revoked_api_key",
        "expired_api_key",
        "credits",
        "key_limit",
        "unknown_hold",
        "hold_voided",
        "below_floor",
    }
    assert {sort[1] for sort in seen if sort[0] == "refused"} == refusals
    assert {sort for sort in seen if sort[0] != "refused"} == {
        ("held", False),
        ("held", True),
        ("settled", False, False),
        ("settled", False, True),
        ("settled", True, False),
        ("settled", True, True),
        ("posted", False),
        ("posted", True),
        ("done", False),
        ("done", True),
    }


def sort_of(outcome: Told) -> tuple[Any, ...]:
    if outcome[0] == "refused":
        return outcome[:2]
    return (outcome[0], *[figure for figure in outcome[1:] if isinstance(figure, bool)])


@pytest.mark.timeout(600)  # the long form
@pytest.mark.django_db
@examples(60)
@given(st.randoms(use_true_random=True))
def test_the_database_equals_a_serial_ledger(random: Random) -> None:
    program = make_program(random, price_id())
    player = DatabasePlayer(DatabaseClock(program.batches[0][0]), program.wallets)
    assert_played_alike(player, program)
    resolve_everything(player, program)
    assert verifier.violations() == []


def resolve_everything(player: DatabasePlayer, program: Program) -> None:
    """What is still open expires in the end, as the sweeper would have it: the verifier knows no other end."""
    player.clock.set(program.batches[-1][0].replace(year=2040))
    with connection.cursor() as cursor:
        cursor.execute("SELECT wallet_id, id, key_id FROM billing_hold WHERE state = 'open'")
        open_holds = cursor.fetchall()
    journal.execute([kernel.Expire(wallet_id=wallet, hold_id=id, key_id=key) for wallet, id, key in open_holds])
