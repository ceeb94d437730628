"""Incremental runs of the verifier: from the last run that found everything right, and never past a violation."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing.models import MeterCheckpoint, VerifierRun, WalletCheckpoint
from billing.oversight import verifier
from billing.usage import rollups
from tests.kit.books import at_once, do, make_hold_id
from tests.kit.clock import DatabaseClock
from tests.kit.tampering import drop_protection, tamper
from tests.kit.tenants import Tenant

TEN = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
LONG_AGO = TEN - timedelta(days=3)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(LONG_AGO)


@pytest.fixture
def credits_micro() -> int:
    return 1_000


@pytest.fixture
def alice(alice: Tenant, clock: DatabaseClock) -> Tenant:
    """Two calls three days ago, below the checkpoint, and nothing since."""
    key = alice.key()
    for _ in range(2):
        call(alice, clock, 50, key)
    clock.set(LONG_AGO + timedelta(hours=2))
    rollups.roll_up()
    clock.set(TEN - timedelta(minutes=1))
    assert seen(incremental=False) == (0, 3)
    clock.set(TEN)
    drop_protection()
    return alice


def call(tenant: Tenant, clock: DatabaseClock, charged: int, key: UUID | None = None) -> UUID:
    hold_id = tenant.hold(charged, key=key, hold_id=make_hold_id(clock.now))
    do(tenant.settle(hold_id, charged, key=key))
    return hold_id


def seen(*, incremental: bool = True) -> tuple[int, int]:
    """(violations, entries read)"""
    result = verifier.run(incremental=incremental)
    assert result is not None
    return len(result.violations), result.entries


def found() -> list[str]:
    result = verifier.run(incremental=True)
    assert result is not None
    return [violation.invariant for violation in result.violations]


def test_an_incremental_run_reads_what_is_new(clock: DatabaseClock, alice: Tenant) -> None:
    assert seen() == (0, 0)
    call(alice, clock, 10)
    call(Tenant(500), clock, 10)
    assert seen() == (0, 3)
    assert seen() == (0, 0)


def test_checkpoints_are_where_the_wallets_are(clock: DatabaseClock, alice: Tenant) -> None:
    key = alice.key()
    call(alice, clock, 10, key)
    seen()
    assert WalletCheckpoint.objects.values_list("seq", "posted").get(pk=alice.organization_id) == (4, 890)
    assert MeterCheckpoint.objects.get(pk=key).total_spent == 10


@pytest.mark.parametrize(
    ("sql", "invariants"),
    [
        ("UPDATE billing_entry SET amount = amount + 1 WHERE id = %(entry)s", 5),
        ("UPDATE billing_entry SET balance_after = 0 WHERE id = %(entry)s", 1),
        ("UPDATE billing_entry SET contra = 'promotion' WHERE id = %(entry)s", 1),
        ("DELETE FROM billing_entry WHERE id = %(entry)s", 5),
        ("UPDATE billing_hold SET charged = charged - 1 WHERE id = %(hold)s", 2),
        ("UPDATE billing_usage SET charged = charged - 1 WHERE hold_id = %(hold)s", 1),
        ("DELETE FROM billing_usage WHERE hold_id = %(hold)s", 1),
        ("UPDATE billing_wallet SET posted = posted + 1 WHERE organization_id = %(wallet)s", 2),
        ("UPDATE billing_wallet SET held = held + 1 WHERE organization_id = %(wallet)s", 1),
        ("UPDATE billing_wallet SET seq = seq + 1 WHERE organization_id = %(wallet)s", 1),
        ("UPDATE billing_meter SET total_spent = total_spent + 1 WHERE key_id = %(key)s", 1),
        ("UPDATE billing_meter SET total_held = total_held + 1 WHERE key_id = %(key)s", 1),
    ],
)
def test_what_is_tampered_with_above_the_checkpoint_is_found_by_both(
    clock: DatabaseClock, alice: Tenant, sql: str, invariants: int
) -> None:
    key = alice.key()
    hold_id = call(alice, clock, 50, key)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM billing_entry WHERE hold_id = %s", [hold_id])
        [entry] = cursor.fetchone()
        cursor.execute(sql, {"entry": entry, "hold": hold_id, "wallet": alice.organization_id, "key": key})
        assert cursor.rowcount == 1
    incremental, complete = set(found()), {violation.invariant for violation in verifier.violations()}
    assert complete ^ incremental <= {"a meter is the sum of its windows' holds"}, (
        "compared with holds, or with entries"
    )
    assert len(incremental) == invariants


def test_an_hour_is_compared_when_it_becomes_final(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, clock, 50)
    clock.set(TEN + timedelta(hours=1, minutes=5))
    rollups.roll_up()
    tamper("UPDATE billing_usagehour SET charged = 49 WHERE hour = %s", TEN)
    assert found() == ["roll-ups are the sums of usage", "providers' hours are the sums of roll-ups"]


def test_what_is_tampered_with_below_the_checkpoint_is_the_complete_runs(clock: DatabaseClock, alice: Tenant) -> None:
    tamper("UPDATE billing_entry SET balance_after = 7 WHERE wallet_id = %s AND seq = 2", alice.organization_id)
    assert seen() == (0, 0)
    assert seen(incremental=False)[0] == 2


def test_nothing_is_renewed_while_something_is_wrong(clock: DatabaseClock, alice: Tenant) -> None:
    call(alice, clock, 10)
    tamper("UPDATE billing_entry SET contra = 'promotion' WHERE wallet_id = %s AND seq = 4", alice.organization_id)
    for _ in range(2):
        assert found() == ["an entry names the account of its kind"]
    assert WalletCheckpoint.objects.get(pk=alice.organization_id).seq == 3
    tamper("UPDATE billing_entry SET contra = 'revenue' WHERE wallet_id = %s AND seq = 4", alice.organization_id)
    assert seen() == (0, 1)
    assert WalletCheckpoint.objects.get(pk=alice.organization_id).seq == 4


def test_a_call_that_is_settled_long_after_the_checkpoint_is_looked_at(clock: DatabaseClock, alice: Tenant) -> None:
    """Its hold is old, and below what is recent: its new entry leads to it."""
    clock.set(LONG_AGO)
    hold_id = alice.hold(50, hold_id=make_hold_id(LONG_AGO))
    clock.set(TEN)
    do(alice.expire(hold_id))
    assert seen() == (0, 0)
    do(alice.settle(hold_id, 30))
    tamper("UPDATE billing_usage SET charged = 29 WHERE hold_id = %s", hold_id)
    assert found() == ["usage says what was charged"]


def test_a_hold_settled_in_its_row_only_is_found(clock: DatabaseClock, alice: Tenant) -> None:
    hold_id = alice.hold(50, hold_id=make_hold_id(clock.now))
    assert seen() == (0, 0)
    settled = "UPDATE billing_hold SET state = 'settled', resolved_at = now(), actual = 1, charged = 1 WHERE id = %s"
    tamper(settled, hold_id)
    assert found() == [
        "held is the sum of open holds",
        "a settled call has one usage entry of what it was charged",
        "usage says what was charged",
    ]


# --- What is kept of a run ------------------------------------------------------------------------


def test_a_run_keeps_what_it_found(clock: DatabaseClock, alice: Tenant) -> None:
    tamper("UPDATE billing_wallet SET held = 5 WHERE organization_id = %s", alice.organization_id)
    seen()
    kept = VerifierRun.objects.latest("pk")
    assert (kept.kind, kept.wallets, kept.entries, kept.violations, kept.error) == ("incremental", 1, 0, 1, "")
    assert kept.started_at == kept.finished_at == TEN
    assert kept.first_violations == [
        {
            "invariant": "held is the sum of open holds",
            "subject": str(alice.organization_id),
            "detail": "held 5, open holds 0",
        }
    ]


def test_a_run_that_cannot_end_is_kept_as_such(
    clock: DatabaseClock, alice: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "SHARED", "nonsense AS (SELECT 1 / 0 AS x), " + verifier.SHARED)
    monkeypatch.setattr(verifier, "RESULT", "SELECT NULL, NULL, NULL, x, x, now() FROM nonsense")
    with pytest.raises(Exception, match="division by zero"):
        verifier.run()
    kept = VerifierRun.objects.latest("pk")
    assert kept.error.startswith("DataError: division by zero")
    assert kept.kind == "complete"


def test_old_runs_are_forgotten(clock: DatabaseClock, alice: Tenant) -> None:
    clock.set(TEN + verifier.RUNS_KEPT + timedelta(seconds=1))
    seen()
    assert VerifierRun.objects.count() == 1


def test_looking_writes_nothing(clock: DatabaseClock, alice: Tenant) -> None:
    runs = VerifierRun.objects.count()
    with CaptureQueriesContext(connection) as queries:
        assert verifier.violations() == []
    assert len(queries) == 1
    assert (VerifierRun.objects.count(), WalletCheckpoint.objects.count()) == (runs, 1)


def test_the_command_runs_either_kind(clock: DatabaseClock, alice: Tenant) -> None:
    call_command("verifyledger", incremental=True)
    assert VerifierRun.objects.latest("pk").kind == "incremental"
    tamper("UPDATE billing_wallet SET held = 5 WHERE organization_id = %s", alice.organization_id)
    with pytest.raises(CommandError, match="the ledger has 1 violations"):
        call_command("verifyledger")
    assert VerifierRun.objects.latest("pk").kind == "complete"


def test_three_runs_at_once_take_turns_or_leave(live_db: None) -> None:
    tenant = Tenant(1_000)
    results = at_once([lambda: verifier.run(incremental=True)] * 2 + [lambda: verifier.run(wait=False)])
    assert [result.violations for result in results if result is not None and result.violations] == []
    assert results[0] is not None
    assert results[1] is not None
    assert WalletCheckpoint.objects.get(pk=tenant.organization_id).seq == 1


def test_somebody_elses_run_is_not_waited_for(live_db: None) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(verifier.WAIT_FOR_TURN)
        assert at_once([lambda: verifier.run(wait=False)]) == [None]
