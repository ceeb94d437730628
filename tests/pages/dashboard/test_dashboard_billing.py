"""The statement: every entry once, with the balance after it, in words; its kinds; the sums above it; the download."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import Entry, Wallet
from billing.usage.browse import PutIn, put_in
from common.ids import generation_id
from quantized.dashboard.billing import CSV_HEADER, WORDS
from tests.kit.books import do
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import call, downloaded, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 10, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock(db: None, monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    return DatabaseClock(NOW)


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


def test_every_kind_of_entry_is_told_in_words():
    assert set(WORDS) == set(Entry.Kind)


def test_the_statement_has_sign_and_balance_after_each_entry(alice: Tenant, owner: Client):
    do(alice.post(2_000_000, kind="grant", reason="Welcome"))
    hold_id = call(alice, 1_500_000)
    do(alice.post(500_000, kind="correction", hold_id=hold_id, reason="billed less"))
    do(alice.post(-250_000, kind="expiry", reason="after a year"))
    page = owner.get("/billing")
    statement = text(page).split("What happened Credits Balance after ")[1]
    assert statement.startswith(
        "just now Credits expired after a year −0.25 10.75 "
        "just now Correction of a call billed less +0.5 11 "
        "just now Call sandbox/echo −1.5 10.5 "
        "just now Credits granted Welcome +2 12 "
        "just now Credits bought "
    )
    assert page.content.decode().count(f'href="/activity/{generation_id(hold_id)}"') == 2
    assert "alice" not in statement  # who did it is the operator's business


def test_the_sums_are_the_ledgers(alice: Tenant, owner: Client):
    do(alice.post(2_000_000, kind="grant", reason="Welcome"))
    do(alice.post(-300_000, kind="refund", reason="returned"))
    call(alice, 1_500_000)
    alice.hold(700_000)
    assert put_in(alice.organization_id) == PutIn(bought=10_000_000, granted=2_000_000, adjusted=-300_000)
    page = text(owner.get("/billing"))
    for told in (
        "Balance 10.2 credits",
        "Bought 10",
        "Granted 2",
        "Adjusted −0.3",
        "Used by calls 1.5",
        "Held now 0.7",
    ):
        assert told in page
    Wallet.objects.filter(pk=alice.organization_id).update(overdraft=5_000_000)
    assert "May go down to − 5" in text(owner.get("/billing"))


@pytest.mark.parametrize(
    ("kind", "amounts"),
    [
        ("", [-3, 400, 7, -2, -1, 10_000_000]),
        ("credits", [400, 10_000_000]),
        ("calls", [-3, 7, -2, -1]),
        ("corrections", [7]),
        ("nonsense", [-3, 400, 7, -2, -1, 10_000_000]),
    ],
)
def test_kinds_are_chosen(kind: str, amounts: list[int], alice: Tenant, owner: Client):
    call(alice, 1)
    hold_id = call(alice, 2)
    do(alice.post(7, kind="correction", hold_id=hold_id))
    do(alice.post(400, kind="grant"))
    call(alice, 3)
    page = owner.get("/billing", {"kind": kind})
    assert [line.entry.amount for line in page.context["lines"]] == amounts
    rows = downloaded(owner.get("/billing.csv", {"kind": kind}))[1:]
    assert [int(row[5]) for row in rows] == amounts


def test_pages_follow_each_other_without_a_gap(alice: Tenant, owner: Client):
    for _ in range(70):
        call(alice, 1)
    first = owner.get("/billing")
    assert (len(first.context["lines"]), first.context["older"]) == (50, 22)
    second = owner.get("/billing", {"before": "22"})
    seen = [line.entry.seq for page in (first, second) for line in page.context["lines"]]
    assert seen == list(range(71, 0, -1))
    assert second.context["older"] is None
    assert "Older" not in text(second)
    assert "Newest" in text(second)
    for nonsense in ("x", "-1", "9" * 30, "²"):
        assert owner.get("/billing", {"before": nonsense}).status_code == 200


def test_a_page_reads_no_more_than_it_shows(alice: Tenant, owner: Client):
    with CaptureQueriesContext(connection) as captured:
        owner.get("/billing", {"before": "5"})
    [sql] = [query["sql"] for query in captured if "ORDER BY" in query["sql"] and "billing_entry" in query["sql"]]
    assert "OFFSET" not in sql
    assert sql.endswith("LIMIT 51")


def test_the_download_is_exact(alice: Tenant, owner: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("quantized.dashboard.billing.PAGE_ROWS", 1)
    hold_id = call(alice, 1_234_567)
    header, *rows = downloaded(owner.get("/billing.csv"))
    assert tuple(header) == CSV_HEADER
    assert rows == [
        [
            "2",
            "2026-05-10T09:00:00Z",
            "usage",
            "Call: sandbox/echo",
            generation_id(hold_id),
            "-1234567",
            "8765433",
        ],
        ["1", "2026-05-10T09:00:00Z", "purchase", "Credits bought: a test", "", "10000000", "10000000"],
    ]
