"""The operator's lists: a fixed number of queries however many rows, nothing counted in full, searched by whole ids;
and who may not see them does not."""

import uuid
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import audit
from accounts.models import AuditEntry, User
from billing.credits import vouchers
from billing.credits.accounts import Account, open_account
from billing.ledger import journal
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import Entry, Hold, Operation, Price, Usage, VoucherBatch, Wallet
from billing.reconciliation import drift, losses
from billing.reconciliation.extra_charges import queue_extra
from billing.usage.rollups import roll_up
from common.ids import generation_id
from completions.models import PriceChange, Provider, Route
from quantized.operator import pages
from tests.kit.catalogs import make_provider, make_route

pytestmark = pytest.mark.django_db
# What people may write in the admin; everything else is looked at.
WRITTEN = {
    "accounts.user",
    "accounts.organization",
    "auth.group",
    "completions.model",
    "completions.provider",
    "completions.route",
}
# Pages with a decision or a single act; their forms are tested on their own.
DECIDED = {"accounts.apikey", "billing.operation", "billing.extracharge", "mfa.authenticator"}
LABELS = sorted(model._meta.label_lower for model in admin.site._registry)


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


def url(label: str, view: str = "changelist", *args: object) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{view}", args=args)


def call(of: Account) -> uuid.UUID:
    price = Price.objects.create(version=1, rates={"input": "0.400000", "output": "1.600000"})
    hold_id = uuid.uuid4()
    shared = {"wallet_id": of.organization.pk, "hold_id": hold_id, "key_id": of.key.pk}
    reserve = Reserve(
        **shared,
        user_id=None,
        model="a/b",
        price_id=price.pk,
        provider="openrouter",
        amount=5_000,
        floor=5_000,
        life_s=60,
    )
    receipt = Receipt(model="a/b", provider="openrouter", price_id=price.pk, provider_ref=f"ref-{hold_id}")
    journal.execute([reserve, Settle(**shared, actual=2_400, receipt=receipt)])
    return hold_id


def populate(number: int) -> Account:
    """One more row for most lists, of an organization of its own."""
    of = open_account(f"Tenant {number}", "alice@example.org", credits_micro=20_000, actor="test")
    hold = Hold.objects.get(pk=call(of))
    queue_extra(hold, 5, Decimal("0.1"))
    losses.note(hold.pk, "no_reference")
    audit.record("dora@example.com", "test", f"thing {number}", organization_id=of.organization.pk)
    vouchers.create_batch(f"Batch {number}", 2, 10, created_by="dora@example.com")
    operator = User.objects.get(email="dora@example.com")
    asked = {"requested_by": operator, "reason": "asked", "kind": "grant", "amount": 5}
    Operation.objects.create(id=uuid.uuid4(), organization=of.organization, **asked)
    route = make_route(f"openai/model-{number}", make_provider(f"provider-{number}"))
    PriceChange.objects.create(
        route=route, price=route.price, effective_from=timezone.now(), reason="dear", requested_by=operator
    )
    drift.compare_reported(timezone.now().date(), f"provider-{number}", {"m": drift.Bill(Decimal(5))})
    return of


def counted(client: Client, label: str) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(url(label)).status_code == 200, label
    assert not [one["sql"] for one in found if "COUNT(*)" in one["sql"] and "LIMIT" not in one["sql"] and is_large(one)]
    return len(found)


def is_large(query: dict[str, str]) -> bool:
    """Of the whole of a table that grows with every call."""
    grown = ("billing_entry", "billing_hold", "billing_usage")
    return any(f'FROM "{table}"' in query["sql"] for table in grown) and "WHERE" not in query["sql"]


def test_every_list_costs_as_many_queries_for_30_rows_as_for_one(dora):
    populate(0)
    roll_up()
    for label in LABELS:
        counted(dora, label)  # content types are looked up once
    before = {label: counted(dora, label) for label in LABELS}
    for number in range(1, 30):
        populate(number)
    roll_up()
    assert {label: counted(dora, label) for label in LABELS} == before
    assert max(before.values()) <= 12


def test_counting_ends_at_what_one_can_page_to(dora, monkeypatch):
    of = populate(0)
    for _ in range(5):
        call(of)
    monkeypatch.setattr(pages, "COUNTED_MAX", 3)
    assert dora.get(url("billing.entry")).context["cl"].result_count == 3


@pytest.mark.parametrize("label", sorted(set(LABELS) - WRITTEN - DECIDED))
def test_what_is_looked_at_can_be_written_by_nobody(dora, label):
    populate(0)
    roll_up()
    model = next(model for model in admin.site._registry if model._meta.label_lower == label)
    assert dora.get(url(label, "add")).status_code == 403
    row = model.objects.first()
    if row is not None:
        assert dora.get(url(label, "change", row.pk)).status_code == 200
        assert dora.post(url(label, "change", row.pk), {"amount": 1}).status_code == 403
        assert dora.post(url(label, "delete", row.pk), {"post": "yes"}).status_code == 403
        assert model.objects.filter(pk=row.pk).exists()


def found(client: Client, label: str, term: str, **more: object) -> list[object]:
    return list(client.get(url(label), {"q": term, **more}).context["cl"].result_list)


