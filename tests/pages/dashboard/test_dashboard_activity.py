"""Activity: every call is found, filtered and paged exactly once; its receipt adds up; the download is the table."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from billing.models import Usage
from billing.pricing.money import Usage as Tokens
from billing.usage import browse, rollups
from billing.usage.browse import CallFilter, calls, position
from common.ids import generation_id
from quantized.dashboard import downloads
from quantized.dashboard.activity import CSV_HEADER
from tests.kit.books import do, make_receipt
from tests.kit.catalogs import make_route
from tests.kit.clock import DatabaseClock
from tests.kit.dashboard import COST_PICO, PRICE_MICRO, call, downloaded, failed_call, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 5, 10, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    clock = DatabaseClock(START)
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


@pytest.fixture
def credits_micro() -> int:
    return 1_000_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


def ids(tenant: Tenant, wanted: CallFilter, rows_max: int = 3) -> list[UUID]:
    """Page by page to the end."""
    found: list[UUID] = []
    after = None
    while page := calls(tenant.organization_id, wanted, after, rows_max):
        assert len(page) <= rows_max
        found += [usage.hold_id for usage in page]
        after = position(page[-1])
    return found


# --- The pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rolled_up", [True, False])
def test_every_filter_finds_all_of_its_calls_and_no_other_page_by_page(
    rolled_up: bool, alice: Tenant, clock: DatabaseClock
):
    keys = [alice.key(), alice.key(), None]
    for number in range(40):
        clock.set(START + number * timedelta(minutes=17))
        if number % 5 == 3:
            failed_call(alice, model="b/y", provider="other")
        else:
            call(alice, 10, key=keys[number % 3], model=("a/x", "b/y")[number % 2])
    if rolled_up:
        rollups.roll_up()
    call(alice, 10, key=keys[0], model="a/x")
    every = list(Usage.objects.filter(wallet_id=alice.organization_id).order_by("-recorded_at", "-hold_id"))
    for wanted, matches in (
        (CallFilter(), lambda usage: True),
        (CallFilter(key_id=keys[0]), lambda usage: usage.key_id == keys[0]),
        (CallFilter(model="b/y"), lambda usage: usage.model == "b/y"),
        (CallFilter(provider="other"), lambda usage: usage.provider == "other"),
        (CallFilter(outcome="failed"), lambda usage: usage.error_code != ""),
        (CallFilter(outcome="answered"), lambda usage: usage.error_code == ""),
        (
            CallFilter(model="a/x", key_id=keys[1], start=START + 2 * HOUR, end=START + 7 * HOUR),
            lambda usage: (
                usage.model == "a/x"
                and usage.key_id == keys[1]
                and START + 2 * HOUR <= usage.recorded_at < START + 7 * HOUR
            ),
        ),
        (
            CallFilter(start=START + 90 * timedelta(minutes=1), model="b/y"),
            lambda usage: usage.recorded_at >= START + timedelta(minutes=90) and usage.model == "b/y",
        ),
    ):
        expected = [usage.hold_id for usage in every if matches(usage)]
        assert ids(alice, wanted) == expected
        assert len(expected) >= 3


def test_calls_of_the_same_moment_are_each_shown_once(alice: Tenant):
    made = sorted((call(alice, 1) for _ in range(7)), reverse=True)
    assert ids(alice, CallFilter()) == made
    assert ids(alice, CallFilter(model="sandbox/echo")) == made


def test_only_hours_that_hold_matching_calls_are_read(alice: Tenant, clock: DatabaseClock):
    """One rare model among many calls: the roll-up says where to look."""
    for number in range(30):
        clock.set(START + number * HOUR)
        call(alice, 1, model="rare" if number == 4 else "common")
    rollups.roll_up()
    place = browse.where_they_are(alice.organization_id, CallFilter(model="rare"), None, 50)
    [tail, hour] = place.children
    assert tail == ("recorded_at__gte", START + 28 * HOUR)  # the hour that was running at the roll-up's last look
    assert hour.children == [("recorded_at__gte", START + 4 * HOUR), ("recorded_at__lt", START + 5 * HOUR)]


def test_the_table_says_what_a_call_was_and_cost(alice: Tenant, owner: Client):
    key_id = alice.key(name="ci", prefix="sk-quantized-abc", last_four="wxyz")
    tokens = Tokens(prompt_tokens=12_345, completion_tokens=200)
    hold_id = call(alice, key=key_id, usage=tokens, streamed=True, first_token_ms=400, latency_ms=2_400)
    page = owner.get("/activity")
    assert "sandbox/echo sandbox ci 12.3 k → 200 0.0147 100 tok/s 400 ms stop" in text(page)
    html = page.content.decode()
    assert 'title="12,345 tokens"' in html
    assert 'title="14,737 micro-credits"' in html
    assert f'href="/activity/{generation_id(hold_id)}"' in html


def test_failed_cancelled_and_estimated_calls_are_marked(alice: Tenant, owner: Client):
    failed_call(alice, "provider_unavailable")
    call(alice, cancelled=True)
    call(alice, estimated=True)
    html = owner.get("/activity").content.decode()
    assert '<span class="badge badge-bad">provider_unavailable</span>' in html
    assert '<span class="badge badge-warn">cancelled</span>' in html
    assert 'title="Estimated: the provider told no figures"' in html


def test_failed_calls_are_read_by_an_index_of_their_own_in_every_month(alice: Tenant):
    failed_call(alice)
    found = Usage.objects.filter(wallet_id=alice.organization_id, error_code__gt="").order_by(
        "-recorded_at", "-hold_id"
    )[:51]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'billing_usage'::regclass")
        months = cursor.fetchone()[0]
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_failed'::regclass")
        assert cursor.fetchone()[0] == months > 1
    assert not re.search(r"Filter:.*error_code", found.explain())


def test_filters_come_with_the_address_and_stay(alice: Tenant, owner: Client, clock: DatabaseClock):
    make_route("a/x")
    key_id = alice.key(name="ci")
    for number in range(60):
        clock.set(START + number * timedelta(minutes=1))
        call(alice, 1, model="a/x", key=key_id)
    call(alice, 1, model="b/y")
    page = owner.get("/activity", {"model": "a/x", "key": str(key_id), "from": "2026-05-10", "outcome": "answered"})
    html = page.content.decode()
    assert len(page.context["calls"]) == 50
    assert "<option selected>a/x</option>" in html
    assert f'<option value="{key_id}" selected>' in html
    older = page.context["older"]
    query = {"model": "a/x", "key": str(key_id), "from": "2026-05-10", "outcome": "answered", "after": older}
    rest = owner.get("/activity", query)
    assert len(rest.context["calls"]) == 10
    assert (rest.context["older"], text(rest).count("Newest")) == ("", 1)
    shown = {each.generation for each in (*page.context["calls"], *rest.context["calls"])}
    assert len(shown) == 60
    assert "model=a%2Fx" in html


def test_a_model_that_is_no_longer_served_can_still_be_filtered_by(alice: Tenant, owner: Client):
    call(alice, model="gone/model")
    html = owner.get("/activity", {"model": "gone/model"}).content.decode()
    assert "<option selected>gone/model</option>" in html


def test_days_are_the_viewers(alice: Tenant, owner: Client, clock: DatabaseClock):
    clock.set(datetime(2026, 5, 10, 23, 30, tzinfo=UTC))
    call(alice)
    owner.cookies["tz"] = "Europe/Berlin"
    assert len(owner.get("/activity", {"from": "2026-05-11", "to": "2026-05-11"}).context["calls"]) == 1
    assert len(owner.get("/activity", {"to": "2026-05-10"}).context["calls"]) == 0


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"from": "yesterday"}, "A day is written like 2026-01-31."),
        ({"to": "2026-02-30"}, "A day is written like 2026-01-31."),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "The last day is before the first one."),
        ({"key": "nonsense"}, "This filter is not known."),
        ({"outcome": "maybe"}, "This filter is not known."),
    ],
)
def test_what_cannot_be_read_is_said(query: dict[str, str], says: str, alice: Tenant, owner: Client):
    assert says in text(owner.get("/activity", query))
    assert owner.get("/activity.csv", query).status_code == 404


@pytest.mark.parametrize(
    "after", ["x", "~", "2026-05-10T09:00:00~gen-00", "2026-05-10T09:00:00Z~gen-zz", "~gen-" + "0" * 32]
)
def test_a_place_that_cannot_be_read_is_the_beginning(after: str, alice: Tenant, owner: Client):
    call(alice)
    assert len(owner.get("/activity", {"after": after}).context["calls"]) == 1


def test_a_call_is_found_by_its_id(alice: Tenant, owner: Client):
    generation = generation_id(call(alice))
    assert owner.get("/activity", {"q": f" {generation} "}).headers["location"] == f"/activity/{generation}"
    missing = owner.get("/activity", {"q": "gen-1234"})
    assert "No call of this organization has the id “gen-1234”." in text(missing)
    assert "sandbox/echo" in text(missing)


def test_nothing_yet_and_nothing_found_are_told_apart(alice: Tenant, owner: Client):
    assert "No call yet" in text(owner.get("/activity"))
    call(alice)
    assert "No call matches" in text(owner.get("/activity", {"model": "x"}))


# --- The receipt ------------------------------------------------------------------------------------


def test_a_receipt_shows_its_arithmetic_to_the_last_digit(alice: Tenant, owner: Client):
    attempts = ({"provider": "openrouter", "outcome": "timeout", "milliseconds": 5_000},)
    hold_id = call(alice, attempts=attempts, latency_ms=1_500)
    page = text(owner.get(f"/activity/{generation_id(hold_id)}"))
    assert "Input 100 $1.00 $0.0001 Output 20 $2.00 $0.00004" in page
    assert "Tokens × price (price version 1) $0.00014" in page
    assert "÷ (1 − 5 % margin) × 100 credits a USD, rounded up to a micro-credit 0.0147 credits" in page
    assert "Held before the provider was asked just now 0.0147 1,000" in page
    assert "Charged; the rest of the hold is free just now −0.0147 999.9852" in page
    assert "Attempts Provider Outcome Took openrouter timeout 5.0 s" in page
    assert "settled" in page
    html = owner.get(f"/activity/{generation_id(hold_id)}").content.decode()
    assert html.count(f'title="{PRICE_MICRO:,} micro-credits"') >= 2


def test_a_receipt_tells_corrections_and_what_is_charged_in_the_end(alice: Tenant, owner: Client):
    hold_id = call(alice, 1_000_000)
    do(alice.post(250_000, kind="correction", hold_id=hold_id, reason="the provider billed less"))
    page = text(owner.get(f"/activity/{generation_id(hold_id)}"))
    assert "corrected" in page
    assert "Charged 0.75 credits" in page
    assert "Correction: the provider billed less just now +0.25 999.25" in page


def test_a_receipt_of_an_estimate_says_so(alice: Tenant, owner: Client):
    page = text(owner.get(f"/activity/{generation_id(call(alice, estimated=True))}"))
    assert "estimated" in page
    assert "These figures are an estimate" in page


def test_a_running_call_says_what_is_held(alice: Tenant, owner: Client):
    page = text(owner.get(f"/activity/{generation_id(alice.hold(2_400_000))}"))
    assert "The call is still running. 2.4 credits are held for it." in page
    assert "Not charged yet" in page


def test_a_call_that_failed_cost_nothing(alice: Tenant, owner: Client):
    page = text(owner.get(f"/activity/{generation_id(failed_call(alice))}"))
    assert "provider_unavailable" in page
    assert "Nothing was consumed, so nothing is charged." in page
    assert "Released: nothing was charged" in page


def test_a_cost_that_the_tokens_do_not_explain_is_pointed_out(alice: Tenant, owner: Client):
    page = text(owner.get(f"/activity/{generation_id(call(alice, cost_pico=COST_PICO + 7))}"))
    assert "Cost in the books (differs from the tokens × price above) $0.000140000007" in page


# --- The download -----------------------------------------------------------------------------------


def test_the_download_is_the_filtered_table_with_exact_figures(
    alice: Tenant, owner: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("quantized.dashboard.activity.PAGE_ROWS", 2)
    key_id = alice.key(name="=evil()")
    made = [call(alice, key=key_id, model="a/x", streamed=True, first_token_ms=0, latency_ms=5) for _ in range(5)]
    call(alice, model="b/y")
    header, *rows = downloaded(owner.get("/activity.csv", {"model": "a/x"}))
    assert tuple(header) == CSV_HEADER
    assert sorted(row[1] for row in rows) == sorted(map(generation_id, made))
    row = dict(zip(header, rows[0], strict=True))
    assert row | {"id": ""} == {
        "time": "2026-05-10T09:00:00Z",
        "id": "",
        "model": "a/x",
        "provider": "sandbox",
        "key": str(key_id),
        "key_name": "'=evil()",
        "member": "",
        "prompt_tokens": "100",
        "cached_tokens": "0",
        "completion_tokens": "20",
        "reasoning_tokens": "0",
        "micro_credits": "14737",
        "estimated": "false",
        "streamed": "true",
        "finish_reason": "stop",
        "error": "",
        "first_token_ms": "0",
        "latency_ms": "5",
    }


def test_a_download_has_an_end(alice: Tenant, owner: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(downloads, "ROWS_MAX", 3)
    monkeypatch.setattr("quantized.dashboard.activity.PAGE_ROWS", 2)
    for _ in range(6):
        call(alice)
    assert len(downloaded(owner.get("/activity.csv"))) == 1 + 3


def test_the_member_who_called_is_named(alice: Tenant, owner: Client):
    user = User.objects.get(memberships__organization_id=alice.organization_id)
    hold_id = alice.hold(10, user_id=user.pk)
    do(alice.settle(hold_id, 10, usage=Tokens(prompt_tokens=1)))
    assert user.email in text(owner.get("/activity")).split("Finish")[1]
    assert downloaded(owner.get("/activity.csv"))[1][6] == user.email


def test_a_page_reads_no_more_than_it_shows(alice: Tenant, owner: Client):
    for _ in range(60):
        call(alice)
    with CaptureQueriesContext(connection) as captured:
        owner.get("/activity")
    [sql] = [query["sql"] for query in captured if '"billing_usage"."recorded_at"' in query["sql"]]
    assert "OFFSET" not in sql
    assert sql.endswith("LIMIT 51")


def test_receipts_of_other_prices_use_that_calls_price(alice: Tenant, owner: Client):
    """A fail-over answers at another price than the hold was made at."""
    route = make_route("a/x")
    assert route.price is not None
    hold_id = alice.hold(1_000_000)
    receipt = make_receipt(price_id=route.price.pk, usage=Tokens(prompt_tokens=1_000), cost_pico=400_000_000)
    do(alice.settle(hold_id, 42_106, price_id=receipt.price_id, usage=receipt.usage, cost_pico=receipt.cost_pico))
    assert "Input 1,000 $0.40 $0.0004" in text(owner.get(f"/activity/{generation_id(hold_id)}"))
