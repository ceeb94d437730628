"""`GET /v1/usage`: current, equal to the ledger to the micro-credit, on every zone's calendar, as JSON and as CSV."""

import csv
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.callers import Principal
from accounts.services import create_user
from billing.models import Entry, UsageHour
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from billing.usage import rollups
from tests.kit.books import do, make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 6, 10, 9, 0, tzinfo=UTC)  # a Monday
TOKENS = Tokens(
    prompt_tokens=100,
    completion_tokens=20,
    cached_tokens=7,
    cache_write_5m_tokens=5,
    cache_write_1h_tokens=6,
    reasoning_tokens=3,
)
NOTHING = {
    "requests": 0,
    "errors": 0,
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "cache_write_tokens": 0,
    "completion_tokens": 0,
    "reasoning_tokens": 0,
    "credits_used": 0,
    "corrections": 0,
}
ONE = {
    "requests": 1,
    "errors": 0,
    "prompt_tokens": 100,
    "cached_tokens": 7,
    "cache_write_tokens": 11,
    "completion_tokens": 20,
    "reasoning_tokens": 3,
    "credits_used": 50,
    "corrections": 0,
}


@pytest.fixture
def clock() -> DatabaseClock:
    return DatabaseClock(START)


@pytest.fixture
def credits_micro() -> int:
    return 1_000_000_000


def client(tenant: Tenant, *, key: UUID | None = None, role: str = "viewer") -> APIClient:
    api = APIClient()
    api.force_authenticate(Principal(tenant.organization_id, key, None if key else 1, "key" if key else role, None))
    return api


def call(tenant: Tenant, charged: int = 50, *, key: UUID | None = None, user: int | None = None, **of: Any) -> UUID:
    hold_id = tenant.hold(charged, key=key, **({"user_id": user} if user else {}))
    do(tenant.settle(hold_id, charged, key=key, **({"usage": TOKENS, "cost_pico": 1_000} | of)))
    return hold_id


def correct(tenant: Tenant, amount: int, hold_id: UUID | None) -> None:
    do(tenant.post(amount, kind="correction", hold_id=hold_id))


def usage(tenant: Tenant, *, key: UUID | None = None, **query: str) -> dict[str, Any]:
    if "start" in query:
        query["from"] = query.pop("start")
    answer = client(tenant, key=key).get("/v1/usage", query)
    assert answer.status_code == 200, answer.content
    return answer.json()


def credits_by_group(tenant: Tenant, **query: str) -> dict[str | None, int]:
    return {row["group"]: row["credits_used"] for row in usage(tenant, **query)["data"]}


def taken(tenant: Tenant, start: datetime, end: datetime) -> int:
    """What the ledger took for calls in a time: minus the sum of its entries."""
    kinds = ("usage", "late_usage", "correction")
    entries = Entry.objects.filter(
        wallet_id=tenant.organization_id, kind__in=kinds, created_at__gte=start, created_at__lt=end
    )
    return -(entries.aggregate(total=Sum("amount"))["total"] or 0)


def error(answer: Any) -> tuple[int, str, str | None, str]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told["param"], told["message"]


# --- The shape ------------------------------------------------------------------------------------


def test_a_day_is_the_sum_of_its_calls(alice: Tenant, clock: DatabaseClock):
    call(alice)
    do(alice.void(alice.hold(10), receipt=make_receipt(price_id=alice.price_id, error_code="unavailable")))
    clock.set(START + 2 * DAY)
    call(alice)
    first = ONE | {"requests": 2, "errors": 1}
    total = {name: first[name] + ONE[name] for name in ONE}
    assert usage(alice, start="2024-06-10", to="2024-06-12") == {
        "object": "list",
        "from": "2024-06-10T00:00:00Z",
        "to": "2024-06-13T00:00:00Z",
        "time_zone": "UTC",
        "group_by": "day",
        "data": [
            {"group": "2024-06-10", **first},
            {"group": "2024-06-11", **NOTHING},
            {"group": "2024-06-12", **ONE},
        ],
        "total": total,
    }