def test_the_ledger_is_searched_by_whole_ids_and_keys(dora):
    of, other = populate(0), populate(1)
    hold = Hold.objects.get(wallet_id=of.organization.pk)
    charge = Entry.objects.get(hold=hold)
    for term in (str(hold.pk), generation_id(hold.pk), f" {hold.pk} "):
        assert found(dora, "billing.entry", term) == [charge]
        assert found(dora, "billing.hold", term) == [hold]
        assert found(dora, "billing.usage", term) == [hold.usage]
    assert found(dora, "billing.hold", hold.usage.provider_ref) == []  # known to the usage row alone here
    assert found(dora, "billing.usage", hold.usage.provider_ref) == [hold.usage]
    opening = Entry.objects.get(wallet_id=other.organization.pk, kind="grant")
    assert opening in found(dora, "billing.entry", "opening")
    assert found(dora, "billing.entry", "openin") == []


def test_an_organizations_ledger_is_one_click_away(dora):
    of = populate(0)
    populate(1)
    page = dora.get(url("accounts.organization", "change", of.organization.pk))
    rows = dora.get(page.context["entries_list"]).context["cl"].result_list
    assert {row.wallet_id for row in rows} == {of.organization.pk}
    assert dora.get(page.context["holds_list"]).status_code == 200


@pytest.mark.parametrize("label", ["billing.hold", "billing.usage"])
def test_a_calls_page_shows_its_arithmetic(dora, label):
    hold_id = call(open_account("Acme", "alice@example.com", credits_micro=10_000, actor="test"))
    usage = Usage.objects.get(pk=hold_id)
    Usage.objects.filter(pk=hold_id).update(prompt_tokens=25, completion_tokens=8, cost_pico=22_800_000)
    page = dora.get(url(label, "change", usage.pk))
    assert [(line["name"], line["quantity"], line["usd"]) for line in page.context["sum"]["lines"]] == [
        ("input", 25, "$0.00001"),
        ("output", 8, "$0.0000128"),
    ]
    assert page.context["sum"]["cost_usd"] == "$0.0000228"


@pytest.mark.parametrize("label", LABELS)
def test_staff_without_a_permission_get_403(label):
    faye = logged_in(User.objects.create_user("faye@example.com", "a long enough password", is_staff=True))
    assert faye.get(url(label)).status_code == 403


def test_the_sidebar_shows_what_one_may_see():
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_route"))
    page = logged_in(user).get(reverse("admin:index")).content.decode()
    assert url("completions.route") in page
    for hidden in ("billing.entry", "accounts.user", "accounts.auditentry"):
        assert url(hidden) not in page


def test_charlie_sees_no_list_and_changes_nothing(dora):
    populate(0)
    before = (Wallet.objects.values_list("posted").get(), AuditEntry.objects.count(), VoucherBatch.objects.count())
    charlie = logged_in(User.objects.create_user("charlie@example.com", "a long enough password"))
    for label in LABELS:
        for answer in (charlie.get(url(label)), charlie.post(url(label, "add"), {"name": "mine"})):
            assert answer.status_code in (302, 403), label
    after = (Wallet.objects.values_list("posted").get(), AuditEntry.objects.count(), VoucherBatch.objects.count())
    assert after == before
    assert (Provider.objects.count(), Route.objects.count()) == (1, 1)


# --- What is audited --------------------------------------------------------------------------------


def last() -> AuditEntry:
    return AuditEntry.objects.order_by("-pk")[0]


def test_making_somebody_an_operator_is_audited(dora):
    erin = User.objects.create_user("erin@example.com", "a long enough password")
    form = {"email": "erin@example.com", "is_active": "on", "is_staff": "on"}
    assert dora.post(url("accounts.user", "change", erin.pk), form).status_code == 302
    erin.refresh_from_db()
    assert erin.is_staff
    assert (last().actor, last().action, last().target) == ("dora@example.com", "user.change", f"user {erin.pk}")
    assert "staff" in last().details["changed"].lower()


def test_deactivating_is_audited_and_done_once(dora):
    erin = User.objects.create_user("erin@example.com", "a long enough password")
    for _ in range(2):
        dora.post(url("accounts.user"), {"action": "deactivate", "_selected_action": [erin.pk]})
    erin.refresh_from_db()
    assert not erin.is_active
    assert AuditEntry.objects.filter(action="user.change").count() == 1


def test_a_providers_secret_is_in_no_audit_entry(dora):
    form = {"name": "own", "kind": "openai", "base_url": "https://llm.example.com/v1", "when_client_leaves": "cancel"}
    assert dora.post(url("completions.provider", "add"), form | {"secret": "hidden value"}).status_code == 302
    provider = Provider.objects.get()
    dora.post(url("completions.provider", "change", provider.pk), form | {"secret": "another value"})
    entries = AuditEntry.objects.filter(target=f"provider {provider.pk}").order_by("pk")
    assert [entry.action for entry in entries] == ["provider.add", "provider.change"]
    assert "hidden value" not in str(entries.values())
    assert "another value" not in str(entries.values())


def test_a_deleted_route_leaves_its_audit_entry(dora):
    route = make_route()
    assert dora.post(url("completions.route", "delete", route.pk), {"post": "yes"}).status_code == 302
    assert (last().action, last().target) == ("route.delete", f"route {route.pk}")
