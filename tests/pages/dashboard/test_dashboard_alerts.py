"""Alerts and webhooks on their pages: made, changed, deleted; secrets shown once; what was sent."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.notices import alerts, webhooks
from billing.notices.models import AlertRule, Delivery, Notification, WebhookEndpoint
from tests.kit.dashboard import text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

HOOK = "https://hooks.example.com/x"
LOW = {"threshold": "12.5", "roles": ["owner", "billing"], "addresses": "", "webhook": ""}
BUDGET = {"threshold": "100", "period": "week", "percents": "80, 50 100%", "key": "", "roles": ["admin"]}


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


def rule_of(alice: Tenant, **more: Any) -> AlertRule:
    return alerts.create_rule(alice.organization_id, "low_balance", 5_000_000, **more)


def endpoint_of(alice: Tenant, url: str = HOOK) -> WebhookEndpoint:
    return webhooks.create_endpoint(alice.organization_id, url).endpoint


# --- Alerts -----------------------------------------------------------------------------------------


def test_a_balance_alert_is_made_and_listed(alice: Tenant, owner: Client):
    assert "Nobody is told yet" in text(owner.get("/billing/alerts"))
    assert "Tell when less is left than, credits" in text(owner.get("/billing/alerts/new/low-balance"))
    page = text(owner.post("/billing/alerts/new/low-balance", LOW, follow=True))
    assert "Less than 12.5 credits are left on never owner billing Change Delete" in page
    rule = AlertRule.objects.get()
    assert (rule.organization_id, rule.kind, rule.threshold_micro) == (alice.organization_id, "low_balance", 12_500_000)


def test_a_budget_of_one_key_is_made_and_listed(alice: Tenant, owner: Client):
    key_id = alice.key(name="nightly", prefix="sk-quantized-abc", last_four="wxyz")
    endpoint = endpoint_of(alice)
    wish = BUDGET | {"key": str(key_id), "addresses": "cfo@example.org\n", "webhook": str(endpoint.pk)}
    page = text(owner.post("/billing/alerts/new/budget", wish, follow=True))
    assert (
        "50, 80, 100 % of 100 credits a week calls of nightly sk-quantized-abc…wxyz on never "
        "admin cfo@example.org webhook Change Delete" in page
    )
    rule = AlertRule.objects.get()
    assert (rule.period, rule.percents, rule.key_id) == ("week", [50, 80, 100], key_id)
    assert (rule.roles, rule.addresses, rule.webhook_id) == (["admin"], ["cfo@example.org"], endpoint.pk)


@pytest.mark.parametrize(
    ("kind", "wrong", "field", "says"),
    [
        ("low-balance", {"threshold": ""}, "threshold", "This field is required."),
        ("low-balance", {"threshold": "0"}, "threshold", "greater than or equal to 0.000001."),
        ("low-balance", {"threshold": "9999999999999"}, "threshold", "Must be between 1 and"),
        ("low-balance", {"roles": []}, "roles", "Choose who is told: members, other addresses or a webhook."),
        ("low-balance", {"addresses": "nobody"}, "addresses", "'nobody' is not an e-mail address."),
        ("low-balance", {"addresses": "\n".join(f"a{n}@b.cd" for n in range(11))}, "addresses", "Must be at most 10."),
        ("low-balance", {"webhook": str(uuid4())}, "webhook", "Select a valid choice."),
        ("budget", {"period": "year"}, "period", "Select a valid choice."),
        ("budget", {"percents": "half"}, "percents", "Whole numbers with commas between, such as 50, 80, 100."),
        ("budget", {"percents": "0"}, "percents", "Must be 1 to 10 whole numbers between 1 and 1000."),
        ("budget", {"percents": "²"}, "percents", "Whole numbers"),
        ("budget", {"key": str(uuid4())}, "key", "Select a valid choice."),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field(
    kind: str, wrong: dict[str, Any], field: str, says: str, owner: Client
):
    page = owner.post(f"/billing/alerts/new/{kind}", (LOW if kind == "low-balance" else BUDGET) | wrong)
    assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
    assert says in text(page).replace("&#x27;", "'")
    assert not AlertRule.objects.exists()


def test_there_are_so_many_and_no_more(alice: Tenant, owner: Client):
    for _ in range(alerts.RULES_MAX):
        rule_of(alice)
    page = owner.post("/billing/alerts/new/low-balance", LOW)
    assert (page.status_code, "An organization has at most 20." in text(page)) == (422, True)
    page = text(owner.get("/billing/alerts"))
    assert "These are 20, as many as there can be" in page
    assert "New balance alert" not in page


def test_what_is_left_as_it_was_is_not_told_again(alice: Tenant, owner: Client):
    rule = rule_of(alice)
    AlertRule.objects.filter(pk=rule.pk).update(armed=False, fired_at=timezone.now())
    assert "told, low now just now" in text(owner.get("/billing/alerts"))
    form = owner.get(f"/billing/alerts/{rule.pk}").content.decode()
    assert 'value="5"' in form
    owner.post(f"/billing/alerts/{rule.pk}", LOW | {"threshold": "5", "roles": ["admin"], "enabled": "on"})
    rule.refresh_from_db()
    assert (rule.roles, rule.armed, rule.enabled) == (["admin"], False, True)
    owner.post(f"/billing/alerts/{rule.pk}", LOW | {"threshold": "6", "enabled": "on"})
    rule.refresh_from_db()
    assert (rule.threshold_micro, rule.armed, rule.fired_at) == (6_000_000, True, None)
    owner.post(f"/billing/alerts/{rule.pk}", LOW | {"threshold": "6"})
    rule.refresh_from_db()
    assert not rule.enabled


def test_an_alert_is_deleted_after_one_question(alice: Tenant, owner: Client):
    rule = rule_of(alice)
    assert "Delete this alert?" in text(owner.get(f"/billing/alerts/{rule.pk}/delete"))
    assert AlertRule.objects.exists()
    assert "The alert is deleted." in text(owner.post(f"/billing/alerts/{rule.pk}/delete", follow=True))
    assert not AlertRule.objects.exists()


# --- Webhooks ---------------------------------------------------------------------------------------


def test_a_webhook_is_made_and_its_secret_shown_once(owner: Client):
    assert "No webhook yet" in text(owner.get("/billing/webhooks"))
    page = owner.post("/billing/webhooks", {"url": HOOK})
    endpoint = WebhookEndpoint.objects.get()
    [secret] = webhooks.signing_secrets(endpoint, timezone.now())
    assert page.content.decode().count(secret) == 1
    assert page.headers["cache-control"] == "no-store"
    assert HOOK in text(owner.get("/billing/webhooks"))
    for address in ("/billing/webhooks", f"/billing/webhooks/{endpoint.pk}"):
        assert secret not in owner.get(address).content.decode()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "This field is required."),
        ("http://example.com/x", "Must begin with https://."),
        ("https://127.0.0.1/x", "Leads to an address that is not public."),
        (HOOK, "Is an endpoint already."),
    ],
)
def test_an_address_that_cannot_be_is_refused_beside_its_field(url: str, says: str, alice: Tenant, owner: Client):
    endpoint_of(alice)
    page = owner.post("/billing/webhooks", {"url": url})
    assert page.status_code == 422
    assert says in text(page)
    assert WebhookEndpoint.objects.count() == 1


def test_the_secret_is_rotated_once_for_a_form(alice: Tenant, owner: Client):
    endpoint = endpoint_of(alice)
    address = f"/billing/webhooks/{endpoint.pk}"
    once = owner.get(address).context["once"]
    page = owner.post(f"{address}/rotate", {"once": once})
    endpoint.refresh_from_db()
    new, _old = webhooks.signing_secrets(endpoint, timezone.now())
    assert new in page.content.decode()
    assert page.headers["cache-control"] == "no-store"
    again = owner.post(f"{address}/rotate", {"once": once}, follow=True)
    assert "This form was sent before." in text(again)
    assert "Messages are signed with the new and the old secret; the old one ends in 23 hours" in text(again)
    endpoint.refresh_from_db()
    assert webhooks.signing_secrets(endpoint, timezone.now())[0] == new


def test_a_webhook_is_tried_switched_off_and_deleted(alice: Tenant, owner: Client):
    endpoint = endpoint_of(alice)
    address = f"/billing/webhooks/{endpoint.pk}"
    assert "Nothing was sent yet" in text(owner.get(address))
    page = text(owner.post(f"{address}/test", follow=True))
    assert "just now webhook.test waiting none yet 0" in page
    Delivery.objects.update(attempts=2, last_status=500, last_error="answered 500", due_at=timezone.now())
    assert "webhook.test trying again just now 500 answered 500 2" in text(owner.get(address))
    Delivery.objects.update(delivered_at=timezone.now(), last_status=204, last_error="")
    assert "webhook.test delivered 204 2" in text(owner.get(address))
    Delivery.objects.update(delivered_at=None, gave_up_at=timezone.now(), last_status=None, last_error="timed out")
    assert "webhook.test given up timed out 2" in text(owner.get(address))
    page = text(owner.post(f"{address}/switch", {"active": "0"}, follow=True))
    assert "The webhook is off" in page
    assert "Send a test" not in page
    assert "switch it on, then try it" in text(owner.post(f"{address}/test", follow=True))
    assert Notification.objects.count() == 1
    owner.post(f"{address}/switch", {"active": "1"})
    assert WebhookEndpoint.objects.get().active
    assert "Delete this webhook?" in text(owner.get(f"{address}/delete"))
    owner.post(f"{address}/delete")
    assert not WebhookEndpoint.objects.exists()


# --- Who may ----------------------------------------------------------------------------------------


def writes(rule: AlertRule, endpoint: WebhookEndpoint) -> list[tuple[str, dict[str, Any]]]:
    hook = f"/billing/webhooks/{endpoint.pk}"
    return [
        (f"/billing/alerts/{rule.pk}", LOW),
        (f"/billing/alerts/{rule.pk}/delete", {}),
        (f"{hook}/rotate", {}),
        (f"{hook}/switch", {"active": "0"}),
        (f"{hook}/test", {}),
        (f"{hook}/delete", {}),
    ]


def state() -> list[Any]:
    kinds = (AlertRule, WebhookEndpoint, Notification, Delivery)
    return [list(kind.objects.order_by("pk").values()) for kind in kinds]


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_others_see_and_cannot_act(role: str, alice: Tenant):
    rule, endpoint = rule_of(alice), endpoint_of(alice)
    member = alice.member(role).client
    before = state()
    for address in ("/billing/alerts", "/billing/webhooks", f"/billing/webhooks/{endpoint.pk}"):
        page = member.get(address)
        assert page.status_code == 200
        for offered in ("Change<", "Delete<", "Send a test", "New secret", "Add the webhook", "New budget"):
            assert offered not in page.content.decode()
    creating = [("/billing/alerts/new/budget", BUDGET), ("/billing/webhooks", {"url": f"{HOOK}/2"})]
    for address, data in [*writes(rule, endpoint), *creating]:
        assert member.post(address, data).status_code == 403, address
    assert state() == before


def test_charlie_finds_nothing_of_ours_and_changes_nothing(alice: Tenant, client: Client):
    rule, endpoint = rule_of(alice), endpoint_of(alice)
    charlie = Tenant(5, email="charlie@example.org").client
    before = state()
    for address, data in writes(rule, endpoint):
        assert charlie.post(address, data).status_code == 404, address
        assert client.post(address, data).headers["location"] == f"/accounts/login/?next={address}"
    for address in (f"/billing/alerts/{rule.pk}", f"/billing/webhooks/{endpoint.pk}", "/billing/alerts/new/nothing"):
        assert charlie.get(address).status_code == 404
    for name, ours in (("webhook", endpoint.pk), ("key", alice.key(name="ours"))):
        page = charlie.post("/billing/alerts/new/budget", BUDGET | {name: str(ours)})
        assert list(page.context["form"].errors) == [name]
    assert HOOK not in text(charlie.get("/billing/webhooks"))
    assert state() == before


def test_thirty_rows_cost_the_queries_of_one(alice: Tenant, owner: Client):
    endpoint = endpoint_of(alice)
    address = f"/billing/webhooks/{endpoint.pk}"
    alerts.create_rule(
        alice.organization_id, "budget", 5, period="day", key_id=alice.key(name="a"), webhook_id=endpoint.pk
    )
    webhooks.send_test(alice.organization_id, endpoint.pk)
    pages = ("/billing/alerts", "/billing/alerts/new/budget", "/billing/webhooks", address)
    for page in pages:
        owner.get(page)

    def queries() -> dict[str, int]:
        return {page: count(page) for page in pages}

    def count(page: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert owner.get(page).status_code == 200
        return len(captured)

    before = queries()
    for number in range(19):
        key_id = alice.key(name=f"key {number}")
        alerts.create_rule(alice.organization_id, "budget", 5, period="day", key_id=key_id, webhook_id=endpoint.pk)
    for number in range(4):
        endpoint_of(alice, f"{HOOK}/{number}")
    for _ in range(30):
        webhooks.send_test(alice.organization_id, endpoint.pk)
    assert queries() == before
    assert max(before.values()) <= 10


def test_what_was_sent_long_ago_gives_way_to_what_is_new(alice: Tenant, owner: Client):
    endpoint = endpoint_of(alice)
    for _ in range(60):
        webhooks.send_test(alice.organization_id, endpoint.pk)
    Notification.objects.update(created_at=timezone.now() - timedelta(days=1))
    assert len(owner.get(f"/billing/webhooks/{endpoint.pk}").context["sent"]) == 50
