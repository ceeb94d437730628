"""Usage by month: partitions made ahead, a settlement that fails for none, and old months dropped as a whole."""

from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.apps import apps
from django.db import connection

from billing.models import Usage, UsageHour, UsageRetention
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from billing.usage import partitions, receipts, report, rollups
from common.ids import generation_id
from tests.kit.books import at_once, do, make_hold_id
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

FAR = datetime(2031, 5, 17, 12, 0, tzinfo=UTC)
MAY, JUNE, JULY = date(2031, 5, 1), date(2031, 6, 1), date(2031, 7, 1)
TOKENS = Tokens(prompt_tokens=100, completion_tokens=20)
FOREIGN_KEYS = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confrelid = 'billing_usage'::regclass"


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(FAR)


def call(tenant: Tenant, at: datetime, charged: int = 50, **given: Any) -> UUID:
    hold_id = tenant.hold(charged, hold_id=make_hold_id(at))
    do(tenant.settle(hold_id, charged, usage=TOKENS, cost_pico=1_000, **given))
    run("SET CONSTRAINTS ALL IMMEDIATE")  # as a commit does: a table with checks ahead of it cannot be dropped
    return hold_id


def partition_of(hold_id: UUID) -> str:
    [name] = column("SELECT tableoid::regclass::text FROM billing_usage WHERE hold_id = %s", hold_id)
    return str(name)