def test_hours_begin_where_they_begin(alice: Tenant, clock: DatabaseClock):
    call(alice, 1)
    clock.set(START + HOUR - timedelta(microseconds=1))
    call(alice, 2)
    clock.set(START + HOUR)
    call(alice, 4)
    query = {"start": "2024-06-10T09:00:00Z", "to": "2024-06-10T12:00:00Z", "group_by": "hour"}
    assert credits_by_group(alice, **query) == {
        "2024-06-10T09:00:00Z": 3,
        "2024-06-10T10:00:00Z": 4,
        "2024-06-10T11:00:00Z": 0,
    }
    assert credits_by_group(alice, **query, time_zone="Europe/Berlin") == {
        "2024-06-10T11:00:00+02:00": 3,
        "2024-06-10T12:00:00+02:00": 4,
        "2024-06-10T13:00:00+02:00": 0,
    }


def test_models_keys_and_members_are_listed_the_dearest_first(alice: Tenant):
    first, second = alice.key(name="ci"), alice.key(name="=evil()")
    dora = create_user("dora@example.org").pk
    call(alice, 10, model="a/cheap", key=first)
    call(alice, 30, model="b/dear", key=second)
    call(alice, 15, model="b/dear", user=dora)
    day = {"start": "2024-06-10", "to": "2024-06-10"}
    models = usage(alice, **day, group_by="model")
    assert models["data"][0] == {
        "group": "b/dear",
        **{name: 2 * count for name, count in ONE.items()},
        "credits_used": 45,
    }
    assert [(row["group"], row["credits_used"]) for row in models["data"]] == [("b/dear", 45), ("a/cheap", 10)]
    assert [
        (row["group"], row["name"], row["credits_used"]) for row in usage(alice, **day, group_by="key")["data"]
    ] == [(str(second), "=evil()", 30), (None, None, 15), (str(first), "ci", 10)]
    assert [
        (row["group"], row["name"], row["credits_used"]) for row in usage(alice, **day, group_by="member")["data"]
    ] == [(None, None, 40), (str(dora), "dora@example.org", 15)]
    totals = [usage(alice, **day, group_by=group)["total"] for group in ("day", "hour", "model", "key", "member")]
    assert totals == [{name: 3 * count for name, count in ONE.items()} | {"credits_used": 55}] * 5


def test_without_calls_time_has_rows_and_other_groups_have_none(alice: Tenant):
    day = {"start": "2024-06-10", "to": "2024-06-10"}
    assert usage(alice, **day)["data"] == [{"group": "2024-06-10", **NOTHING}]
    assert usage(alice, **day, group_by="model")["data"] == []
    assert usage(alice, **day, group_by="model")["total"] == NOTHING


def test_thirty_days_until_today_unless_told(alice: Tenant, clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch):
    now = datetime(2024, 6, 10, 22, 30, tzinfo=UTC)  # after midnight in Berlin
    monkeypatch.setattr(timezone, "now", lambda: now)
    clock.set(now)
    call(alice)
    told = usage(alice)
    assert (told["from"], told["to"]) == ("2024-05-12T00:00:00Z", "2024-06-11T00:00:00Z")
    assert (len(told["data"]), told["data"][-1]) == (30, {"group": "2024-06-10", **ONE})
    told = usage(alice, time_zone="Europe/Berlin")
    assert (told["from"], told["to"]) == ("2024-05-13T00:00:00+02:00", "2024-06-12T00:00:00+02:00")
    assert (len(told["data"]), told["data"][-1]) == (30, {"group": "2024-06-11", **ONE})
    told = usage(alice, to="2024-03-01")
    assert (told["from"], told["to"]) == ("2024-02-01T00:00:00Z", "2024-03-02T00:00:00Z")
    assert usage(alice, to="2024-03-02T00:00:00Z") == told


def test_what_has_not_begun_is_not_listed(alice: Tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timezone, "now", lambda: START)
    call(alice)
    told = usage(alice, group_by="hour", start="2024-06-10")
    assert [row["group"] for row in told["data"]] == [f"2024-06-10T{hour:02}:00:00Z" for hour in range(10)]
    monkeypatch.setattr(timezone, "now", lambda: START - HOUR)  # a clock that is behind the database's
    assert usage(alice, group_by="hour", start="2024-06-10")["data"] == told["data"]


# --- Current, and equal to the ledger -------------------------------------------------------------


