"""The overview: the ledger's numbers, burn rate and days left, the chart, and a new tenant's three steps."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import ApiKey
from accounts.services import issue_key
from billing.models import Wallet
from billing.usage import rollups
from billing.usage.overview import burn_rate, overview
from billing.usage.report import Span, day_start
from common.ids import generation_id
from quantized.dashboard.frame import utc
from tests.kit.books import do
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import PRICE_MICRO, call, downloaded, failed_call, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    return DatabaseClock(NOW)


@pytest.fixture
def credits_micro() -> int:
    return 100_000_000


def span() -> Span:
    return Span(day_start(NOW.date() - 29 * DAY, utc()), day_start(NOW.date() + DAY, utc()), utc())


# --- The figures ------------------------------------------------------------------------------------


def test_days_models_and_keys_add_up_to_the_same(alice: Tenant, clock: DatabaseClock):
    key_id = alice.key(name="ci")
    for days_ago, charged, model, key in ((3, 10, "a/x", key_id), (3, 20, "b/y", None), (0, 40, "a/x", key_id)):
        clock.set(NOW - days_ago * DAY)
        call(alice, charged, model=model, key=key)
        rollups.roll_up()
    found = overview(alice.organization_id, span(), NOW)
    assert {cell: tally.credits_used for cell, tally in found.cells.items()} == {
        (26, "a/x"): 10,
        (26, "b/y"): 20,
        (29, "a/x"): 40,
    }
    assert {key: (tally.requests, tally.credits_used) for key, tally in found.keys.items()} == {
        key_id: (2, 50),
        None: (1, 20),
    }
    assert [(model, tally.credits_used) for model, tally in found.models().items()] == [("a/x", 50), ("b/y", 20)]
    assert (found.total().credits_used, found.of_day(26).credits_used, len(found.days)) == (70, 30, 30)


def test_a_correction_counts_on_the_day_it_was_made(alice: Tenant, clock: DatabaseClock):
    clock.set(NOW - 2 * DAY)
    hold_id = call(alice, 100, model="a/x")
    clock.set(NOW)
    do(alice.post(30, kind="correction", hold_id=hold_id))
    found = overview(alice.organization_id, span(), NOW)
    assert {cell: (tally.requests, tally.credits_used) for cell, tally in found.cells.items()} == {
        (27, "a/x"): (1, 100),
        (29, "a/x"): (0, -30),
    }


def test_the_burn_rate_is_of_the_last_seven_days_as_far_as_today_has_come(alice: Tenant, clock: DatabaseClock):
    for days_ago in range(30):
        clock.set(NOW - days_ago * DAY)
        call(alice, 1_300)
    found = burn_rate(overview(alice.organization_id, span(), NOW), NOW)
    assert found is not None
    assert (found.days, found.micro_per_day) == (7, round(7 * 1_300 / 6.5))


def test_a_young_tenants_burn_rate_is_of_the_days_it_has(alice: Tenant, clock: DatabaseClock):
    assert burn_rate(overview(alice.organization_id, span(), NOW), NOW) is None
    call(alice, 500)
    found = burn_rate(overview(alice.organization_id, span(), NOW), NOW)
    assert found is not None
    assert (found.days, found.micro_per_day) == (1, 500)  # half a day counts as one: nobody knows the other half
    clock.set(NOW - DAY)
    call(alice, 1_000)
    found = burn_rate(overview(alice.organization_id, span(), NOW), NOW)
    assert found is not None
    assert (found.days, found.micro_per_day) == (2, 1_000)


# --- The page ---------------------------------------------------------------------------------------


def test_the_page_tells_balance_rate_days_requests_and_failures(alice: Tenant, clock: DatabaseClock):
    clock.set(NOW - DAY)
    call(alice, 15_000_000)
    clock.set(NOW)
    failed_call(alice)
    page = text(alice.client.get("/"))
    assert "Balance 85 credits Nothing is held" in page
    assert "Burn rate 10 Credits a day, on average of the last 2 days, today included" in page
    assert "Days left 8.5 At this rate empty on 29 May 2026" in page
    assert "Requests, 30 days 2 100 tokens in, 20 out" in page
    assert "Failed, 30 days 50.0 % 1 failed call" in page
    assert "Three steps" not in page


def test_what_is_not_known_is_a_dash(alice: Tenant):
    page = text(alice.client.get("/"))
    assert "Burn rate — Known after the first calls" in page
    assert "Days left — Not known without calls" in page
    call(alice, 5)
    Wallet.objects.filter(pk=alice.organization_id).update(unlimited=True)
    page = text(alice.client.get("/"))
    assert "Balance Unlimited" in page
    assert "Days left — No end: unlimited" in page


def test_what_is_held_for_running_calls_is_told(alice: Tenant):
    alice.hold(2_400)
    assert "0.0024 held for running calls" in text(alice.client.get("/"))


def test_the_chart_has_its_figures_in_a_table_and_a_legend_that_filters(alice: Tenant, clock: DatabaseClock):
    clock.set(NOW - DAY)
    call(alice, 2_000_000, model="a/x")
    call(alice, 500_000, model="b/y")
    owner = alice.client
    page = owner.get("/")
    html = page.content.decode()
    assert '<rect class="series-0"' in html
    assert "19 May: 2.5 credits · a/x 2 · b/y 0.5" in html
    assert "Day a/x b/y Total, credits 20 May 0 0 0 19 May 2 0.5 2.5 18 May 0 0 0" in text(page)
    alone = owner.get("/", {"model": "b/y"})
    assert "19 May: 0.5 credits · b/y 0.5" in alone.content.decode()
    assert "Day b/y Total, credits 20 May 0 0 19 May 0.5 0.5" in text(alone)
    assert downloaded(owner.get("/spend.csv")) == [
        ["day", "model", "requests", "errors", "micro_credits"],
        ["2026-05-19", "a/x", "1", "0", "2000000"],
        ["2026-05-19", "b/y", "1", "0", "500000"],
    ]


def test_the_dearest_models_and_keys_lead_to_their_calls(alice: Tenant):
    key_id = alice.key(name="ci", prefix="sk-quantized-abc", last_four="wxyz")
    call(alice, 3_000_000, model="b/y", key=key_id)
    call(alice, 1_000_000, model="a/x")
    page = alice.client.get("/")
    assert "Top models 30 days b/y 3 1 call 100 → 20 tokens a/x 1 1 call" in text(page)
    assert "Top keys 30 days ci sk-quantized-abc…wxyz 3 1 call 100 → 20 tokens Playground and access tokens 1" in text(
        page
    )
    assert f'href="/activity?key={key_id}"' in page.content.decode()
    assert 'href="/activity?model=b%2Fy"' in page.content.decode()


# --- The first five minutes -------------------------------------------------------------------------


def test_three_steps_from_no_key_to_the_first_call(alice: Tenant):
    owner = alice.client
    page = owner.get("/")
    assert "Three steps to your first answer" in text(page)
    assert "sk-quantized-YOUR-KEY" in text(page)
    once = re.findall(r'name="once" value="([^"]+)"', page.content.decode())[0]

    made = owner.post("/keys/first", {"once": once})
    (key,) = ApiKey.objects.filter(organization_id=alice.organization_id)
    [api_key] = set(re.findall(r"sk-quantized-\w{30,}", made.content.decode()))
    assert (key.prefix, key.last_four, key.name) == (api_key[: len(key.prefix)], api_key[-4:], "First key")
    assert f"Authorization: Bearer {api_key}" in text(made).replace("&quot;", '"')
    assert made.headers["cache-control"] == "no-store"
    assert 'hx-get="/first-call"' in made.content.decode()

    again = owner.post("/keys/first", {"once": once}, follow=True)
    assert ApiKey.objects.count() == 1
    assert "This form was sent before" in text(again)
    assert api_key not in again.content.decode()
    assert "Done. Keys are not stored" in text(owner.get("/"))

    waiting = owner.get("/first-call")
    assert 'hx-trigger="every 2s"' in waiting.content.decode()
    hold_id = call(alice, PRICE_MICRO, key=key.pk, latency_ms=812)
    arrived = owner.get("/first-call")
    assert "hx-trigger" not in arrived.content.decode()
    assert "sandbox/echo answered for 0.0147 credits. 100 tokens in, 20 out, 812 ms." in text(arrived)
    assert f"/activity/{generation_id(hold_id)}" in arrived.content.decode()
    assert "Three steps" not in text(owner.get("/"))


def test_a_first_call_that_failed_is_told_as_such(alice: Tenant):
    failed_call(alice, "provider_unavailable")
    assert "sandbox/echo failed: provider_unavailable for 0 credits." in text(alice.client.get("/first-call"))


def test_a_tenant_whose_last_call_is_long_ago_sees_no_first_steps(alice: Tenant, clock: DatabaseClock):
    clock.set(NOW - 60 * DAY)
    call(alice)
    clock.set(NOW)
    page = text(alice.client.get("/"))
    assert "Three steps" not in page
    assert "No spend in the last 30 days" in page


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_others_are_told_whom_to_ask_for_a_key(role: str, alice: Tenant):
    member = alice.member(role).client
    assert "Owners and admins make keys: ask one of yours." in text(member.get("/"))
    assert member.post("/keys/first", {"once": "x"}).status_code == 403
    assert not ApiKey.objects.exists()


def test_a_key_that_was_issued_elsewhere_is_a_step_done(alice: Tenant):
    owner = alice.client
    organization = owner.get("/").context["organization"]
    issue_key(organization, "from the API")
    assert "Make another key" in text(owner.get("/"))
