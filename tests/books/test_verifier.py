"""Every invariant of the ledger, broken once by hand: the verifier names it, whose books they are, and the figures."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from accounts.services import create_user
from billing.credits import lots, vouchers
from billing.ledger import journal
from billing.models import Hold, Lot, Payment, Voucher
from billing.oversight import verifier
from billing.payments import account
from billing.reconciliation import extra_charges
from billing.reconciliation.extra_charges import charge_extra, queue_extra
from billing.usage import rollups
from common.invariants import EntryKey
from tests.kit.books import do
from tests.kit.clock import DatabaseClock
from tests.kit.tampering import drop_protection
from tests.kit.tampering import tamper as tamper_more
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

HALF_PAST_TEN = datetime(2026, 11, 18, 10, 30, tzinfo=UTC)


class World(NamedTuple):
    """Alice's books with a call of every kind in them, bob's unlimited ones, and an hour that is rolled up."""

    clock: DatabaseClock
    alice: Tenant
    bob: Tenant
    key: UUID
    settled: UUID
    late: UUID
    expired: UUID
    voided: UUID
    open: UUID


@pytest.fixture
def world() -> World:
    clock = DatabaseClock(HALF_PAST_TEN)
    alice, bob = Tenant(1_000), Tenant(unlimited=True)
    key = alice.key()
    settled, late, expired, voided, still_open = [alice.hold(100, key=key, life_s=7_200) for _ in range(5)]
    attempts = ({"provider": "sandbox", "outcome": "ok", "milliseconds": 12},)
    do(alice.settle(settled, 60, key=key, attempts=attempts))
    do(alice.void(voided, key=key))
    do(bob.settle(bob.hold(40), 700))
    clock.set(HALF_PAST_TEN + timedelta(hours=2))
    journal.execute([alice.expire(late, key=key), alice.expire(expired, key=key)])
    do(alice.settle(late, 30, key=key))
    do(alice.void(still_open, key=key))
    still_open = alice.hold(100, key=key)
    clock.set(HALF_PAST_TEN + timedelta(hours=2, minutes=5))
    assert rollups.roll_up() == 3
    assert alice.wallet == (910, 100, 3)
    assert bob.wallet == (-700, 0, 1)
    assert verifier.violations() == []
    return World(clock, alice, bob, key, settled, late, expired, voided, still_open)


def tamper(sql: str, *params: Any) -> None:
    drop_protection()
    tamper_more(sql, *params)


def found() -> set[tuple[str, str]]:
    """What a complete run finds, and as well an incremental one without a checkpoint below what was tampered with:
    only meters it compares in another way."""
    complete = pairs(verifier.violations())
    result = verifier.run(incremental=True)
    assert result is not None
    assert {pair[0] for pair in complete ^ pairs(result.violations)} <= {METER}
    return complete


def pairs(violations: list[verifier.Violation]) -> set[tuple[str, str]]:
    return {(violation.invariant, violation.subject) for violation in violations}


def details() -> list[str]:
    return [violation.detail for violation in verifier.violations()]


INVARIANTS = (
    BALANCE := "balance is the sum of its entries",
    SEQ := "seq counts the entries",
    HELD := "held is the sum of open holds",
    CHAIN := "the chain of balances has no gap",
    ACCOUNT := "an entry names the account of its kind",
    CALL := "a settled call has one usage entry of what it was charged",
    FLOOR := "a limited wallet is above its floor",
    METER := "a meter is the sum of its windows' holds",
    OVERDUE := "no hold outlives its time",
    CONTRA := "contra accounts sum to the balances",
    USAGE := "usage says what was charged",
    ROLLUP := "roll-ups are the sums of usage",
    PROVIDED := "providers' hours are the sums of roll-ups",
    ATTEMPTED := "attempts are those of the calls",
    EXTRA := "an extra charge took what its entry says",
    PAYMENT := "a payment moved what it says",
    VOUCHER := "a redeemed voucher is one grant",
    LOT := "a lot is its grant, and what expired of it",
)


def test_every_invariant_has_its_test() -> None:
    assert {invariant.name for invariant in verifier.INVARIANTS} == set(INVARIANTS)


@pytest.mark.parametrize(
    ("key", "parts", "text"),
    [
        (extra_charges.CORRECTION, (UUID(int=7), 2), "recon:00000000-0000-0000-0000-000000000007:2"),
        (account.PAYMENT, (UUID(int=7),), "payment:00000000-0000-0000-0000-000000000007"),
        (account.PAYMENT, (UUID(int=7), 0), "payment:00000000-0000-0000-0000-000000000007:0"),
        (vouchers.GRANT, (7,), "voucher:7"),
        (lots.EXPIRY, (7, 0), "expiry:7:0"),
    ],
)
def test_a_key_is_spelled_alike_in_python_and_in_sql(
    db: None, key: EntryKey, parts: tuple[Any, ...], text: str
) -> None:
    assert key.of(*parts) == text
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {key.sql(*['%s'] * len(parts))}", list(parts))
        assert cursor.fetchone() == (text,)


def test_healthy_books_have_no_violation(world: World) -> None:
    assert verifier.violations() == []
    assert verifier.report() == {"wallets": 2, "entries": 4, "violations": []}
    assert verifier.report(incremental=True) == {"wallets": 2, "entries": 0, "violations": []}


# --- The wallet -------------------------------------------------------------------------------


def test_a_changed_balance(world: World) -> None:
    tamper("UPDATE billing_wallet SET posted = posted + 5 WHERE organization_id = %s", world.alice.organization_id)
    assert found() == {(BALANCE, str(world.alice.organization_id)), (CONTRA, "all")}
    assert details() == ["posted 915, entries 910", "entries 210, balances 215"]


def test_money_moved_from_one_wallet_to_another(world: World) -> None:
    tamper("UPDATE billing_wallet SET posted = posted + 5 WHERE organization_id = %s", world.alice.organization_id)
    tamper_more("UPDATE billing_wallet SET posted = posted - 5 WHERE organization_id = %s", world.bob.organization_id)
    assert found() == {(BALANCE, str(world.alice.organization_id)), (BALANCE, str(world.bob.organization_id))}


def test_a_changed_seq(world: World) -> None:
    tamper("UPDATE billing_wallet SET seq = seq + 1 WHERE organization_id = %s", world.alice.organization_id)
    assert found() == {(SEQ, str(world.alice.organization_id))}
    assert details() == ["seq 4, entries 3, highest 3"]


@pytest.mark.parametrize("by", [1, -1])
def test_a_changed_held_amount(world: World, by: int) -> None:
    tamper("UPDATE billing_wallet SET held = held + %s WHERE organization_id = %s", by, world.alice.organization_id)
    assert found() == {(HELD, str(world.alice.organization_id))}
    assert details() == [f"held {100 + by}, open holds 100"]


def test_a_hold_that_was_freed_in_its_row_only(world: World) -> None:
    tamper("UPDATE billing_hold SET state = 'voided', resolved_at = now() WHERE id = %s", world.open)
    assert found() == {(HELD, str(world.alice.organization_id)), (METER, str(world.key))}


def test_a_wallet_below_its_floor(world: World) -> None:
    tamper(
        "UPDATE billing_wallet SET unlimited = false, overdraft = 699 WHERE organization_id = %s",
        world.bob.organization_id,
    )
    assert found() == {(FLOOR, str(world.bob.organization_id))}
    assert details() == ["posted -700, held 0, overdraft 699"]


def test_a_wallet_exactly_at_its_floor_is_right(world: World) -> None:
    tamper(
        "UPDATE billing_wallet SET unlimited = false, overdraft = 700 WHERE organization_id = %s",
        world.bob.organization_id,
    )
    assert verifier.violations() == []


# --- Entries ----------------------------------------------------------------------------------


def test_an_entry_that_disappeared(world: World) -> None:
    tamper("DELETE FROM billing_entry WHERE wallet_id = %s AND seq = 2", world.alice.organization_id)
    alice = str(world.alice.organization_id)
    assert found() == {(BALANCE, alice), (SEQ, alice), (CHAIN, alice), (CALL, str(world.settled)), (CONTRA, "all")}


def test_the_last_entry_that_disappeared_together_with_its_balance(world: World) -> None:
    tamper("DELETE FROM billing_entry WHERE wallet_id = %s AND seq = 3", world.alice.organization_id)
    tamper_more(
        "UPDATE billing_wallet SET posted = 940, seq = 2 WHERE organization_id = %s", world.alice.organization_id
    )
    assert found() == {(CALL, str(world.late))}
    assert details() == ["expired, charged 30, entry "]


def test_a_changed_balance_after(world: World) -> None:
    tamper("UPDATE billing_entry SET balance_after = 950 WHERE wallet_id = %s AND seq = 2", world.alice.organization_id)
    assert found() == {(CHAIN, str(world.alice.organization_id))}
    assert details() == ["entry 2: 1000 -60 is not 950", "entry 3: 950 -30 is not 910"]


def test_a_gap_between_entries(world: World) -> None:
    tamper("UPDATE billing_entry SET seq = 4 WHERE wallet_id = %s AND seq = 3", world.alice.organization_id)
    assert found() == {(SEQ, str(world.alice.organization_id)), (CHAIN, str(world.alice.organization_id))}


def test_a_changed_amount(world: World) -> None:
    tamper("UPDATE billing_entry SET amount = -30 WHERE wallet_id = %s AND seq = 2", world.alice.organization_id)
    alice = str(world.alice.organization_id)
    assert found() == {(BALANCE, alice), (CHAIN, alice), (CALL, str(world.settled)), (CONTRA, "all")}


def test_an_entry_booked_against_another_account(world: World) -> None:
    tamper(
        "UPDATE billing_entry SET contra = 'promotion' WHERE wallet_id = %s AND seq = 2", world.alice.organization_id
    )
    assert found() == {(ACCOUNT, str(world.alice.organization_id))}
    assert details() == ["entry 2: usage against promotion"]


# --- Calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [60, 0])
def test_a_second_charge_for_one_call_that_the_balance_agrees_with(world: World, amount: int) -> None:
    tamper(SECOND_CHARGE, world.alice.organization_id, -amount, 910 - amount, world.settled)
    paid = "UPDATE billing_wallet SET posted = posted - %s, seq = 4 WHERE organization_id = %s"
    tamper_more(paid, amount, world.alice.organization_id)
    assert found() == {(CALL, str(world.settled))}
    assert details() == [f"settled, charged 60, entry {60 + amount}"]


SECOND_CHARGE = """
INSERT INTO billing_entry (wallet_id, seq, kind, contra, amount, balance_after, hold_id, actor, reason, created_at)
VALUES (%s, 4, 'usage', 'revenue', %s, %s, %s, '', '', now())
"""


def test_a_call_charged_to_another_wallet(world: World) -> None:
    tamper("UPDATE billing_entry SET hold_id = %s WHERE hold_id = %s", world.voided, world.settled)
    assert found() == {(CALL, str(world.settled)), (CALL, str(world.voided))}


def test_an_entry_of_a_call_of_another_wallet(world: World) -> None:
    tamper("UPDATE billing_hold SET wallet_id = %s WHERE id = %s", world.bob.organization_id, world.settled)
    assert found() == {(CALL, str(world.settled)), (USAGE, str(world.settled))}


def test_a_settled_call_without_a_charge(world: World) -> None:
    tamper("UPDATE billing_hold SET state = 'settled' WHERE id = %s", world.expired)
    assert found() == {(CALL, str(world.expired))}
    assert details() == ["settled, charged , entry "]


def test_a_late_charge_called_a_timely_one(world: World) -> None:
    tamper("UPDATE billing_entry SET kind = 'usage' WHERE hold_id = %s", world.late)
    assert found() == {(CALL, str(world.late))}


def test_a_hold_that_says_another_charge_than_its_entry(world: World) -> None:
    tamper("UPDATE billing_hold SET charged = 59 WHERE id = %s", world.settled)
    assert found() == {(CALL, str(world.settled)), (USAGE, str(world.settled)), (METER, str(world.key))}
    assert "settled, charged 59, entry 60" in details()


def test_a_hold_that_nobody_swept(world: World) -> None:
    allowed_s = verifier.SWEEPS_ALLOWED * 30
    world.clock.set(world.clock.now + timedelta(seconds=300 + allowed_s))
    assert verifier.violations() == []
    world.clock.set(world.clock.now + timedelta(microseconds=1))
    assert found() == {(OVERDUE, str(world.open))}
    assert details() == ["expired at 2026-11-18 12:40:00+00"]


# --- Meters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["day", "week", "month", "total"])
@pytest.mark.parametrize("figure", ["spent", "held"])
def test_a_changed_meter(world: World, window: str, figure: str) -> None:
    name = f"{window}_{figure}"
    tamper(f"UPDATE billing_meter SET {name} = {name} + 1 WHERE key_id = %s", world.key)
    assert found() == {(METER, str(world.key))}


def test_a_meter_that_disappeared(world: World) -> None:
    tamper("DELETE FROM billing_meter WHERE key_id = %s", world.key)
    assert found() == {(METER, str(world.key))}
    assert details() == ["no meter; holds say 90 spent and 100 held"]


# --- Usage and roll-ups -----------------------------------------------------------------------


def test_a_usage_row_that_says_another_charge(world: World) -> None:
    tamper("UPDATE billing_usage SET charged = 61 WHERE hold_id = %s", world.settled)
    assert found() == {(USAGE, str(world.settled)), (ROLLUP, str(world.alice.organization_id))}
    assert "usage 61, hold 60" in details()


def test_a_usage_row_that_disappeared(world: World) -> None:
    tamper("DELETE FROM billing_usage WHERE hold_id = %s", world.late)
    assert found() == {(USAGE, str(world.late))}
    assert details() == ["usage , hold 30"]


def test_a_usage_row_under_another_organization(world: World) -> None:
    tamper("UPDATE billing_usage SET wallet_id = %s WHERE hold_id = %s", world.bob.organization_id, world.late)
    assert found() == {(USAGE, str(world.late))}


ALICES_HOUR = "wallet_id = %s AND hour = '2026-11-18 10:00+00'"


@pytest.mark.parametrize("figure", rollups.FIGURES)
def test_a_changed_roll_up(world: World, figure: str) -> None:
    tamper(f"UPDATE billing_usagehour SET {figure} = {figure} + 1 WHERE {ALICES_HOUR}", world.alice.organization_id)
    assert found() == {(ROLLUP, str(world.alice.organization_id)), (PROVIDED, "sandbox")}


def test_a_roll_up_that_disappeared(world: World) -> None:
    tamper(f"DELETE FROM billing_usagehour WHERE {ALICES_HOUR}", world.alice.organization_id)
    assert found() == {(ROLLUP, str(world.alice.organization_id)), (PROVIDED, "sandbox")}
    assert "2026-11-18 10:00:00+00 sandbox/echo: usage 1 requests, 60 charged; roll-up 0, 0" in details()


def test_usage_rolled_up_under_another_key(world: World) -> None:
    tamper(f"UPDATE billing_usagehour SET key_id = NULL WHERE {ALICES_HOUR}", world.alice.organization_id)
    assert found() == {(ROLLUP, str(world.alice.organization_id))}


@pytest.mark.parametrize(("name", "providers"), [("model", {"sandbox"}), ("provider", {"sandbox", "other"})])
def test_usage_rolled_up_under_another_name(world: World, name: str, providers: set[str]) -> None:
    tamper(f"UPDATE billing_usagehour SET {name} = 'other' WHERE {ALICES_HOUR}", world.alice.organization_id)
    assert found() == {(ROLLUP, str(world.alice.organization_id)), *((PROVIDED, provider) for provider in providers)}


@pytest.mark.parametrize("figure", rollups.FIGURES)
def test_a_changed_hour_of_a_provider(world: World, figure: str) -> None:
    tamper(f"UPDATE billing_providerhour SET {figure} = {figure} + 1 WHERE hour = '2026-11-18 10:00+00'")
    assert found() == {(PROVIDED, "sandbox")}


@pytest.mark.parametrize("figure", rollups.ATTEMPT_FIGURES)
def test_a_changed_count_of_attempts(world: World, figure: str) -> None:
    tamper(f"UPDATE billing_attempthour SET {figure} = {figure} + 1 WHERE hour = '2026-11-18 10:00+00'")
    assert found() == {(ATTEMPTED, "sandbox")}


def test_attempts_that_disappeared_from_their_call(world: World) -> None:
    tamper("UPDATE billing_usage SET attempts = '[]' WHERE hold_id = %s", world.settled)
    assert found() == {(ATTEMPTED, "sandbox")}
    assert details() == ["2026-11-18 10:00:00+00 ok: off by -1 attempts, -12 ms"]


def test_the_hour_that_still_runs_is_not_compared(world: World) -> None:
    tamper("UPDATE billing_usagehour SET charged = 7 WHERE hour = '2026-11-18 12:00+00'")
    assert verifier.violations() == []


# --- What is not of calls ---------------------------------------------------------------------


class Deeds(NamedTuple):
    """An extra charge taken, a payment of which a part went back, a voucher redeemed, a lot that expired."""

    alice: Tenant
    extra: int
    payment: UUID
    voucher: int
    lot: int


@pytest.fixture
def deeds() -> Deeds:
    clock = DatabaseClock(HALF_PAST_TEN)
    alice = Tenant(1_000)
    hold = alice.hold(100)
    do(alice.settle(hold, 60))
    extra = charge_extra(queue_extra(Hold.objects.get(pk=hold), 40, Decimal(1)).pk, actor="carol", reason="dearer")
    payment = Payment.objects.create(
        organization_id=alice.organization_id, kind="checkout", amount_cents=100, credits_micro=700
    )
    with transaction.atomic():
        account.pay(account.locked(payment.pk), 100, "usd")
    with transaction.atomic():
        marked = account.locked(payment.pk)
        marked.refunded_cents = 50
        account.settle_up(marked)
    user = create_user(f"alice-{uuid4()}@example.org")
    _, [code] = vouchers.create_batch("Spring", 1, 300, credit_days=1, created_by="carol")
    vouchers.redeem(alice.organization_id, code, user.pk)
    lot = Lot.objects.get(wallet_id=alice.organization_id)
    clock.set(datetime.now(UTC) + timedelta(days=2))
    assert lots.expire_in(alice.organization_id) == 300
    assert alice.wallet == (1_000 - 60 - 40 + 350, 0, 7)
    assert verifier.violations() == []
    return Deeds(alice, extra.pk, payment.pk, Voucher.objects.get(organization_id=alice.organization_id).pk, lot.pk)


@pytest.mark.parametrize(
    ("sql", "invariant", "of"),
    [
        ("UPDATE billing_extracharge SET taken_micro = 39 WHERE id = %s", EXTRA, "extra"),
        ("UPDATE billing_payment SET credits_micro = 701 WHERE id = %s", PAYMENT, "payment"),
        ("UPDATE billing_payment SET taken_back_micro = 300 WHERE id = %s", PAYMENT, "payment"),
        ("UPDATE billing_payment SET movements = 0 WHERE id = %s", PAYMENT, "payment"),
        ("UPDATE billing_payment SET state = 'failed', paid_at = NULL WHERE id = %s", PAYMENT, "payment"),
        ("UPDATE billing_voucher SET entry_seq = 1 WHERE id = %s", VOUCHER, "voucher"),
        ("UPDATE billing_lot SET amount = 301 WHERE id = %s", LOT, "lot"),
        ("UPDATE billing_lot SET expired = 299 WHERE id = %s", LOT, "lot"),
        ("UPDATE billing_lot SET expiries = 0 WHERE id = %s", LOT, "lot"),
    ],
)
def test_a_deed_that_its_entries_do_not_bear_out(deeds: Deeds, sql: str, invariant: str, of: str) -> None:
    tamper(sql, getattr(deeds, of))
    assert found() == {(invariant, str(getattr(deeds, of)))}


@pytest.mark.parametrize(
    ("key", "invariant", "of"),
    [("recon:%", EXTRA, "extra"), ("voucher:%", VOUCHER, "voucher"), ("expiry:%", LOT, "lot")],
)
def test_an_entry_under_another_key(deeds: Deeds, key: str, invariant: str, of: str) -> None:
    """As if it had never been posted, and something else in its place."""
    tamper(
        "UPDATE billing_entry SET idempotency_key = 'another' WHERE wallet_id = %s AND idempotency_key LIKE %s",
        deeds.alice.organization_id,
        key,
    )
    assert (invariant, str(getattr(deeds, of))) in found()


def test_an_extra_charge_that_was_given_up_and_taken_all_the_same(deeds: Deeds) -> None:
    tamper("UPDATE billing_extracharge SET state = 'waived', taken_micro = 0 WHERE id = %s", deeds.extra)
    assert found() == {(EXTRA, str(deeds.extra))}
    assert details() == ["waived, took 0, entry -40"]
