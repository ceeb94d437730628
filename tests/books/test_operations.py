"""What operators do to accounts: once, with a reason, in the audit log, and above a threshold by two of them."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import AuditEntry, Organization, User
from billing.credits import lots, operations
from billing.credits.operations import Asked
from billing.ledger import balances, journal
from billing.ledger.journal import LedgerRefused
from billing.models import Entry, Operation, Wallet
from billing.oversight import verifier
from billing.statements import monthly
from common.checks import Invalid
from tests.kit.tenants import Cast, make_cast

ABOVE = 10_000_000_001


@pytest.fixture
def credits_micro() -> int:
    return 0


@pytest.fixture
def dora(db: None) -> User:
    return User.objects.create_superuser("dora@example.com", "a long enough password")


@pytest.fixture
def emil(db: None) -> User:
    return User.objects.create_superuser("emil@example.com", "a long enough password")


def asked(cast: Cast, kind: str, amount_micro: int = 0, id: UUID | None = None, reason: str = "told by phone") -> Asked:
    return Asked(
        id=id or uuid4(),
        kind=kind,
        organization_id=cast.alice.organization_id,
        reason=reason,
        amount_micro=amount_micro,
    )


def posted(cast: Cast) -> int:
    return Wallet.objects.get(pk=cast.alice.organization_id).posted


def entries(cast: Cast) -> list[tuple[str, str, int, str, str]]:
    rows = Entry.objects.filter(wallet_id=cast.alice.organization_id).order_by("seq")
    return list(rows.values_list("kind", "contra", "amount", "actor", "reason"))


def log() -> list[tuple[str, str, str, str]]:
    rows = AuditEntry.objects.order_by("pk")
    return [(row.actor, row.action, row.details["outcome"], row.reason) for row in rows]


def test_a_grant_is_an_entry_with_its_operator_and_reason(cast, dora):
    operation = operations.request(asked(cast, "grant", 5_000), dora)
    assert (operation.state, operation.decided_by) == ("done", dora)
    assert entries(cast) == [("grant", "promotion", 5_000, "dora@example.com", "told by phone")]
    assert log() == [("dora@example.com", "account.grant", "done", "told by phone")]
    assert verifier.violations() == []


def test_the_same_form_sent_twice_is_done_once(cast, dora):
    form = asked(cast, "grant", 5_000)
    assert operations.request(form, dora).pk == operations.request(form, dora).pk
    assert posted(cast) == 5_000
    assert len(log()) == 1


def test_a_used_form_cannot_ask_for_something_else(cast, dora):
    form = asked(cast, "grant", 5_000)
    operations.request(form, dora)
    with pytest.raises(Invalid, match="open the form anew"):
        operations.request(asked(cast, "grant", 6_000, id=form.id), dora)
    assert posted(cast) == 5_000


@pytest.mark.parametrize(
    ("kind", "entry"), [("deduct", ("adjustment", "adjustment")), ("refund", ("refund", "issuance"))]
)
def test_credits_are_taken_back(cast, dora, kind, entry):
    operations.request(asked(cast, "grant", 5_000), dora)
    operations.request(asked(cast, kind, 2_000), dora)
    assert posted(cast) == 3_000
    assert entries(cast)[1][:3] == (*entry, -2_000)
    assert verifier.violations() == []


def test_more_than_there_is_cannot_be_taken_and_leaves_no_trace(cast, dora):
    with pytest.raises(LedgerRefused, match="the balance allows 0 micro-credits, 1 are asked for"):
        operations.request(asked(cast, "deduct", 1), dora)
    assert not Operation.objects.exists()
    assert log() == []


def test_above_the_threshold_a_second_operator_decides(cast, dora, emil):
    waiting = operations.request(asked(cast, "grant", ABOVE), dora)
    assert waiting.state == "waiting"
    assert posted(cast) == 0
    with pytest.raises(Invalid, match="must be another one"):
        operations.approve(waiting.pk, dora)
    done = operations.approve(waiting.pk, emil)
    assert (done.state, done.decided_by, posted(cast)) == ("done", emil, ABOVE)
    assert entries(cast)[0][3] == "dora@example.com"
    assert [line[:3] for line in log()] == [
        ("dora@example.com", "account.grant", "asks for approval"),
        ("emil@example.com", "account.grant", "done"),
    ]


def test_at_the_threshold_one_is_enough(cast, dora):
    assert operations.request(asked(cast, "grant", ABOVE - 1), dora).state == "done"


def test_a_declined_request_does_nothing_and_stays_declined(cast, dora, emil):
    waiting = operations.request(asked(cast, "grant", ABOVE), dora)
    assert operations.decline(waiting.pk, emil, "nobody knows them").state == "declined"
    assert operations.approve(waiting.pk, emil).state == "declined"
    assert posted(cast) == 0
    assert log()[-1] == ("emil@example.com", "account.grant", "declined", "nobody knows them")


def test_unlimited_takes_two_and_limited_one(cast, dora, emil):
    waiting = operations.request(asked(cast, "unlimited"), dora)
    assert (waiting.state, Wallet.objects.get(pk=cast.alice.organization_id).unlimited) == ("waiting", False)
    operations.approve(waiting.pk, emil)
    assert Wallet.objects.get(pk=cast.alice.organization_id).unlimited
    operations.request(asked(cast, "limited"), dora)
    assert not Wallet.objects.get(pk=cast.alice.organization_id).unlimited


def test_a_floor_above_the_balance_is_refused(cast, dora):
    operations.request(asked(cast, "overdraft", 700), dora)
    Wallet.objects.filter(pk=cast.alice.organization_id).update(unlimited=True)
    journal.post(cast.alice.organization_id, "adjustment", -600, actor="test", reason="test", idempotency_key="t")
    operations.request(asked(cast, "limited"), dora)
    with pytest.raises(Invalid, match="floor above its balance"):
        operations.request(asked(cast, "overdraft", 500), dora)
    wallet = Wallet.objects.get(pk=cast.alice.organization_id)
    assert (wallet.unlimited, wallet.overdraft, wallet.posted) == (False, 700, -600)


def test_suspending_and_reactivating(cast, dora):
    operations.request(asked(cast, "suspend"), dora)
    assert Organization.objects.get(pk=cast.alice.organization_id).status == "suspended"
    operations.request(asked(cast, "reactivate"), dora)
    assert Organization.objects.get(pk=cast.alice.organization_id).status == "active"
    assert Organization.objects.get(pk=cast.charlie.organization_id).status == "active"
    assert [line[1] for line in log()] == ["account.suspend", "account.reactivate"]


@pytest.mark.parametrize(
    ("kind", "amount_micro", "reason", "message"),
    [
        ("grant", 0, "why", "amount must be between 1"),
        ("grant", 2**63, "why", "amount must be between 1"),
        ("suspend", 5, "why", "amount: does not belong to suspend"),
        ("grant", 5, "  ", "reason: must not be empty"),
        ("gift", 5, "why", "kind: must be one of grant, deduct"),
    ],
)
def test_what_cannot_be_asked_is_named(cast, dora, kind, amount_micro, reason, message):
    with pytest.raises(ValueError, match=message):
        operations.request(asked(cast, kind, amount_micro, reason=reason), dora)
    assert not Operation.objects.exists()


def test_the_audit_log_cannot_be_changed(cast, dora):
    operations.request(asked(cast, "suspend"), dora)
    for sql in (
        "UPDATE accounts_auditentry SET actor = 'x'",
        "DELETE FROM accounts_auditentry",
        "TRUNCATE accounts_auditentry",
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)


def test_two_who_approve_at_the_same_moment_do_it_once(live_db):
    cast = make_cast(f"{uuid4().hex}.example")
    operators = [User.objects.create_superuser(f"{n}-{uuid4().hex}@example.com", "a long password") for n in range(3)]
    waiting = operations.request(asked(cast, "grant", ABOVE), operators[0])
    barrier = threading.Barrier(2)

    def approve(operator: User) -> None:
        barrier.wait()
        operations.approve(waiting.pk, operator)
        connection.close()

    threads = [threading.Thread(target=approve, args=(operator,)) for operator in operators[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert posted(cast) == ABOVE
    assert len(entries(cast)) == 1
    assert AuditEntry.objects.filter(organization_id=cast.alice.organization_id).count() == 2


def test_a_grant_with_an_end_is_a_lot_also_when_it_needed_a_second_operator(cast, dora, emil, settings):
    settings.APPROVAL_ABOVE_MICRO = 1_000
    until = datetime.now(UTC) + timedelta(days=3)
    small, large = (msgspec.structs.replace(asked(cast, "grant", micro), expires_at=until) for micro in (700, 5_000))
    operations.request(small, dora)
    operations.approve(operations.request(large, dora).pk, emil)
    assert [(lot.amount, lot.expires_at) for lot in lots.open_lots(cast.alice.organization_id)] == [
        (700, until),
        (5_000, until),
    ]
    operations.request(asked(cast, "refund", 900), dora)  # nothing is there that does not expire
    operations.request(asked(cast, "deduct", 100), dora)
    assert [lot.left for lot in lots.open_lots(cast.alice.organization_id)] == [4_700]
    month = monthly.statement(cast.alice.organization_id, datetime.now(UTC).year, datetime.now(UTC).month)
    moved = {kind: amount for kind, amount in month.totals.items() if amount}
    assert moved == {"grant": 5_700, "refund": -900, "adjustment": -100}
    assert (balances.balance(cast.alice.organization_id).granted, month.closing) == (4_700, 4_700)
    assert verifier.violations() == []