def test_numbers_are_current_before_and_after_a_roll_up(alice: Tenant, clock: DatabaseClock):
    seen = []
    for minutes in (0, 30, 70, 75, 200):
        clock.set(START + timedelta(minutes=minutes))
        call(alice, 10)
        seen.append(usage(alice, start="2024-06-10", to="2024-06-10")["total"]["credits_used"])
        rollups.roll_up()
        seen.append(usage(alice, start="2024-06-10", to="2024-06-10")["total"]["credits_used"])
    assert seen == [10, 10, 20, 20, 30, 30, 40, 40, 50, 50]
    assert verifier.violations() == []


def test_a_call_that_commits_late_is_counted_at_once(alice: Tenant, clock: DatabaseClock):
    """A batch that read its clock just before a roll-up and committed after it."""
    call(alice, 10)
    clock.set(START + HOUR + timedelta(minutes=1))
    rollups.roll_up()
    clock.set(START + HOUR - timedelta(milliseconds=1))
    call(alice, 20)
    assert credits_by_group(alice, start="2024-06-10", to="2024-06-10") == {"2024-06-10": 30}


def test_final_hours_come_from_the_roll_up_alone(alice: Tenant, clock: DatabaseClock):
    call(alice, 10)
    clock.set(START + DAY)
    rollups.roll_up()
    UsageHour.objects.update(charged=11)  # as if it were wrong, to see where the figure comes from
    days = {"start": "2024-06-10", "to": "2024-06-10"}
    assert usage(alice, **days)["total"]["credits_used"] == 11
    assert usage(alice, **days, group_by="hour", time_zone="Asia/Kolkata")["total"]["credits_used"] == 11
    cut = usage(alice, start="2024-06-10T09:00:00Z", to="2024-06-10T09:30:00Z")
    assert cut["total"]["credits_used"] == 10


def test_a_cut_hour_is_read_exactly(alice: Tenant, clock: DatabaseClock):
    for minutes, credits in ((0, 1), (14, 2), (15, 4), (44, 8), (45, 16), (59, 32)):
        clock.set(START + timedelta(minutes=minutes))
        call(alice, credits)
    clock.set(START + DAY)
    rollups.roll_up()
    for start, end, expected in ((0, 15, 3), (15, 45, 12), (45, 60, 48), (14, 46, 30), (0, 60, 63)):
        first, last = START + timedelta(minutes=start), START + timedelta(minutes=end)
        for group_by in ("day", "hour", "model"):
            told = usage(alice, start=first.isoformat(), to=last.isoformat(), group_by=group_by)
            assert (told["total"]["credits_used"], len(told["data"])) == (expected, 1)


def test_corrections_count_when_they_were_made(alice: Tenant, clock: DatabaseClock):
    key = alice.key()
    refunded, extra = call(alice, 100, key=key, model="a/b"), call(alice, 70)
    clock.set(START + DAY)
    correct(alice, 40, refunded)
    correct(alice, -5, extra)
    correct(alice, 1, None)
    told = usage(alice, start="2024-06-10", to="2024-06-11")
    assert [(row["credits_used"], row["corrections"]) for row in told["data"]] == [(170, 0), (-36, -36)]
    assert (told["total"]["credits_used"], told["total"]["requests"]) == (134, 2)
    assert told["total"]["credits_used"] == taken(alice, START, START + 2 * DAY)
    days = {"start": "2024-06-10", "to": "2024-06-11"}
    assert credits_by_group(alice, **days, group_by="model") == {"a/b": 60, "sandbox/echo": 75, None: -1}
    assert credits_by_group(alice, **days, group_by="key") == {None: 74, str(key): 60}
    assert usage(alice, **days, key=key)["total"] == ONE | {"credits_used": 60, "corrections": -40}


def test_what_was_put_in_is_no_usage(alice: Tenant):
    do(alice.post(500, kind="grant"))
    do(alice.post(-3, kind="adjustment"))
    assert usage(alice, start="2024-06-10", to="2024-06-10")["total"] == NOTHING