def column(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [value for (value,) in cursor.fetchall()]


def test_this_month_and_the_next_three_are_there_after_migrating(db: None) -> None:
    this = partitions.today().replace(day=1)
    assert set(partitions.months()) >= {partitions.month_after(this, ahead) for ahead in range(4)}
    assert partitions.ensure_ahead() == []


def test_months_are_made_ahead_of_time_and_once(clock: DatabaseClock) -> None:
    assert partitions.ensure_ahead(months_ahead=2) == [MAY, JUNE, JULY]
    assert partitions.ensure_ahead(months_ahead=2) == []
    clock.set(datetime(2031, 12, 31, 23, 59, tzinfo=UTC))
    assert partitions.ensure_ahead(months_ahead=1) == [date(2031, 12, 1), date(2032, 1, 1)]


def test_a_call_is_in_the_month_of_its_id(clock: DatabaseClock) -> None:
    partitions.ensure_ahead()
    alice = Tenant(1_000)
    last = call(alice, datetime(2031, 5, 31, 23, 59, 59, 999_000, tzinfo=UTC))
    first = call(alice, datetime(2031, 6, 1, tzinfo=UTC))
    assert (partition_of(last), partition_of(first)) == ("billing_usage_2031_05", "billing_usage_2031_06")


@pytest.mark.parametrize(
    "hold_id",
    [
        pytest.param(UUID(int=5), id="the first month there is"),
        pytest.param(UUID(int=(1 << 128) - 1), id="the last one"),
        pytest.param(UUID(int=7, version=4), id="no time in it"),
        pytest.param(make_hold_id(FAR), id="a month without a partition"),
    ],
)
def test_a_settlement_never_fails_for_a_missing_partition(clock: DatabaseClock, hold_id: UUID) -> None:
    alice = Tenant(1_000)
    do(alice.settle(alice.hold(50, hold_id=hold_id), 50))
    assert partition_of(hold_id).startswith("billing_usage_")
    assert Usage.objects.get(pk=hold_id).charged == 50


def test_a_late_partition_takes_what_went_to_the_default_one(clock: DatabaseClock) -> None:
    alice = Tenant(1_000)
    hold_id, other = call(alice, FAR), call(alice, FAR + timedelta(days=300))
    assert partition_of(hold_id) == partition_of(other) == "billing_usage_default"
    partitions.ensure_ahead(months_ahead=0)
    assert partition_of(hold_id) == "billing_usage_2031_05"
    assert partition_of(other) == "billing_usage_default"
    assert verifier.violations() == []


def test_a_look_up_by_id_reads_one_partition(clock: DatabaseClock) -> None:
    partitions.ensure_ahead()
    plan = column("EXPLAIN SELECT * FROM billing_usage WHERE hold_id = %s", make_hold_id(FAR))
    assert any("billing_usage_2031_05" in line for line in plan)
    assert not any("billing_usage_2031_06" in line or "default" in line for line in plan)


def test_a_partition_has_what_the_table_has(clock: DatabaseClock) -> None:
    """Indexes, the foreign key to its hold, and nothing that points to usage."""
    partitions.ensure_ahead()
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass"
    assert column(indexes, "billing_usage_2031_05") == column(indexes, "billing_usage") == [6]
    assert column(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'billing_usage_2031_05'::regclass AND contype = 'f'"
    ) == [1]
    assert column(FOREIGN_KEYS) == [0]
    pointing = [
        f for model in apps.get_models() for f in model._meta.get_fields() if f.related_model is Usage and f.concrete
    ]
    assert pointing == []


def test_three_at_once_make_a_month_once(live_db: None) -> None:
    month = date(2042, 2, 1)

    def add() -> object:
        with connection.cursor() as cursor:
            cursor.execute(partitions.ADD, [month])
            return cursor.fetchone()[0]

    assert sorted(map(str, at_once([add] * 3))) == ["False", "False", "True"]
    run("DROP TABLE billing_usage_2042_02")


def test_who_holds_the_lock_is_not_waited_for(live_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PAUSE_S", 0.0)
    with other_session() as session:
        session.execute("LOCK TABLE billing_usage_default IN ROW EXCLUSIVE MODE")
        assert partitions._patiently(partitions.ADD, date(2042, 3, 1)) is None
    assert date(2042, 3, 1) not in partitions.months()


class other_session:
    """Somebody else's open transaction."""

    def __enter__(self) -> psycopg.Connection:
        self.connection = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.rollback()
        self.connection.close()


# --- Retention ------------------------------------------------------------------------------------


@pytest.fixture
def months(clock: DatabaseClock) -> tuple[Tenant, list[UUID]]:
    """A call in May, June and July, all rolled up, seen from August."""
    alice = Tenant(1_000)
    partitions.ensure_ahead()
    holds = []
    for month in (MAY, JUNE, JULY):
        clock.set(datetime(month.year, month.month, 17, 12, 0, tzinfo=UTC))
        holds.append(call(alice, clock.now))
    clock.set(datetime(2031, 8, 2, tzinfo=UTC))
    rollups.roll_up()
    assert verifier.violations() == []
    return alice, holds


def test_months_beyond_the_retention_are_dropped_and_the_books_stay_right(
    clock: DatabaseClock, months: tuple[Tenant, list[UUID]]
) -> None:
    alice, holds = months
    hours = list(UsageHour.objects.order_by("hour").values())
    assert partitions.retire(1).months[-2:] == [MAY, JUNE]
    assert MAY not in partitions.months()
    assert JULY in partitions.months()
    assert set(Usage.objects.filter(wallet_id=alice.organization_id).values_list("pk", flat=True)) == {holds[2]}
    kept = UsageRetention.objects.get()
    assert kept.holds_from == kept.hours_from == datetime(2031, 7, 1, tzinfo=UTC)
    assert verifier.violations() == []
    rollups.rebuild()
    assert list(UsageHour.objects.order_by("hour").values()) == hours
    assert partitions.retire(1) == partitions.Dropped([], [])


def test_the_receipt_of_a_dropped_call_answers_from_its_hold(months: tuple[Tenant, list[UUID]]) -> None:
    alice, holds = months
    partitions.drop_before(JUNE)
    receipt = receipts.receipt(alice.organization_id, generation_id(holds[0]))
    assert receipt is not None
    assert (receipt.usage, receipt.status, receipt.hold.charged, receipt.balance) == (None, "settled", 50, 950)


def test_a_report_over_dropped_months_has_their_figures(
    clock: DatabaseClock, months: tuple[Tenant, list[UUID]]
) -> None:
    alice, _ = months
    span = report.Span(datetime(2031, 5, 1, tzinfo=UTC), clock.now, report.ZoneInfo("UTC"))
    before = report.report(alice.organization_id, None, span, "model", clock.now)
    partitions.drop_before(JULY)
    assert report.report(alice.organization_id, None, span, "model", clock.now) == before
    assert before.total.credits_used == 150


def test_nothing_is_dropped_without_a_retention(months: tuple[Tenant, list[UUID]]) -> None:
    assert partitions.retire(0) == partitions.Dropped([], [])
    assert MAY in partitions.months()


def test_a_month_that_is_not_rolled_up_stays(clock: DatabaseClock, months: tuple[Tenant, list[UUID]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_rollupstate SET through = %s", [datetime(2031, 6, 17, 12, 59, tzinfo=UTC)])
    found = partitions.drop_before(JULY)
    assert found.months[-1] == MAY
    assert found.kept == [partitions.Kept(JUNE, "its calls are not all rolled up")]


@pytest.mark.parametrize("state", ["pending", "queued"])
def test_a_month_with_a_call_that_waits_stays(months: tuple[Tenant, list[UUID]], state: str) -> None:
    _, holds = months
    Usage.objects.filter(pk=holds[0]).update(reconciliation=state)
    found = partitions.drop_before(JULY)
    assert found.kept == [partitions.Kept(MAY, "it has calls that wait for reconciliation or an operator")]
    assert Usage.objects.filter(pk=holds[0]).exists()


def test_a_month_that_is_not_over_is_never_dropped(clock: DatabaseClock) -> None:
    partitions.ensure_ahead(months_ahead=1)
    clock.set(datetime(2031, 5, 31, 23, 59, tzinfo=UTC))
    partitions.drop_before(date(2031, 7, 1))
    assert partitions.months() == [MAY, JUNE]


def test_a_call_settled_long_after_its_month_moves_the_boundary_of_hours(
    clock: DatabaseClock, months: tuple[Tenant, list[UUID]]
) -> None:
    alice, _ = months
    clock.set(datetime(2031, 8, 3, 9, 30, tzinfo=UTC))
    call(alice, datetime(2031, 5, 20, tzinfo=UTC))
    clock.set(datetime(2031, 8, 4, tzinfo=UTC))
    rollups.roll_up()
    partitions.drop_before(JUNE)
    kept = UsageRetention.objects.get()
    assert kept.holds_from == datetime(2031, 6, 1, tzinfo=UTC)
    assert kept.hours_from == datetime(2031, 8, 3, 10, tzinfo=UTC)
    assert verifier.violations() == []


# --- The migration --------------------------------------------------------------------------------

MIGRATION = import_module("billing.migrations.0020_usage_by_month")
LATER = import_module("billing.migrations.0026_fewer_indexes")


def test_a_table_with_rows_is_converted_and_back(db: None) -> None:
    alice = Tenant(1_000)
    times = (datetime.now(UTC), datetime(2024, 2, 29, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
    recent, old, odd = [call(alice, at) for at in times]
    rows = list(Usage.objects.order_by("pk").values())
    run(LATER.USAGE_WITH + MIGRATION.JOIN_AGAIN)
    assert column("SELECT relkind FROM pg_class WHERE oid = 'billing_usage'::regclass") == ["r"]
    assert list(Usage.objects.order_by("pk").values()) == rows
    run(MIGRATION.PARTITION + LATER.USAGE_WITHOUT)
    assert list(Usage.objects.order_by("pk").values()) == rows
    found = [partition_of(hold_id) for hold_id in (recent, old, odd)]
    assert found == [f"billing_usage_{datetime.now(UTC):%Y_%m}", "billing_usage_2024_02", "billing_usage_default"]
    assert len(rows) == 3


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, None)
