"""`rebuildrollups`: every roll-up anew from usage rows, equal to the micro-credit, with the differences it found."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing.models import AttemptHour, ProviderHour, UsageHour
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from billing.usage import rollups
from tests.kit.books import at_once, do
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

TEN = datetime(2026, 11, 18, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TABLES = (UsageHour, ProviderHour, AttemptHour)
ATTEMPTS = ({"provider": "sandbox", "outcome": "ok", "milliseconds": 7},)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(TEN)


@pytest.fixture
def alice(alice: Tenant, clock: DatabaseClock) -> Tenant:
    """Three hours of calls, of which the first two are final."""
    key = alice.key()
    for hour in range(3):
        clock.set(TEN + hour * HOUR)
        call(alice, 50 + hour)
        call(alice, 7, key=key)
    clock.set(TEN + 2 * HOUR + timedelta(minutes=5))
    rollups.roll_up()
    return alice


def call(tenant: Tenant, charged: int, key: Any = None) -> None:
    used = Tokens(prompt_tokens=100, completion_tokens=20)
    hold_id = tenant.hold(charged, key=key)
    given: dict[str, Any] = {"usage": used, "cost_pico": 1_000, "attempts": ATTEMPTS, "latency_ms": 9}
    do(tenant.settle(hold_id, charged, key=key, **given))


def rebuild(**options: Any) -> dict[str, Any]:
    answer = io.StringIO()
    call_command("rebuildrollups", json=True, stdout=answer, **options)
    found: dict[str, Any] = json.loads(answer.getvalue())
    return found


def books() -> list[list[dict[str, Any]]]:
    found = []
    for table in TABLES:
        rows = table.objects.order_by("hour", "model", "provider").values()
        found.append(sorted(({**row, "id": None} for row in rows), key=str))
    return found


def test_what_is_right_stays(clock: DatabaseClock, alice: Tenant) -> None:
    before = books()
    assert rebuild() == {
        "from": "2026-11-18T10:00:00+00:00",
        "to": "2026-11-18T12:00:00+00:00",
        "rows": 4 + 2 + 2,
        "added": 0,
        "changed": 0,
        "removed": 0,
        "not_final": 0,
    }
    assert books() == before


def test_what_is_missing_wrong_or_too_much_is_found_and_mended(clock: DatabaseClock, alice: Tenant) -> None:
    before = books()
    UsageHour.objects.filter(hour=TEN, key=None).delete()
    UsageHour.objects.filter(hour=TEN + HOUR, key=None).update(charged=1, latency_ms=1)
    [row] = UsageHour.objects.filter(hour=TEN + HOUR).exclude(key=None)
    UsageHour.objects.filter(pk=row.pk).update(model="another")
    AttemptHour.objects.filter(hour=TEN).update(milliseconds=1)
    assert len(verifier.violations()) > 0
    done = rebuild()
    assert {name: done[name] for name in ("rows", "added", "changed", "removed")} == {
        "rows": 8,
        "added": 2,
        "changed": 2,
        "removed": 1,
    }
    assert books() == before
    assert verifier.violations() == []


def test_everything_can_be_rebuilt_from_nothing(clock: DatabaseClock, alice: Tenant) -> None:
    before = books()
    for table in TABLES:
        table.objects.all().delete()
    done = rebuild()
    assert (done["added"], done["not_final"]) == (8, 2)
    assert books() == before


def test_a_span_is_widened_to_whole_hours(clock: DatabaseClock, alice: Tenant) -> None:
    UsageHour.objects.all().delete()
    done = rebuild(start="2026-11-18T10:30", end="2026-11-18T10:31:00+00:00")
    assert (done["from"], done["to"]) == ("2026-11-18T10:00:00+00:00", "2026-11-18T11:00:00+00:00")
    assert set(UsageHour.objects.values_list("hour", flat=True)) == {TEN, TEN + 2 * HOUR}, "and what is not final"


def test_a_roll_up_before_the_first_call_is_removed(clock: DatabaseClock, alice: Tenant) -> None:
    before = books()
    [row] = UsageHour.objects.filter(hour=TEN, key=None)
    row.pk, row.hour = None, TEN - 72 * HOUR
    row.save()
    assert rebuild()["removed"] == 1
    assert books() == before


def test_before_any_call_there_is_nothing_to_do(clock: DatabaseClock) -> None:
    assert rebuild()["rows"] == 0


def test_a_time_that_is_none_is_named(db: None) -> None:
    with pytest.raises(CommandError, match=r"--to must be a date or a time such as .*, not 'soon'"):
        rebuild(end="soon")


def test_hours_whose_rows_were_dropped_stay(clock: DatabaseClock, alice: Tenant) -> None:
    before = books()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_usage WHERE recorded_at < %s", [TEN + HOUR])
        cursor.execute(
            "INSERT INTO billing_usageretention (id, holds_from, hours_from) VALUES (1, %s, %s)", [TEN, TEN + HOUR]
        )
    assert rebuild()["from"] == "2026-11-18T11:00:00+00:00"
    assert books() == before


def test_three_at_once_beside_roll_ups_change_nothing(live_db: None) -> None:
    tenant = Tenant(1_000)
    for _ in range(3):
        call(tenant, 50)
    rollups.roll_up()
    at_once([rollups.rebuild, rollups.roll_up, rollups.rebuild, rollups.roll_up])
    [row] = UsageHour.objects.filter(wallet_id=tenant.organization_id)
    assert (row.requests, row.charged) == (3, 150)
    assert verifier.violations() == []