ZONES = [
    # The zone, and days around a change of its clocks.
    ("Europe/Berlin", date(2024, 3, 30)),
    ("Europe/Berlin", date(2024, 10, 26)),
    ("America/New_York", date(2024, 3, 9)),
    ("America/New_York", date(2024, 11, 2)),
    ("Asia/Kolkata", date(2024, 6, 1)),
    ("Asia/Kathmandu", date(2024, 6, 1)),
    ("Australia/Lord_Howe", date(2024, 4, 6)),
    ("Australia/Lord_Howe", date(2024, 10, 5)),
    ("America/Havana", date(2024, 3, 9)),
    ("America/Havana", date(2024, 11, 2)),
    ("America/St_Johns", date(2024, 3, 9)),
    ("Asia/Beirut", date(2024, 3, 30)),
    ("Pacific/Apia", date(2011, 12, 29)),
    ("UTC", date(2024, 2, 28)),
]


@pytest.mark.parametrize(("zone", "first"), ZONES, ids=str)
def test_every_call_is_counted_on_the_day_its_clock_showed(zone: str, first: date, clock: DatabaseClock):
    """Against the plainest way there is: the zone's own date of every entry. Half of it rolled up, half not."""
    local, chance = ZoneInfo(zone), random.Random(f"{zone} {first}")
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC) - DAY
    moments = sorted(begin + timedelta(seconds=chance.randrange(5 * 24 * 3600)) for _ in range(60))
    clock.set(begin)
    alice = Tenant(1_000_000)
    for moment in moments:
        clock.set(moment)
        call(alice, chance.randrange(1, 1000))
        if moment == moments[40]:
            rollups.roll_up()
    clock.set(moments[-1] + DAY)
    last = first + 2 * DAY
    expected: Counter[str] = Counter()
    for entry in Entry.objects.filter(wallet_id=alice.organization_id, kind="usage"):
        shown = entry.created_at.astimezone(local).date()
        if first <= shown <= last:
            expected[shown.isoformat()] -= entry.amount
    for _ in range(2):
        told = usage(alice, start=first.isoformat(), to=last.isoformat(), time_zone=zone)
        assert Counter({row["group"]: row["credits_used"] for row in told["data"]}) == expected
        hours = usage(alice, start=first.isoformat(), to=last.isoformat(), time_zone=zone, group_by="hour")
        assert hours["total"] == told["total"]
        assert told["total"]["credits_used"] == taken(
            alice, datetime.fromisoformat(told["from"]), datetime.fromisoformat(told["to"])
        )
        rollups.roll_up()
    assert verifier.violations() == []


@pytest.mark.parametrize(
    ("zone", "day", "hours", "edges"),
    [
        ("Europe/Berlin", "2024-03-31", 23, ("2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00")),
        ("Europe/Berlin", "2024-10-27", 25, ("2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00")),
        ("America/New_York", "2024-03-10", 23, ("2024-03-10T00:00:00-05:00", "2024-03-11T00:00:00-04:00")),
        ("America/New_York", "2024-11-03", 25, ("2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00")),
        ("Asia/Kolkata", "2024-06-01", 25, ("2024-06-01T00:00:00+05:30", "2024-06-02T00:00:00+05:30")),
        ("Australia/Lord_Howe", "2024-04-07", 25, ("2024-04-07T00:00:00+11:00", "2024-04-08T00:00:00+10:30")),
        ("Australia/Lord_Howe", "2024-10-06", 24, ("2024-10-06T00:00:00+10:30", "2024-10-07T00:00:00+11:00")),
        ("America/Havana", "2024-03-10", 23, ("2024-03-10T01:00:00-04:00", "2024-03-11T00:00:00-04:00")),
    ],
)
def test_a_day_has_the_hours_its_clock_had(alice: Tenant, zone: str, day: str, hours: int, edges: tuple[str, str]):
    """A day that begins at half past an hour of UTC has half an hour at each end, 25 rows in all."""
    told = usage(alice, start=day, to=day, time_zone=zone, group_by="hour")
    assert (told["from"], told["to"]) == edges
    assert len(told["data"]) == len({row["group"] for row in told["data"]}) == hours
    assert told["data"][0]["group"] == edges[0]


def test_a_day_that_never_was_is_not_listed(alice: Tenant):
    told = usage(alice, start="2011-12-29", to="2011-12-31", time_zone="Pacific/Apia")
    assert [row["group"] for row in told["data"]] == ["2011-12-29", "2011-12-31"]


