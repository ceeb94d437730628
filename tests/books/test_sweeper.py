"""Holds of calls that never ended: freed once, by however many sweepers, and not a moment too early."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.ledger import journal
from billing.ledger.commands import Held, Settled
from billing.oversight import verifier
from billing.reconciliation import abandoned_holds
from billing.reconciliation.abandoned_holds import Sweep
from completions.tasks import sweep_holds
from tests.kit.books import at_once, do, hold_row
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

NOON = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(NOON)


def test_a_hold_expires_at_its_time_and_not_before(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    short, long = alice.hold(100, life_s=60), alice.hold(200, life_s=61)
    clock.set(NOON + timedelta(seconds=59.999999))
    assert abandoned_holds.sweep() == Sweep(expired=0, settled=0, pending=2)
    assert alice.wallet == (1_000, 300, 1)
    clock.set(NOON + timedelta(seconds=60))
    assert abandoned_holds.sweep() == Sweep(expired=1, settled=0, pending=1)
    assert alice.wallet == (1_000, 200, 1)
    assert (hold_row(short)[0], hold_row(long)[0]) == ("expired", "open")


def test_an_expired_call_costs_nothing_and_frees_its_keys_limit(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    key = alice.key(limit_micro=100, limit_period="day")
    hold = alice.hold(100, key=key, life_s=60)
    do(alice.mark(hold))
    clock.set(NOON + timedelta(minutes=1))
    assert abandoned_holds.sweep().expired == 1
    assert alice.wallet == (1_000, 0, 1)
    assert do(alice.reserve(100, key=key)) == Held(100)
    assert verifier.violations() == []


def test_a_sweep_of_nothing(clock: DatabaseClock) -> None:
    assert abandoned_holds.sweep() == Sweep(expired=0, settled=0, pending=0)


def test_sweeping_again_finds_nothing(clock: DatabaseClock) -> None:
    Tenant(1_000).hold(100, life_s=-1)
    assert abandoned_holds.sweep().expired == 1
    assert abandoned_holds.sweep() == Sweep(expired=0, settled=0, pending=0)


def test_resolved_holds_are_left_alone(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    settled, voided = alice.hold(100, life_s=-1), alice.hold(100, life_s=-1)
    do(alice.settle(settled, 60))
    do(alice.void(voided))
    assert abandoned_holds.sweep() == Sweep(expired=0, settled=0, pending=0)
    assert (hold_row(settled)[0], hold_row(voided)[0]) == ("settled", "voided")


@pytest.mark.parametrize("holds", [abandoned_holds.BATCH, 2 * abandoned_holds.BATCH + 1])
def test_more_than_a_batch_is_swept_in_one_go(clock: DatabaseClock, holds: int) -> None:
    tenants = [Tenant(10_000) for _ in range(3)]
    journal.execute([tenants[n % 3].reserve(1, life_s=-1) for n in range(holds)])
    assert abandoned_holds.sweep() == Sweep(expired=holds, settled=0, pending=0)
    assert [tenant.wallet for tenant in tenants] == [(10_000, 0, 1)] * 3


def test_the_task_sweeps(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    hold = alice.hold(100, life_s=-1)
    sweep_holds()
    assert hold_row(hold)[0] == "expired"


# --- Side by side -----------------------------------------------------------------------------


def test_three_sweepers_at_once_expire_every_hold_once(live_db: None) -> None:
    abandoned_holds.sweep()  # what other tests may have left
    tenants = [Tenant(10_000) for _ in range(5)]
    journal.execute([tenants[n % 5].reserve(1, life_s=-1) for n in range(1_200)])
    untouched = tenants[0].hold(7)
    swept = at_once([abandoned_holds.sweep] * 3)
    assert sum(sweep.expired for sweep in swept) == 1_200
    assert [tenant.wallet for tenant in tenants] == [(10_000, 7, 1)] + [(10_000, 0, 1)] * 4
    do(tenants[0].void(untouched))
    assert verifier.violations() == []


def test_calls_that_end_while_they_are_swept_are_charged_once(live_db: None) -> None:
    """In time or late, as it falls out; once either way."""
    alice = Tenant(100_000)
    reserves = [alice.reserve(10, life_s=-1) for _ in range(400)]
    journal.execute(reserves)
    settled: list[object] = []

    def settle_all() -> None:
        for start in range(0, 400, 20):
            settled.extend(journal.execute([alice.settle(r.hold_id, 10) for r in reserves[start : start + 20]]))

    at_once([settle_all, abandoned_holds.sweep, abandoned_holds.sweep])
    assert all(isinstance(outcome, Settled) and outcome.charged == 10 for outcome in settled)
    assert alice.wallet == (96_000, 0, 401)
    assert verifier.violations() == []
