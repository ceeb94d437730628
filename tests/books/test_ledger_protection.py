"""What the database refuses, whatever the code does: raw SQL, the ORM and `queryset.update()` alike."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from billing.models import Entry, Hold, Price, Wallet
from billing.oversight import verifier
from tests.kit.books import do, hold_row, make_hold_id
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return Tenant(1_000)


def refused(sql: str, *params: Any) -> str:
    """Why the database would not do it; the transaction goes on."""
    with pytest.raises(DatabaseError) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)
    return str(refusal.value).splitlines()[0]


def refused_truncate(table: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # waiting foreign keys would be the reason instead
    return refused(f"TRUNCATE {table} CASCADE")


def refused_by_orm(act: Callable[[], object]) -> str:
    with pytest.raises((DatabaseError, ProtectedError)) as refusal, transaction.atomic():
        act()
    return str(refusal.value).splitlines()[0]


# --- Entries and prices are only added --------------------------------------------------------


@pytest.mark.parametrize("table", ["billing_entry", "billing_price"])
def test_rows_cannot_be_changed_deleted_or_truncated(tenant: Tenant, table: str) -> None:
    assert refused(f"UPDATE {table} SET created_at = now()") == f"{table} is append-only: UPDATE refused"
    assert refused(f"DELETE FROM {table}") == f"{table} is append-only: DELETE refused"
    # CASCADE reaches the tables that point here, entries first of all.
    assert refused_truncate(table).endswith("is append-only: TRUNCATE refused")
    assert tenant.entries() == [(1, "purchase", 1_000, 1_000)]


def test_an_entry_cannot_be_changed_through_the_orm(tenant: Tenant) -> None:
    entry = Entry.objects.get(wallet_id=tenant.organization_id)
    entry.amount = 2_000
    update = "billing_entry is append-only: UPDATE refused"
    assert refused_by_orm(entry.save) == update
    assert refused_by_orm(lambda: Entry.objects.filter(pk=entry.pk).update(reason="")) == update
    assert refused_by_orm(lambda: Entry.objects.bulk_update([entry], ["amount"])) == update
    assert refused_by_orm(entry.delete) == "billing_entry is append-only: DELETE refused"
    assert refused_by_orm(Entry.objects.all().delete) == "billing_entry is append-only: DELETE refused"
    assert tenant.entries() == [(1, "purchase", 1_000, 1_000)]


def test_a_price_cannot_be_changed_through_the_orm(tenant: Tenant) -> None:
    price = Price.objects.get(pk=tenant.price_id)
    price.rates = {"input": "0.000000", "output": "0.000000"}
    assert refused_by_orm(price.save) == "billing_price is append-only: UPDATE refused"
    assert (
        refused_by_orm(lambda: Price.objects.update(rates={"input": "1.000000", "output": "0.000000"}))
        == "billing_price is append-only: UPDATE refused"
    )
    assert refused_by_orm(price.delete) == "billing_price is append-only: DELETE refused"
    assert Price.objects.get(pk=tenant.price_id).usd == {"input": Decimal(1), "output": Decimal(2)}


# --- Holds resolve once -----------------------------------------------------------------------


def settled(tenant: Tenant) -> UUID:
    hold = tenant.hold(100)
    do(tenant.settle(hold, 60))
    return hold


def voided(tenant: Tenant) -> UUID:
    hold = tenant.hold(100)
    do(tenant.void(hold))
    return hold


def charged_late(tenant: Tenant) -> UUID:
    hold = expired(tenant)
    do(tenant.settle(hold, 60))
    return hold


def expired(tenant: Tenant) -> UUID:
    hold = tenant.hold(100, life_s=-1)
    do(tenant.expire(hold))
    return hold


@pytest.mark.parametrize("resolved", [settled, voided, charged_late])
def test_a_resolved_hold_stays_as_it_is(tenant: Tenant, resolved: Callable[[Tenant], UUID]) -> None:
    hold = resolved(tenant)
    before = hold_row(hold)
    for change in ("state = 'open'", "charged = 0", "actual = 1", "amount = 0", "resolved_at = now()"):
        said = refused(f"UPDATE billing_hold SET {change} WHERE id = %s", hold)
        assert said == f"hold {hold} is {before[0]} and stays as it is"
    assert refused_by_orm(lambda: Hold.objects.filter(pk=hold).update(actual=7)).endswith("stays as it is")
    assert hold_row(hold) == before


def test_an_expired_hold_may_only_be_charged(tenant: Tenant) -> None:
    hold = expired(tenant)
    for change in ("state = 'open', resolved_at = NULL", "state = 'settled', charged = 1, actual = 1", "amount = 1"):
        said = refused(f"UPDATE billing_hold SET {change} WHERE id = %s", hold)
        assert said == f"hold {hold} is expired and stays as it is"
    do(tenant.settle(hold, 60))
    assert hold_row(hold) == ("expired", 100, 60, 60)


def test_a_hold_cannot_be_deleted(tenant: Tenant) -> None:
    hold = tenant.hold(100)
    said = "billing_hold is append-only: DELETE refused"
    assert refused("DELETE FROM billing_hold WHERE id = %s", hold) == said
    assert refused_by_orm(Hold.objects.get(pk=hold).delete) == said
    assert refused_truncate("billing_hold") == "billing_entry is append-only: TRUNCATE refused"
    assert hold_row(hold) == ("open", 100, None, None)


def test_what_an_organization_owes_its_history_to_cannot_be_deleted(tenant: Tenant) -> None:
    wallet = Wallet.objects.get(pk=tenant.organization_id)
    assert refused_by_orm(wallet.delete).startswith("(\"Cannot delete some instances of model 'Wallet'")
    assert refused_by_orm(wallet.organization.delete).startswith(
        "(\"Cannot delete some instances of model 'Organization'"
    )


# --- Constraints ------------------------------------------------------------------------------


def test_a_limited_wallet_cannot_be_below_its_floor(tenant: Tenant) -> None:
    change = "UPDATE billing_wallet SET {} WHERE organization_id = %s"
    assert "wallet_above_floor" in refused(change.format("posted = -1"), tenant.organization_id)
    assert "wallet_above_floor" in refused(change.format("held = 1001"), tenant.organization_id)
    assert "wallet_held_not_negative" in refused(change.format("held = -1"), tenant.organization_id)
    assert "wallet_overdraft_not_negative" in refused(change.format("overdraft = -1"), tenant.organization_id)
    with connection.cursor() as cursor:
        cursor.execute(change.format("overdraft = 500, posted = 0, held = 500"), [tenant.organization_id])
    assert "wallet_above_floor" in refused(change.format("overdraft = 499"), tenant.organization_id)
    assert "wallet_above_floor" in refused_by_orm(
        lambda: Wallet.objects.filter(pk=tenant.organization_id).update(held=501)
    )


def test_an_unlimited_wallet_may_be_below_zero_and_not_limited_again_there() -> None:
    rich = Tenant(unlimited=True)
    do(rich.settle(rich.hold(10), 700))
    assert rich.wallet == (-700, 0, 1)
    limit = "UPDATE billing_wallet SET unlimited = false WHERE organization_id = %s"
    assert "wallet_above_floor" in refused(limit, rich.organization_id)


HOLD = {
    "amount": 100,
    "state": "open",
    "actual": None,
    "charged": None,
    "resolved_at": None,
}


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"amount": -1}, "hold_amount_not_negative"),
        ({"state": "settled", "resolved_at": "now", "actual": 5, "charged": 6}, "hold_charged_within_actual"),
        ({"state": "settled", "resolved_at": "now", "actual": 5, "charged": -1}, "hold_charged_within_actual"),
        ({"state": "settled", "resolved_at": "now", "charged": 5}, "hold_charged_within_actual"),
        ({"state": "settled", "resolved_at": "now"}, "hold_state_consistent"),
        ({"state": "settled", "actual": 5, "charged": 5}, "hold_state_consistent"),
        ({"state": "open", "resolved_at": "now"}, "hold_state_consistent"),
        ({"state": "open", "actual": 5, "charged": 5}, "hold_state_consistent"),
        ({"state": "voided"}, "hold_state_consistent"),
        ({"state": "voided", "resolved_at": "now", "actual": 5, "charged": 5}, "hold_state_consistent"),
        ({"state": "expired"}, "hold_state_consistent"),
        ({"state": "lost", "resolved_at": "now"}, "hold_state_consistent"),
    ],
)
def test_a_hold_that_contradicts_itself_is_refused(tenant: Tenant, changes: dict[str, Any], constraint: str) -> None:
    now = timezone.now()
    row = HOLD | {name: now if value == "now" else value for name, value in changes.items()}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Hold.objects.create(
            id=make_hold_id(),
            wallet_id=tenant.organization_id,
            model="m",
            price_id=tenant.price_id,
            created_at=now,
            expires_at=now + timedelta(minutes=1),
            **row,
        )


ENTRY = {
    "seq": 2,
    "kind": "purchase",
    "contra": "issuance",
    "amount": 5,
    "balance_after": 1_005,
    "actor": "alice",
    "reason": "because",
}


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"seq": 1}, "entry_seq_once"),
        ({"idempotency_key": "opening"}, "entry_idempotent"),
        ({"kind": "grant", "actor": ""}, "entry_names_actor_and_reason"),
        ({"kind": "adjustment", "reason": ""}, "entry_names_actor_and_reason"),
        ({"kind": "correction", "actor": "", "reason": ""}, "entry_names_actor_and_reason"),
        ({"kind": "usage", "amount": -5}, "entry_usage_takes_from_a_hold"),
        ({"kind": "late_usage", "amount": -5}, "entry_usage_takes_from_a_hold"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused(tenant: Tenant, changes: dict[str, Any], constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Entry.objects.create(wallet_id=tenant.organization_id, created_at=timezone.now(), **(ENTRY | changes))


@pytest.mark.parametrize("kind", ["usage", "late_usage"])
def test_a_call_is_charged_once_whatever_the_code_does(tenant: Tenant, kind: str) -> None:
    hold = settled(tenant)
    again = ENTRY | {"seq": 3, "kind": kind, "contra": "revenue", "amount": -1, "balance_after": 939}
    with pytest.raises(IntegrityError, match="entry_call_charged_once"), transaction.atomic():
        Entry.objects.create(wallet_id=tenant.organization_id, hold_id=hold, created_at=timezone.now(), **again)


def test_a_usage_entry_never_gives(tenant: Tenant) -> None:
    gift = ENTRY | {"kind": "usage", "contra": "revenue", "amount": 1}
    with pytest.raises(IntegrityError, match="entry_usage_takes_from_a_hold"), transaction.atomic():
        Entry.objects.create(
            wallet_id=tenant.organization_id, hold_id=tenant.hold(1), created_at=timezone.now(), **gift
        )


def test_after_all_the_attempts_the_books_are_right(tenant: Tenant) -> None:
    for resolved in (settled, voided, expired, charged_late):
        hold = resolved(tenant)
        refused("DELETE FROM billing_hold WHERE id = %s", hold)
        refused("DELETE FROM billing_entry")
    assert tenant.wallet == (880, 0, 3)
    assert verifier.violations() == []