def test_the_repeated_hour_is_two_hours(alice: Tenant, clock: DatabaseClock):
    night = {"start": "2024-10-27T02:00:00+02:00", "to": "2024-10-27T03:00:00+01:00", "time_zone": "Europe/Berlin"}
    for moment, credits in (
        (datetime(2024, 10, 27, 0, 30, tzinfo=UTC), 1),
        (datetime(2024, 10, 27, 1, 30, tzinfo=UTC), 2),
    ):
        clock.set(moment)
        call(alice, credits)
    assert credits_by_group(alice, **night, group_by="hour") == {
        "2024-10-27T02:00:00+02:00": 1,
        "2024-10-27T02:00:00+01:00": 2,
    }


def test_a_time_without_an_offset_is_on_the_zones_clock(alice: Tenant):
    query = {"start": "2024-06-10T11:00", "to": "2024-06-10T12:00:00.5", "time_zone": "Europe/Berlin"}
    told = usage(alice, **query)
    assert (told["from"], told["to"]) == ("2024-06-10T11:00:00+02:00", "2024-06-10T12:00:00.500000+02:00")


# --- CSV --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_by", ["day", "hour", "model", "key", "member"])
def test_csv_has_the_same_figures(alice: Tenant, clock: DatabaseClock, group_by: str):
    key, dora = alice.key(name="ci"), create_user("dora@example.org").pk
    call(alice, 123_456_789, key=key)
    call(alice, 7, user=dora)
    clock.set(START + DAY)
    correct(alice, 3, call(alice, 11))
    days = {"from": "2024-06-10", "to": "2024-06-12", "group_by": group_by}
    answer = client(alice).get("/v1/usage", {**days, "format": "csv"})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="usage-2024-06-10-2024-06-12.csv"'
    rows = usage(alice, **days)["data"]
    read = list(csv.DictReader(StringIO(answer.content.decode())))
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    columns = ["group", *(["name"] if group_by in ("key", "member") else []), *NOTHING]
    assert answer.content.decode().splitlines()[0] == ",".join(columns)


def test_csv_without_rows_has_its_header(alice: Tenant):
    answer = client(alice).get("/v1/usage", {"group_by": "key", "to": "2024-06-10", "format": "csv"})
    assert answer.content.decode() == ",".join(["group", "name", *NOTHING]) + "\r\n"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x"])
def test_a_name_is_no_formula_to_a_spreadsheet(alice: Tenant, name: str):
    call(alice, key=alice.key(name=name))
    answer = client(alice).get(
        "/v1/usage", {"group_by": "key", "from": "2024-06-10", "to": "2024-06-10", "format": "csv"}
    )
    (row,) = csv.DictReader(StringIO(answer.content.decode()))
    assert row["name"] == f"'{name}"


# --- What is refused --------------------------------------------------------------------------------

NO_TIME = (
    "must be a date (2026-01-31) or a time (2026-01-31T12:00:00Z; in a URL '+' is written %2B), from 2000 to 2199."
)
WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"from": "yesterday"}, "out_of_range", "from", f"'from' {NO_TIME}"),
    ({"from": ""}, "out_of_range", "from", f"'from' {NO_TIME}"),
    ({"to": "2024-02-30"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"to": "20240201"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"to": "2024-02-01T25:00:00Z"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"to": "2024-02-01T00:00:00 02:00"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"from": "0001-01-01", "to": "0001-01-02"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"to": "9999-12-31"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"to": "٢٠٢٤-02-01"}, "out_of_range", "to", f"'to' {NO_TIME}"),
    ({"from": "2024-06-11", "to": "2024-06-10"}, "out_of_range", "to", "'to' must be after 'from'."),
    ({"from": "2024-06-10T09:00Z", "to": "2024-06-10T09:00Z"}, "out_of_range", "to", "'to' must be after 'from'."),
    (
        {"from": "2024-01-01", "to": "2025-02-04"},
        "out_of_range",
        "from",
        "'from' and 'to' must be at most 400 days apart.",
    ),
    (
        {"from": "2024-01-01", "to": "2024-02-01", "group_by": "hour"},
        "out_of_range",
        "from",
        "'from' and 'to' must be at most 31 days apart by hour.",
    ),
    (
        {"time_zone": "Berlin"},
        "out_of_range",
        "time_zone",
        "'time_zone' must be a name of the IANA time zone database, like Europe/Berlin.",
    ),
    ({"time_zone": "../../etc/passwd"}, "out_of_range", "time_zone", None),
    ({"time_zone": ""}, "out_of_range", "time_zone", None),
    ({"time_zone": "\0"}, "out_of_range", "time_zone", None),
    ({"time_zone": "x" * 65}, "out_of_range", "time_zone", None),
    (
        {"group_by": "week"},
        "out_of_range",
        "group_by",
        "'group_by' must be one of 'day', 'hour', 'model', 'key', 'member'.",
    ),
    ({"format": "xml"}, "out_of_range", "format", "'format' must be 'json' or 'csv'."),
    ({"groupby": "hour"}, "unknown_field", "groupby", "Unknown field: 'groupby'. Did you mean 'group_by'?"),
    ({"from_": "2024-01-01"}, "unknown_field", "from_", "Unknown field: 'from_'. Did you mean 'from'?"),
    ({"to": ["2024-01-01", "2024-01-02"]}, "invalid_request", "to", "'to' is given 2 times."),
]


