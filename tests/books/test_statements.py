"""Monthly statements: exact at every border, in any mix of roll-ups and rows, as CSV and as PDF."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import Organization
from billing.models import Entry, Wallet
from billing.notices.models import Notification
from billing.statements import files, monthly, pdf
from billing.statements.monthly import Line, ModelTotal
from billing.usage import rollups
from common.checks import Invalid
from common.numbers import fixed_credits
from tests.kit.books import do
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(OCTOBER - timedelta(days=1))


@pytest.fixture
def credits_micro() -> int:
    return 0


def call(tenant: Tenant, charged: int, model: str = "sandbox/echo") -> None:
    do(tenant.settle(tenant.hold(charged), charged, model=model))


def october(tenant: Tenant, clock: DatabaseClock) -> None:
    """A month with everything in it, whose first and last instants carry movements."""
    do(tenant.post(10_000_000, kind="purchase", reason="before"))
    clock.set(OCTOBER - INSTANT)
    call(tenant, 1_000)
    clock.set(OCTOBER)
    call(tenant, 20)
    clock.set(OCTOBER + timedelta(days=2, hours=3))
    call(tenant, 300, "sandbox/other")
    call(tenant, 4_000)
    do(tenant.post(50_000, kind="grant", reason="welcome"))
    do(tenant.post(-7, kind="adjustment", reason="a slip"))
    do(tenant.post(-60_000, kind="refund", reason="card 4242"))
    clock.set(OCTOBER + timedelta(days=9))
    call(tenant, 5)
    clock.set(OCTOBER + timedelta(days=20))
    do(tenant.post(-9, kind="expiry", reason="promotion"))
    hold = tenant.hold(70)
    do(tenant.settle(hold, 70))
    for key in "ab":
        do(tenant.post(11, kind="correction", reason="billed less", hold_id=hold, idempotency_key=key))
    clock.set(NOVEMBER - INSTANT)
    call(tenant, 1)
    clock.set(NOVEMBER)
    call(tenant, 500_000)


def day(number: int):
    return (OCTOBER + timedelta(days=number - 1)).date()


EXPECTED = (
    Line(day(1), "usage", "sandbox/echo", "", 1, -20, 9_998_980),
    Line(day(3), "grant", "", "welcome", 0, 50_000, 10_048_980),
    Line(day(3), "adjustment", "", "a slip", 0, -7, 10_048_973),
    Line(day(3), "refund", "", "card 4242", 0, -60_000, 9_988_973),
    Line(day(3), "usage", "sandbox/echo", "", 1, -4_000, 9_984_973),
    Line(day(3), "usage", "sandbox/other", "", 1, -300, 9_984_673),
    Line(day(10), "usage", "sandbox/echo", "", 1, -5, 9_984_668),
    Line(day(21), "expiry", "", "promotion", 0, -9, 9_984_659),
    Line(day(21), "correction", "", "billed less", 2, 22, 9_984_681),
    Line(day(21), "usage", "sandbox/echo", "", 1, -70, 9_984_611),
    Line(day(31), "usage", "sandbox/echo", "", 1, -1, 9_984_610),
)


@pytest.mark.parametrize("rolled_up", [False, True])
def test_a_month_adds_up_to_the_micro_credit(clock: DatabaseClock, alice: Tenant, rolled_up: bool) -> None:
    october(alice, clock)
    if rolled_up:
        rollups.roll_up()
    found = monthly.statement(alice.organization_id, 2026, 10)
    assert found.lines == EXPECTED
    assert (found.opening, found.closing, found.is_final) == (9_999_000, 9_984_610, True)
    assert found.totals == {
        "purchase": 0,
        "grant": 50_000,
        "usage": -4_396,
        "correction": 22,
        "refund": -60_000,
        "expiry": -9,
        "adjustment": -7,
    }
    assert found.models == (ModelTotal("sandbox/echo", 5, -4_096), ModelTotal("sandbox/other", 1, -300))
    assert found.opening + sum(line.amount for line in found.lines) == found.closing


def test_half_of_it_from_roll_ups_and_half_from_rows(clock: DatabaseClock, alice: Tenant) -> None:
    do(alice.post(1_000, kind="purchase"))
    clock.set(OCTOBER + timedelta(hours=9, minutes=30))
    call(alice, 100)
    clock.set(OCTOBER + timedelta(hours=10, minutes=30))
    call(alice, 50)
    rollups.roll_up()
    call(alice, 25)
    assert [(line.calls, line.amount) for line in monthly.statement(alice.organization_id, 2026, 10).lines] == [
        (3, -175)
    ]


def test_the_running_month_is_stated_to_date(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    clock.set(NOVEMBER + timedelta(days=3))
    found = monthly.statement(alice.organization_id, 2026, 11)
    assert (found.opening, found.closing, found.is_final) == (9_984_610, 9_484_610, False)
    assert found.through == NOVEMBER + timedelta(days=3)
    assert found.closing == alice.wallet[0]


def test_every_month_opens_as_the_one_before_closed(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    found = [monthly.statement(alice.organization_id, 2026, month) for month in (8, 9, 10, 11)]
    assert [(one.opening, one.closing) for one in found] == [
        (0, 0),
        (0, 9_999_000),
        (9_999_000, 9_984_610),
        (9_984_610, 9_484_610),
    ]


def test_december_ends_with_the_year(clock: DatabaseClock, alice: Tenant) -> None:
    clock.set(datetime(2027, 1, 1, tzinfo=UTC) - INSTANT)
    do(alice.post(5, kind="purchase"))
    clock.set(datetime(2027, 1, 1, tzinfo=UTC))
    do(alice.post(7, kind="purchase"))
    assert monthly.statement(alice.organization_id, 2026, 12).closing == 5
    assert monthly.statement(alice.organization_id, 2027, 1).opening == 5


def test_charlies_month_has_nothing_of_alices(clock: DatabaseClock, alice: Tenant) -> None:
    charlie = Tenant(77)
    october(alice, clock)
    found = monthly.statement(charlie.organization_id, 2026, 10)
    assert (found.opening, found.lines, found.closing) == (77, (), 77)


def test_a_statement_that_does_not_add_up_is_not_made(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    rollups.roll_up()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_usagehour SET charged = charged + 1 WHERE wallet_id = %s", [alice.organization_id]
        )
    with pytest.raises(monthly.Mismatch, match="2026-10 do not add up: run verifyledger"):
        monthly.statement(alice.organization_id, 2026, 10)


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "1999-12", "2026-1", "26-01", "2026-10-01", "٢٠٢٦-10", ""])
def test_a_month_that_is_none_is_named(month: str) -> None:
    with pytest.raises(Invalid, match="month: must be"):
        monthly.parse_month(month)


def test_a_month_that_has_not_begun_has_no_statement(clock: DatabaseClock, alice: Tenant) -> None:
    with pytest.raises(Invalid, match="month: 2026-10 has not begun yet"):
        monthly.statement(alice.organization_id, 2026, 10)


def test_the_months_since_the_organization_began(clock: DatabaseClock, alice: Tenant) -> None:
    Organization.objects.filter(pk=alice.organization_id).update(created_at=datetime(2025, 11, 30, tzinfo=UTC))
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    assert monthly.months_of(alice.organization_id) == [(2026, 2), (2026, 1), (2025, 12), (2025, 11)]


# --- CSV --------------------------------------------------------------------------------------------


def test_the_csv_is_exact(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    lines = monthly.as_csv(monthly.statement(alice.organization_id, 2026, 10)).split("\r\n")
    assert lines[:3] == [
        "date,kind,description,model,calls,micro_credits,credits,balance_micro_credits,balance_credits",
        "2026-10-01,opening_balance,,,,,,9999000,9.999000",
        "2026-10-01,usage,,sandbox/echo,1,-20,-0.000020,9998980,9.998980",
    ]
    assert lines[-2:] == ["2026-11-01,closing_balance,,,,,,9984610,9.984610", ""]
    rows = list(csv.DictReader(io.StringIO("\r\n".join(lines))))
    assert sum(int(row["micro_credits"] or 0) for row in rows) == 9_984_610 - 9_999_000


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM", "'@SUM"),
        ('say "hi", twice', 'say "hi", twice'),
        ("two\r\nlines", "two\r\nlines"),
    ],
)
def test_no_cell_is_a_formula(clock: DatabaseClock, alice: Tenant, reason: str, cell: str) -> None:
    do(alice.post(5, reason=reason))
    text = monthly.as_csv(monthly.statement(alice.organization_id, 2026, 9))
    assert [row["description"] for row in csv.DictReader(io.StringIO(text, newline=""))] == ["", cell, ""]


def test_amounts_beyond_a_float_are_exact() -> None:
    assert fixed_credits(2**63 - 1) == "9223372036854.775807"
    assert fixed_credits(-1) == "-0.000001"
    assert pdf.grouped(-1_234_567_890_123) == "−1,234,567.890123"


# --- PDF --------------------------------------------------------------------------------------------


def pages(content: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", content))


def test_the_same_statement_is_the_same_pdf(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    first, second = (files.statement_file(alice.organization_id, "2026-10", "pdf") for _ in range(2))
    assert first.content == second.content
    assert first.content.startswith(b"%PDF-")
    assert b"/CreationDate (D:20261101000000Z" in first.content
    assert first.content_type == "application/pdf"
    assert pages(first.content) == 1


def test_a_long_month_goes_over_many_pages(clock: DatabaseClock, alice: Tenant) -> None:
    Organization.objects.filter(pk=alice.organization_id).update(name="Zażółć Ελλάς Привет & Söhne")
    do(alice.post(10**12, kind="purchase"))
    for number in range(31):
        clock.set(OCTOBER + timedelta(days=number))
        for model in range(6):
            call(alice, 10**number % 10**9, f"vendor/model-{model}")
    statement = monthly.statement(alice.organization_id, 2026, 10)
    assert len(statement.lines) == 186
    assert pages(pdf.as_pdf(statement, ["Example Ltd"])) == 6


@pytest.mark.parametrize("name", ["株式会社", "🦊 Fox", "שלום", "x" * 200, "a\u0301"])
def test_a_name_the_font_does_not_have_is_no_failure(clock: DatabaseClock, alice: Tenant, name: str) -> None:
    Organization.objects.filter(pk=alice.organization_id).update(name=name)
    do(alice.post(2**62, reason=f"{name}\nand a second line " + "y" * 300))
    assert pages(files.statement_file(alice.organization_id, "2026-09", "pdf").content) == 1


def test_a_month_without_anything(clock: DatabaseClock, alice: Tenant) -> None:
    found = monthly.statement(alice.organization_id, 2026, 9)
    assert (found.opening, found.lines, found.models, found.closing) == (0, (), (), 0)
    assert pages(files.statement_file(alice.organization_id, "2026-09", "pdf").content) == 1


# --- Files, command, announcement -------------------------------------------------------------------


def test_a_file_is_named_after_organization_and_month(clock: DatabaseClock, alice: Tenant) -> None:
    Organization.objects.filter(pk=alice.organization_id).update(name="../Alice & Co\r\n")
    file = files.statement_file(alice.organization_id, "2026-09", "csv")
    assert (file.name, file.content_type) == ("statement-alice-co-2026-09.csv", "text/csv; charset=utf-8")
    with pytest.raises(Invalid, match="format: must be one of csv, pdf"):
        files.statement_file(alice.organization_id, "2026-09", "xls")


def test_the_command_writes_the_file(clock: DatabaseClock, alice: Tenant, tmp_path: Path) -> None:
    october(alice, clock)
    printed = io.StringIO()
    output = tmp_path / "october.csv"
    call_command(
        "statement",
        str(alice.organization_id),
        "2026-10",
        "--format",
        "csv",
        "--output",
        str(output),
        "--json",
        stdout=printed,
    )
    found = json.loads(printed.getvalue())
    assert found["file"] == str(output)
    assert (found["opening_balance"], found["usage"], found["closing_balance"]) == (9_999_000, -4_396, 9_984_610)
    assert output.read_bytes() == monthly.as_csv(monthly.statement(alice.organization_id, 2026, 10)).encode()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["2026-10", "--output", "/nowhere/at/all.pdf"], "/nowhere/at/all.pdf cannot be written"),
        (["October"], "month: must be like 2026-11, not 'October'"),
    ],
)
def test_the_command_says_what_is_wrong(clock: DatabaseClock, alice: Tenant, arguments: list[str], complaint: str):
    clock.set(NOVEMBER)
    with pytest.raises(CommandError, match=complaint):
        call_command("statement", str(alice.organization_id), *arguments)


def announced(tenant: Tenant) -> list[dict[str, object]]:
    return [row.payload for row in Notification.objects.filter(organization_id=tenant.organization_id)]


def test_organizations_that_moved_are_told_once(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    idle = Tenant(organization_id=uuid4())
    clock.set(NOVEMBER + timedelta(minutes=4))
    assert files.announce() == 0, "a batch of the old month may still be committing"
    clock.set(NOVEMBER + timedelta(minutes=7))
    assert [files.announce() for _ in range(3)] == [1, 0, 0]
    assert announced(alice) == [
        {"month": "2026-10", "opening_balance": 9_999_000, "closing_balance": 9_984_610, "credits_used": 4_374}
    ]
    assert announced(idle) == []


def test_books_that_do_not_add_up_are_the_operators_news(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    bob = Tenant()
    clock.set(OCTOBER + timedelta(days=1))
    do(bob.post(3, kind="purchase"))
    clock.set(NOVEMBER + timedelta(hours=1))
    rollups.roll_up()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_usagehour SET charged = charged + 1 WHERE wallet_id = %s", [alice.organization_id]
        )
    assert [files.announce() for _ in range(2)] == [1, 0], "bob's is not held up by alice's"
    assert announced(alice) == []
    [told] = Notification.objects.filter(organization=None)
    assert (told.kind, "do not add up" in told.payload["error"]) == ("statement.mismatch", True)


def test_the_ledger_is_not_touched(clock: DatabaseClock, alice: Tenant) -> None:
    october(alice, clock)
    before = (
        Wallet.objects.values().get(pk=alice.organization_id),
        Entry.objects.filter(wallet_id=alice.organization_id).count(),
    )
    files.attachments(alice.organization_id, "2026-10")
    assert (
        Wallet.objects.values().get(pk=alice.organization_id),
        Entry.objects.filter(wallet_id=alice.organization_id).count(),
    ) == before
