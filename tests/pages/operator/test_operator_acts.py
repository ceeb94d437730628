"""Acts on an organization's account in the admin: asked, shown in words, confirmed, and above a threshold by two."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Organization, User
from billing.models import Entry, Operation, Wallet
from tests.kit.tenants import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def credits_micro() -> int:
    return 0


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


@pytest.fixture
def emil() -> Client:
    return logged_in(User.objects.create_superuser("emil@example.com", "a long enough password"))


def act_url(cast: Cast, kind: str) -> str:
    return reverse(f"admin:organization_{kind}", args=[cast.alice.organization_id])


def shown(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def open_form(client: Client, cast: Cast, kind: str) -> dict[str, str]:
    """The form as a browser would send it back, with the id it was given."""
    page = client.get(act_url(cast, kind))
    assert page.status_code == 200
    return {"id": str(page.context["form"]["id"].value()), "reason": "told by phone"}


def wallet(cast: Cast) -> Wallet:
    return Wallet.objects.get(pk=cast.alice.organization_id)


def test_a_grant_is_shown_in_words_before_it_happens(dora, cast):
    form = open_form(dora, cast, "grant") | {"amount": "25.5"}
    page = dora.post(act_url(cast, "grant"), form)
    assert "Grants 25.5 credits (25,500,000 micro-credits)" in shown(page)
    assert "Balance 0 → 25.5 credits" in shown(page)
    assert "done at once" in shown(page)
    assert not Entry.objects.exists()
    assert dict(page.context["given"]) == form  # the second step sends what the first one had
    assert dora.post(act_url(cast, "grant"), form | {"confirmed": "1"}).status_code == 302
    entry = Entry.objects.get()
    assert (entry.kind, entry.amount, entry.actor, entry.reason) == (
        "grant",
        25_500_000,
        "dora@example.com",
        "told by phone",
    )


def test_a_form_sent_twice_is_done_once(dora, cast):
    form = open_form(dora, cast, "grant") | {"amount": "1", "confirmed": "1"}
    for _ in range(2):
        assert dora.post(act_url(cast, "grant"), form).status_code == 302
    assert wallet(cast).posted == 1_000_000
    assert AuditEntry.objects.filter(action="account.grant").count() == 1


def test_going_back_keeps_what_was_typed_and_does_nothing(dora, cast):
    form = open_form(dora, cast, "grant") | {"amount": "1", "edit": "1"}
    page = dora.post(act_url(cast, "grant"), form)
    assert page.context["form"]["amount"].value() == "1"
    assert not Operation.objects.exists()


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000001", "9300000000000", "x", ""])
def test_a_wrong_amount_is_refused_beside_its_field(dora, cast, amount):
    form = open_form(dora, cast, "grant") | {"amount": amount, "confirmed": "1"}
    page = dora.post(act_url(cast, "grant"), form)
    assert page.status_code == 200
    assert list(page.context["form"].errors) == ["amount"]
    assert not Operation.objects.exists()


def test_what_the_books_refuse_stands_beside_the_amount(dora, cast):
    form = open_form(dora, cast, "deduct") | {"amount": "1", "confirmed": "1"}
    page = dora.post(act_url(cast, "deduct"), form)
    assert page.status_code == 200
    assert list(page.context["form"].errors) == ["amount"]
    assert page.context["form"]["amount"].value() == "1"
    assert not Operation.objects.exists()
    grant = open_form(dora, cast, "grant") | {"amount": "3", "confirmed": "1"}
    dora.post(act_url(cast, "grant"), grant)
    assert dora.post(act_url(cast, "deduct"), form).status_code == 302  # the same form, now that it can
    assert wallet(cast).posted == 2_000_000


def test_a_time_that_has_passed_is_refused_beside_its_field(dora, cast):
    form = open_form(dora, cast, "grant") | {"amount": "1", "expires_at_0": "2001-01-01", "expires_at_1": "00:00:00"}
    page = dora.post(act_url(cast, "grant"), form | {"confirmed": "1"})
    assert "Must be in the future" in str(page.context["form"].errors["expires_at"])


@pytest.mark.parametrize(
    ("kind", "amount", "what"),
    [
        ("overdraft", "7", lambda wallet: wallet.overdraft == 7_000_000),
        ("suspend", None, lambda wallet: wallet.organization.status == "suspended"),
    ],
)
def test_other_acts_change_the_account(dora, cast, kind, amount, what):
    form = open_form(dora, cast, kind) | ({"amount": amount} if amount else {}) | {"confirmed": "1"}
    assert dora.post(act_url(cast, kind), form).status_code == 302
    assert what(Wallet.objects.select_related("organization").get(pk=cast.alice.organization_id))
    assert AuditEntry.objects.get().action == f"account.{kind}"


def decide_url() -> str:
    return reverse("admin:billing_operation_change", args=[Operation.objects.get().pk])


def test_above_the_threshold_a_second_operator_is_needed(dora, emil, cast):
    form = open_form(dora, cast, "grant") | {"amount": "10001"}
    assert "This needs a second operator" in shown(dora.post(act_url(cast, "grant"), form))
    dora.post(act_url(cast, "grant"), form | {"confirmed": "1"})
    assert wallet(cast).posted == 0
    assert "somebody else has to approve it" in shown(dora.get(decide_url()))
    page = dora.post(decide_url(), {"decision": "approve"})
    assert "another one than who asked" in shown(page)
    assert wallet(cast).posted == 0
    assert emil.post(decide_url(), {"decision": "approve"}).status_code == 302
    assert wallet(cast).posted == 10_001_000_000
    assert Operation.objects.get().decided_by.email == "emil@example.com"


def test_declining_needs_a_reason(dora, emil, cast):
    form = open_form(dora, cast, "unlimited") | {"confirmed": "1"}
    dora.post(act_url(cast, "unlimited"), form)
    page = emil.post(decide_url(), {"decision": "decline", "reason": ""})
    assert list(page.context["form"].errors) == ["reason"]
    assert emil.post(decide_url(), {"decision": "decline", "reason": "not agreed"}).status_code == 302
    assert Operation.objects.get().state == "declined"
    assert not wallet(cast).unlimited


def test_who_asked_may_take_it_back(dora, cast):
    dora.post(act_url(cast, "unlimited"), open_form(dora, cast, "unlimited") | {"confirmed": "1"})
    assert dora.post(decide_url(), {"decision": "decline", "reason": "a mistake"}).status_code == 302
    assert Operation.objects.get().state == "declined"


def test_suspending_in_the_list_is_audited(dora, cast):
    data = {"action": "suspend", "_selected_action": [str(cast.alice.organization_id)]}
    dora.post(reverse("admin:accounts_organization_changelist"), data)
    assert Organization.objects.get(pk=cast.alice.organization_id).status == "suspended"
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.organization_id) == (
        "dora@example.com",
        "account.suspend",
        cast.alice.organization_id,
    )


def test_the_account_is_told_on_its_page(dora, cast):
    dora.post(act_url(cast, "grant"), open_form(dora, cast, "grant") | {"amount": "1234.5", "confirmed": "1"})
    page = shown(dora.get(reverse("admin:accounts_organization_change", args=[cast.alice.organization_id])))
    assert "+1,234.5" in page
    for act in ("Grant credits", "Deduct credits", "Set the overdraft", "Suspend", "Make unlimited"):
        assert act in page
    for senseless in ("Reactivate", "Make limited again"):
        assert senseless not in page


@pytest.fixture
def faye(cast) -> Client:
    """Staff who may look at organizations and requests, and nothing more."""
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_organization", "view_operation"]))
    return logged_in(user)


def test_staff_without_the_permission_get_403_and_no_buttons(dora, faye, cast):
    dora.post(act_url(cast, "unlimited"), open_form(dora, cast, "unlimited") | {"confirmed": "1"})
    page = faye.get(reverse("admin:accounts_organization_change", args=[cast.alice.organization_id]))
    assert page.status_code == 200
    assert 'href="../grant/"' not in page.content.decode()
    form = {"id": "0192f0c0-0000-7000-8000-000000000000", "amount": "1", "reason": "mine", "confirmed": "1"}
    for kind in Operation.Kind.values:
        assert faye.get(act_url(cast, kind)).status_code == 403
        assert faye.post(act_url(cast, kind), form).status_code == 403
    assert faye.get(decide_url()).status_code == 200
    assert faye.post(decide_url(), {"decision": "approve"}).status_code == 403
    assert (Operation.objects.get().state, wallet(cast).posted) == ("waiting", 0)


def test_charlie_never_sees_it(dora, cast):
    dora.post(act_url(cast, "unlimited"), open_form(dora, cast, "unlimited") | {"confirmed": "1"})
    charlie = logged_in(cast.charlie.user)
    form = {"id": "0192f0c0-0000-7000-8000-000000000000", "amount": "1", "reason": "mine", "confirmed": "1"}
    for url in (act_url(cast, "grant"), decide_url(), reverse("admin:index")):
        for answer in (charlie.get(url), charlie.post(url, form | {"decision": "approve"})):
            assert answer.status_code in (302, 403)
    assert (Operation.objects.get().state, Entry.objects.count()) == ("waiting", 0)