@pytest.mark.parametrize(("query", "code", "param", "message"), WRONG)
def test_a_wrong_parameter_is_named(alice: Tenant, query: dict[str, Any], code: str, param: str, message: str | None):
    status, told_code, told_param, told = error(client(alice).get("/v1/usage", query))
    assert (status, told_code, told_param) == (400, code, param)
    assert message in (None, told)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_the_longest_spans_are_accepted_across_changes_of_the_clock(alice: Tenant, zone: str):
    assert len(usage(alice, start="2024-10-01", to="2024-10-31", time_zone=zone, group_by="hour")["data"]) >= 744
    assert len(usage(alice, start="2023-03-20", to="2024-04-22", time_zone=zone)["data"]) == 400


# --- Who may ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["owner", "admin", "developer", "billing", "viewer"])
def test_every_member_reads_all_of_it(alice: Tenant, role: str):
    call(alice, key=alice.key())
    answer = client(alice, role=role).get("/v1/usage", {"from": "2024-06-10", "to": "2024-06-10"})
    assert answer.json()["total"] == ONE


def test_an_api_key_reads_its_own_usage_alone(alice: Tenant, clock: DatabaseClock):
    key, other = alice.key(name="mine"), alice.key()
    call(alice, 50, key=key)
    call(alice, 7, key=other)
    call(alice, 3)
    days = {"start": "2024-06-10", "to": "2024-06-11"}
    for _ in range(2):
        assert usage(alice, **days, key=key)["total"] == ONE
        (row,) = usage(alice, **days, key=key, group_by="key")["data"]
        assert row == {"group": str(key), "name": "mine", **ONE}
        clock.set(START + DAY)
        rollups.roll_up()


def test_charlie_sees_nothing_of_alices(alice: Tenant, clock: DatabaseClock):
    key = alice.key(name="alice's")
    correct(alice, 5, call(alice, 10, key=key))
    charlie = Tenant(1_000)
    days = {"start": "2024-06-10", "to": "2024-06-11"}
    for _ in range(2):
        for group_by in ("day", "hour", "model", "key", "member"):
            told = usage(charlie, **days, group_by=group_by)
            assert told["total"] == NOTHING
            assert all(row["requests"] == 0 for row in told["data"])
        assert usage(charlie, **days, key=key)["total"] == NOTHING
        clock.set(START + DAY)
        rollups.roll_up()
    assert usage(alice, **days)["total"]["credits_used"] == 5


def test_without_authorization_nothing_is_told():
    assert error(APIClient().get("/v1/usage"))[:2] == (401, "invalid_api_key")


def test_it_is_only_read(alice: Tenant):
    assert error(client(alice).post("/v1/usage"))[:2] == (405, "method_not_allowed")


# --- What it costs ----------------------------------------------------------------------------------


def test_a_report_costs_two_queries_at_most(alice: Tenant):
    for number in range(5):
        call(alice, key=alice.key(name=str(number)), model=f"a/{number}", user=create_user(f"{number}@x.org").pk)
    for group_by, queries in (("day", 1), ("hour", 1), ("model", 1), ("key", 2), ("member", 2)):
        with CaptureQueriesContext(connection) as captured:
            client(alice).get("/v1/usage", {"from": "2024-06-10", "to": "2024-06-10", "group_by": group_by})
        assert len(captured) == queries
