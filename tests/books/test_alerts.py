"""Alerts: every crossing is told once, whatever goes back and forth and however many look at once."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import Membership, Organization
from accounts.services import add_member, create_user
from billing import tasks
from billing.models import Wallet
from billing.notices import alerts, webhooks
from billing.notices.kinds.budget import Spending, crossed
from billing.notices.kinds.low_balance import QUIET_S
from billing.notices.models import AlertRule, Delivery, Notification
from common.checks import Invalid
from tests.kit.books import at_once, do
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Cast, Tenant, make_cast
from tests.kit.webhook_receiver import receiving

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)  # a Thursday
LATER = timedelta(seconds=QUIET_S)


@pytest.fixture
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(NOON)


@pytest.fixture
def credits_micro() -> int:
    return 1_000


def owned(tenant: Tenant, email: str = "alice@example.org") -> str:
    add_member(Organization.objects.get(pk=tenant.organization_id), create_user(email), Membership.Role.OWNER)
    return email


def call(tenant: Tenant, charged: int, key: UUID | None = None) -> None:
    do(tenant.settle(tenant.hold(charged, key=key), charged, key=key))


def low(tenant: Tenant, threshold: int = 500, **given: Any) -> AlertRule:
    return alerts.create_rule(tenant.organization_id, "low_balance", threshold, **given)


def budget(tenant: Tenant, threshold: int = 100, period: str = "month", **given: Any) -> AlertRule:
    return alerts.create_rule(tenant.organization_id, "budget", threshold, period=period, **given)


def told(tenant: Tenant) -> list[dict[str, Any]]:
    rows = Notification.objects.filter(organization_id=tenant.organization_id).order_by("created_at")
    return [row.payload for row in rows]


# --- Low balance ------------------------------------------------------------------------------------


def test_a_balance_is_low_below_its_threshold(alice: Tenant) -> None:
    rule = low(alice)
    call(alice, 500)
    assert alerts.evaluate() == 0, "500 are not less than 500"
    call(alice, 1)
    assert alerts.evaluate() == 1
    assert told(alice) == [{"rule": str(rule.pk), "threshold": 500, "available": 499, "balance": 499, "held": 0}]
    assert Notification.objects.get().kind == "balance.low"


def test_what_is_held_is_not_available(alice: Tenant) -> None:
    low(alice)
    alice.hold(501)
    assert alerts.evaluate() == 1
    assert [(one["available"], one["balance"], one["held"]) for one in told(alice)] == [(499, 1_000, 501)]


def test_it_is_told_once_until_it_was_enough_again(clock: DatabaseClock, alice: Tenant) -> None:
    low(alice)
    call(alice, 600)
    assert [alerts.evaluate() for _ in range(3)] == [1, 0, 0]
    clock.set(NOON + LATER)
    call(alice, 100)
    assert alerts.evaluate() == 0, "lower still, but it was never enough again"
    do(alice.post(200))  # 500: enough
    assert alerts.evaluate() == 0
    call(alice, 1)
    assert [alerts.evaluate() for _ in range(3)] == [1, 0, 0]
    assert [one["available"] for one in told(alice)] == [400, 499]


def test_back_and_forth_between_two_passes_is_nothing(clock: DatabaseClock, alice: Tenant) -> None:
    low(alice)
    call(alice, 600)
    do(alice.post(600))
    assert alerts.evaluate() == 0


def test_a_balance_that_hovers_is_told_after_a_quiet_time(clock: DatabaseClock, alice: Tenant) -> None:
    low(alice)
    hold = alice.hold(501)
    assert alerts.evaluate() == 1
    do(alice.void(hold))
    assert alerts.evaluate() == 0
    alice.hold(501)
    assert alerts.evaluate() == 0, "it came and went a moment ago"
    clock.set(NOON + LATER)
    assert [alerts.evaluate() for _ in range(2)] == [1, 0], "and is not lost"


def test_unlimited_wallets_are_never_low(alice: Tenant) -> None:
    low(alice)
    Wallet.objects.filter(pk=alice.organization_id).update(unlimited=True)
    call(alice, 5_000)
    assert alerts.evaluate() == 0
    assert told(alice) == []


def test_each_rule_has_its_own_threshold(alice: Tenant) -> None:
    for threshold in (900, 500, 100):
        low(alice, threshold)
    call(alice, 550)
    assert alerts.evaluate() == 2
    assert sorted(one["threshold"] for one in told(alice)) == [500, 900]


def test_a_rule_that_is_off_says_nothing(alice: Tenant) -> None:
    rule = low(alice)
    alerts.change_rule(alice.organization_id, rule.pk, {"enabled": False})
    call(alice, 600)
    assert alerts.evaluate() == 0
    alerts.change_rule(alice.organization_id, rule.pk, {"enabled": True})
    assert alerts.evaluate() == 1


# --- Budgets ----------------------------------------------------------------------------------------


def test_a_budget_tells_of_each_percentage_once(alice: Tenant) -> None:
    rule = budget(alice, percents=[100, 50, 80])
    found = []
    for charged in (49, 1, 29, 1, 19, 1, 500):
        call(alice, charged)
        found.append(alerts.evaluate() + alerts.evaluate())
    assert found == [0, 1, 0, 1, 0, 1, 0]
    assert [(one["percent"], one["spent"]) for one in told(alice)] == [(50, 50), (80, 80), (100, 100)]
    assert told(alice)[0] == {
        "rule": str(rule.pk),
        "budget": 100,
        "spent": 50,
        "percent": 50,
        "percents_crossed": [50],
        "period": "month",
        "period_start": "2026-11-01T00:00:00Z",
        "key": None,
        "key_name": None,
    }


def test_a_leap_over_several_is_one_alert(alice: Tenant) -> None:
    budget(alice, percents=[50, 80, 100])
    call(alice, 90)
    assert [alerts.evaluate() for _ in range(2)] == [1, 0]
    assert [(one["percent"], one["percents_crossed"]) for one in told(alice)] == [(80, [50, 80])]


@pytest.mark.parametrize(
    ("period", "last", "start"),
    [
        ("day", datetime(2026, 11, 26, 23, 59, 59, 999_999, tzinfo=UTC), "2026-11-26T00:00:00Z"),
        ("week", datetime(2026, 11, 29, 23, 59, 59, 999_999, tzinfo=UTC), "2026-11-23T00:00:00Z"),
        ("month", datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC), "2026-11-01T00:00:00Z"),
    ],
)
def test_a_period_ends_to_the_instant(clock: DatabaseClock, alice: Tenant, period: str, last, start: str) -> None:
    key = alice.key(name="ci")
    budget(alice, 100, period)
    budget(alice, 100, period, key_id=key)
    clock.set(last)
    call(alice, 100, key)
    assert alerts.evaluate() == 2
    assert {(one["spent"], one["period_start"]) for one in told(alice)} == {(100, start)}
    clock.set(last + timedelta(microseconds=1))
    assert alerts.evaluate() == 0, "a new period begins at nothing"
    call(alice, 99, key)
    assert alerts.evaluate() == 0
    call(alice, 1, key)
    assert [alerts.evaluate() for _ in range(2)] == [2, 0]
    assert [one["spent"] for one in told(alice)] == [100] * 4


def test_only_calls_and_their_corrections_are_spending(clock: DatabaseClock, alice: Tenant) -> None:
    budget(alice, 100)
    do(alice.post(5_000, kind="grant"))
    do(alice.post(-700, kind="refund"))
    do(alice.post(-30, kind="expiry"))
    do(alice.post(-300))
    alice.hold(400)
    assert alerts.evaluate() == 0
    hold = alice.hold(120)
    do(alice.settle(hold, 120))
    do(alice.post(21, kind="correction", hold_id=hold))
    assert alerts.evaluate() == 0, "99 after the correction"
    call(alice, 1)
    assert alerts.evaluate() == 1
    assert [one["spent"] for one in told(alice)] == [100]


def test_a_correction_across_the_border_and_back_is_told_once(alice: Tenant) -> None:
    budget(alice, 100)
    hold = alice.hold(100)
    do(alice.settle(hold, 100))
    assert alerts.evaluate() == 1
    do(alice.post(50, kind="correction", hold_id=hold))
    assert alerts.evaluate() == 0
    call(alice, 60)
    assert alerts.evaluate() == 0


def test_a_keys_budget_counts_that_key_alone(alice: Tenant) -> None:
    key, other = alice.key(name="ci"), alice.key()
    budget(alice, key_id=key)
    call(alice, 300, other)
    call(alice, 200)
    call(alice, 99, key)
    assert alerts.evaluate() == 0
    call(alice, 1, key)
    assert alerts.evaluate() == 1
    assert [(one["spent"], one["key"], one["key_name"]) for one in told(alice)] == [(100, str(key), "ci")]


def test_unlimited_wallets_have_budgets(alice: Tenant) -> None:
    Wallet.objects.filter(pk=alice.organization_id).update(unlimited=True)
    budget(alice, 2_000)
    call(alice, 2_000)
    assert alerts.evaluate() == 1


def test_another_threshold_begins_anew(alice: Tenant) -> None:
    rule = budget(alice)
    call(alice, 150)
    assert alerts.evaluate() == 1
    alerts.change_rule(alice.organization_id, rule.pk, {"threshold_micro": 150})
    assert [alerts.evaluate() for _ in range(2)] == [1, 0]
    alerts.change_rule(alice.organization_id, rule.pk, {"addresses": ["cfo@example.org"]})
    assert alerts.evaluate() == 0, "other receivers are no reason to tell again"


def test_percentages_are_exact() -> None:
    def spent(micro: int) -> Spending:
        return Spending(uuid4(), 3 * 10**18, [33], 0, None, "day", NOON, micro, None, None)

    assert crossed(spent(99 * 10**16 - 1)) == []
    assert crossed(spent(99 * 10**16)) == [33]


def test_a_pass_reads_no_usage_and_is_three_queries(alice: Tenant) -> None:
    for _ in range(9):
        low(alice)
        budget(alice)
    call(alice, 10)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert alerts.evaluate() == 0
    assert len(queries) == 3
    assert "billing_usage" not in str(queries.captured_queries)


# --- Side by side -----------------------------------------------------------------------------------


def test_three_passes_at_once_tell_once(live_db: None) -> None:
    tenants = [Tenant(1_000) for _ in range(4)]
    for tenant in tenants:
        low(tenant)
        budget(tenant, percents=[50, 100])
        call(tenant, 600)
    at_once([alerts.evaluate] * 3)
    for tenant in tenants:
        kinds = Notification.objects.filter(organization_id=tenant.organization_id).values_list("kind", flat=True)
        assert sorted(kinds) == ["balance.low", "budget.reached"]
    AlertRule.objects.filter(organization_id__in=[tenant.organization_id for tenant in tenants]).delete()


def test_what_could_not_be_told_is_told_by_the_next_pass(monkeypatch, alice: Tenant) -> None:
    """The state and the notification are one transaction."""
    low(alice)
    call(alice, 600)
    with monkeypatch.context() as broken:
        broken.setattr(alerts, "tell", lambda *args: 1 / 0)
        assert alerts.evaluate() == 0
    assert told(alice) == []
    assert alerts.evaluate() == 1


def test_a_rule_that_fails_holds_up_nobody(monkeypatch, caplog, alice: Tenant) -> None:
    broken, fine = low(alice), low(alice)
    call(alice, 600)
    whole = alerts.tell

    def tell(rule_id: UUID, kind: str, figures: Mapping[str, Any]) -> None:
        if rule_id == broken.pk:
            raise RuntimeError
        whole(rule_id, kind, figures)

    monkeypatch.setattr(alerts, "tell", tell)
    assert alerts.evaluate() == 1
    assert [one["rule"] for one in told(alice)] == [str(fine.pk)]
    assert f"unexpected failure of alert {broken.pk}" in caplog.text


# --- Who is told ------------------------------------------------------------------------------------


def test_a_rule_names_its_receivers(alice: Tenant) -> None:
    email = owned(alice)
    endpoint, _ = webhooks.create_endpoint(alice.organization_id, "https://hooks.example.com/")
    webhooks.create_endpoint(alice.organization_id, "https://other.example.com/")
    low(alice, roles=["owner"], addresses=["CFO@example.org"], webhook_id=endpoint.pk)
    call(alice, 600)
    alerts.evaluate()
    found = set(Delivery.objects.values_list("channel", "target"))
    assert found == {("email", "cfo@example.org"), ("email", email), ("webhook", str(endpoint.pk))}


def test_only_those_it_names(alice: Tenant) -> None:
    owned(alice)
    webhooks.create_endpoint(alice.organization_id, "https://hooks.example.com/")
    low(alice, roles=[], addresses=["cfo@example.org"])
    call(alice, 600)
    alerts.evaluate()
    assert list(Delivery.objects.values_list("target", flat=True)) == ["cfo@example.org"]


def test_from_the_call_to_the_mailbox_and_the_receiver(alice: Tenant, settings, mailoutbox) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    email = owned(alice)
    with receiving() as receiver:
        endpoint, _ = webhooks.create_endpoint(alice.organization_id, receiver.url())
        low(alice, webhook_id=endpoint.pk)
        call(alice, 600)
        for _ in range(3):
            tasks.check_alerts()
            tasks.send_notices()
    assert [mail.to for mail in mailoutbox] == [[email]]
    assert [json.loads(body)["type"] for _, _, body in receiver.got] == ["balance.low"]


# --- The rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "nonsense"}, "kind: must be one of low_balance, budget"),
        ({"threshold_micro": 0}, "threshold: must be between 1 and"),
        ({"threshold_micro": 2**63}, "threshold: must be between 1 and"),
        ({"period": "month"}, "period: is for budgets only"),
        ({"key_id": uuid4()}, "key: is for budgets only"),
        ({"kind": "budget"}, "period: must be one of day, week, month"),
        ({"kind": "budget", "period": "year"}, "period: must be one of day, week, month"),
        ({"kind": "budget", "period": "day", "percents": []}, "percents: must be 1 to 10 whole numbers"),
        ({"kind": "budget", "period": "day", "percents": [0]}, "percents: must be 1 to 10 whole numbers"),
        ({"kind": "budget", "period": "day", "percents": [1_001]}, "percents: must be 1 to 10 whole numbers"),
        ({"kind": "budget", "period": "day", "percents": range(1, 12)}, "percents: must be 1 to 10 whole numbers"),
        ({"kind": "budget", "period": "day", "key_id": uuid4()}, "key: there is none with the id"),
        ({"roles": []}, "roles: must name somebody"),
        ({"roles": ["king"]}, "roles: must be one of"),
        ({"addresses": ["nobody"]}, "email: 'nobody' is not an e-mail address"),
        ({"addresses": [f"a{n}@example.org" for n in range(11)]}, "addresses: must be at most 10"),
        ({"webhook_id": uuid4()}, "webhook: there is none with the id"),
    ],
)
def test_what_is_wrong_is_named(alice: Tenant, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        alerts.create_rule(alice.organization_id, **({"kind": "low_balance", "threshold_micro": 5} | given))
    assert alerts.rules_of(alice.organization_id) == []


def test_there_are_not_too_many(alice: Tenant) -> None:
    for _ in range(20):
        low(alice)
    with pytest.raises(Invalid, match="rule: an organization has at most 20"):
        low(alice)


def test_a_change_is_checked_as_a_new_rule_is(alice: Tenant) -> None:
    rule = budget(alice, percents=[50])
    with pytest.raises(Invalid, match="percents: must be"):
        alerts.change_rule(alice.organization_id, rule.pk, {"percents": []})
    with pytest.raises(Invalid, match="kind: cannot be changed"):
        alerts.change_rule(alice.organization_id, rule.pk, {"kind": "low_balance"})
    changed = alerts.change_rule(alice.organization_id, rule.pk, {"percents": [90, 10], "period": "day"})
    assert (changed.percents, changed.period, changed.threshold_micro) == ([10, 90], "day", 100)


def test_the_database_refuses_rules_that_make_no_sense(alice: Tenant) -> None:
    rule = budget(alice)
    for change in ({"period": None}, {"percents": []}, {"threshold_micro": 0}, {"kind": "low_balance"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            AlertRule.objects.filter(pk=rule.pk).update(**change)


def test_charlie_finds_nothing_of_alices(db: None) -> None:
    cast: Cast = make_cast()
    endpoint, _ = webhooks.create_endpoint(cast.alice.organization_id, "https://hooks.example.com/")
    key = Tenant().key()
    rule = alerts.create_rule(cast.alice.organization_id, "low_balance", 5)
    before = AlertRule.objects.values().get()
    for attempt in (
        lambda: alerts.find_rule(cast.charlie.organization_id, rule.pk),
        lambda: alerts.change_rule(cast.charlie.organization_id, rule.pk, {"threshold_micro": 1}),
        lambda: alerts.delete_rule(cast.charlie.organization_id, rule.pk),
    ):
        with pytest.raises(Invalid, match=f"rule: there is none with the id {rule.pk}"):
            attempt()
    with pytest.raises(Invalid, match="webhook: there is none"):
        alerts.create_rule(cast.charlie.organization_id, "low_balance", 5, webhook_id=endpoint.pk)
    with pytest.raises(Invalid, match="key: there is none"):
        alerts.create_rule(cast.charlie.organization_id, "budget", 5, period="day", key_id=key)
    assert alerts.rules_of(cast.charlie.organization_id) == []
    assert AlertRule.objects.values().get() == before


def test_a_rule_outlives_its_webhook(alice: Tenant) -> None:
    endpoint, _ = webhooks.create_endpoint(alice.organization_id, "https://hooks.example.com/")
    rule = low(alice, webhook_id=endpoint.pk)
    webhooks.delete_endpoint(alice.organization_id, endpoint.pk)
    assert alerts.find_rule(alice.organization_id, rule.pk).webhook_id is None
    alerts.delete_rule(alice.organization_id, rule.pk)
    assert alerts.rules_of(alice.organization_id) == []
