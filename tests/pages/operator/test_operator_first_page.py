"""The operator's first page: exact figures, a fixed number of queries, links to the rows, words where nothing is."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from accounts.services import suspend
from billing.credits.accounts import Account, open_account
from billing.credits.operations import Asked, request
from billing.ledger import journal
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import Heartbeat, Hold, Price
from billing.oversight import verifier
from billing.pricing.money import Usage
from billing.reconciliation.extra_charges import queue_extra
from billing.usage.rollups import roll_up
from completions.models import ServerProcess
from quantized.operator import chart, first_page
from tests.kit.catalogs import make_provider

pytestmark = pytest.mark.django_db
MODEL = "openai/gpt-4.1-mini"


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


def account(name: str = "Acme", credits_micro: int = 10_000) -> Account:
    return open_account(name, "alice@example.org", credits_micro=credits_micro, actor="test")


def call(of: Account, charged: int = 2_400, *, settle: bool = True, error: str = "") -> uuid.UUID:
    """2.28e-5 USD of cost: 2,280 micro-credits at par."""
    price = Price.objects.create(version=1, rates={"input": "0.400000", "output": "1.600000"})
    hold_id, wallet_id = uuid.uuid4(), of.organization.pk
    shared = {"wallet_id": wallet_id, "hold_id": hold_id, "key_id": of.key.pk}
    reserve = Reserve(
        **shared,
        user_id=None,
        model=MODEL,
        price_id=price.pk,
        provider="openrouter",
        amount=5_000,
        floor=5_000,
        life_s=60,
    )
    receipt = Receipt(
        model=MODEL,
        provider="openrouter",
        price_id=price.pk,
        usage=Usage(prompt_tokens=25, completion_tokens=8),
        cost_pico=22_800_000,
        error_code=error,
        latency_ms=700,
    )
    commands = [reserve, Settle(**shared, actual=charged, receipt=receipt)] if settle else [reserve]
    journal.execute(commands)
    return hold_id


def shown(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_the_figures_are_the_books(dora):
    acme = account()
    call(acme)
    lost = call(acme, error="provider_unavailable")
    call(acme, settle=False)
    queue_extra(Hold.objects.get(pk=lost), 700, Decimal("0.1"))
    roll_up()
    page = first_page.gather(timezone.now())
    assert page.today == page.month
    totals = page.today.totals
    assert (totals.credits_used, totals.cost_micro, totals.margin_micro) == (4_800, 4_560, 240)
    assert (totals.requests, totals.errors) == (2, 1)
    assert page.today.margin_percent == "5.0 %"
    standing = page.standing
    assert (standing.outstanding_micro, standing.open_holds, standing.held_micro) == (5_200, 1, 5_000)
    assert (standing.extra_charges, standing.extra_charges_micro) == (1, 700)
    assert [(line.name, line.requests, line.errors, line.latency_ms) for line in page.providers] == [
        ("openrouter", 2, 1, 700)
    ]
    words = shown(dora.get(reverse("admin:index")))
    for figure in ("0.0048", "0.0052", "1 error, 0 estimated", "0.0007 credits to charge or waive"):
        assert figure in words


def test_every_figure_leads_to_its_rows(dora):
    call(account())
    roll_up()
    verifier.run()
    page = dora.get(reverse("admin:index")).content.decode()
    wanted = set(re.findall(r'href="(/admin/[^"#]+)"', page))
    for path in wanted - {reverse("admin:logout")}:
        assert dora.get(path.replace("&amp;", "&")).status_code == 200, path
    for end in ("billing/wallet/", "billing/hold/?state__exact=open", "billing/operation/?state__exact=waiting"):
        assert f"/admin/{end}" in wanted


def test_nothing_yet_is_said_in_words(dora):
    words = shown(dora.get(reverse("admin:index")))
    for sentence in (
        "Nothing was rolled up yet",
        "no call is under way",
        "never ran",
        "No call was charged in the last 30 days",
        "No provider yet",
        "No tenant runs out soon",
        "No task has run yet",
    ):
        assert sentence in words


def test_who_runs_out_within_three_days_is_named_soonest_first():
    for name, credits_micro in (("Rich", 30_000), ("Soon", 17_000), ("Sooner", 15_500), ("Suspended", 15_500)):
        of = account(name, credits_micro)
        for _ in range(3):
            call(of, 5_000)
    suspend(of.organization.pk)
    roll_up()
    low = first_page.gather(timezone.now()).low
    assert [(one.name, one.available_micro, one.per_day_micro) for one in low] == [
        ("Sooner", 500, 2_142),
        ("Soon", 2_000, 2_142),
    ]


def test_circuits_are_told_with_how_many_processes(dora):
    make_provider("openrouter")
    now = timezone.now()
    for number, circuits in enumerate(({"openrouter": "open"}, {})):
        ServerProcess.objects.create(
            id=uuid.uuid4(), name=f"host:{number}", started_at=now, seen_at=now, circuits=circuits, ledger_queue=2
        )
    words = shown(dora.get(reverse("admin:index")))
    assert "open in 1/2" in words
    assert "2 server processes" in words


def test_a_verifier_that_found_something_stands_out(dora):
    call(account())
    roll_up()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_wallet SET posted = posted + 1")
    verifier.run()
    page = first_page.gather(timezone.now())
    assert [(run.row.kind, run.is_well, run.is_late) for run in page.runs] == [("complete", False, False)]
    assert "violation" in shown(dora.get(reverse("admin:index")))


def test_a_task_that_does_not_run_is_late(dora):
    now = timezone.now()
    Heartbeat.objects.create(task="billing.tasks.roll_up", succeeded_at=now - timedelta(minutes=11))
    Heartbeat.objects.create(
        task="billing.tasks.verify_all", succeeded_at=now - timedelta(hours=3), failed_at=now, error="OperationalError"
    )
    task_lines = first_page.gather(now).task_lines
    assert [(beat.task, beat.is_late, beat.error) for beat in task_lines] == [
        ("billing: roll up", True, ""),
        ("billing: verify all", False, "OperationalError"),
    ]
    assert "Late: billing: roll up" in shown(dora.get(reverse("admin:index")))


def queries(client: Client) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(reverse("admin:index")).status_code == 200
    return len(found)


def test_the_number_of_queries_is_fixed(dora):
    operator = User.objects.get(email="dora@example.com")
    few = account("First")
    call(few)
    roll_up()
    queries(dora)
    before = queries(dora)
    for number in range(30):
        of = account(f"Tenant{number}")
        call(of)
        call(of, settle=False)
        make_provider(f"provider-{number}")
        request(Asked(id=uuid.uuid4(), kind="unlimited", organization_id=of.organization.pk, reason="asked"), operator)
        Heartbeat.objects.create(task=f"task {number}")
    roll_up()
    assert queries(dora) == before <= 16


def test_a_role_without_the_ledger_is_told_no_figure():
    call(account())
    roll_up()
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_model"))
    page = logged_in(user).get(reverse("admin:index"))
    assert page.status_code == 200
    assert "Your role has no business figures" in shown(page)
    assert "first" not in page.context
    assert "0.0024" not in shown(page)


def test_the_page_says_what_it_may_load(dora):
    policy = dora.get(reverse("admin:index")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy


# --- The drawing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "top"), [(0, 1), (1, 1), (2, 2), (3, 5), (99, 100), (100, 100), (101, 200), (220, 250), (999, 1_000)]
)
def test_the_axis_ends_at_a_round_figure(largest, top):
    assert chart.ceiling(largest) == top


def test_bars_begin_at_zero_and_share_their_day():
    found = chart.drawn([("a", 100, 50), ("b", 0, -5)])
    [day, empty] = found.days
    assert [(bar.height, bar.y) for bar in day.bars] == [(160.0, 0.0), (80.0, 80.0)]
    assert [bar.height for bar in empty.bars] == [0.0, 0.0]
    assert (day.bars[0].x, day.bars[1].x, empty.x) == (62.5, 250.0, 500.0)
    assert not found.is_empty


def test_the_days_are_utcs():
    page = first_page.gather(datetime(2026, 3, 1, 0, 30, tzinfo=UTC))
    assert (page.chart.days[0].label, page.chart.days[-1].label) == ("2026-01-31", "2026-03-01")
