"""Voucher batches in the admin: issued in words first, their codes shown once, cancelled for good."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from accounts.services import create_organization
from billing.credits import vouchers
from billing.models import Voucher, VoucherBatch

pytestmark = pytest.mark.django_db

FORM = {"name": "Spring fair", "count": "3", "amount": "2.5", "credit_days": "90", "once_per_organization": "on"}


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dora() -> Client:
    return logged_in(User.objects.create_superuser("dora@example.com", "a long enough password"))


def issue(client: Client, **more: str):
    return client.post(reverse("admin:voucherbatch_issue"), FORM | more)


def shown(page) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.content.decode()))


def test_a_batch_is_shown_in_words_then_issued_with_its_codes_once(dora):
    words = shown(issue(dora))
    for sentence in ("3, each worth 2.5 credits", "7.5 credits (7,500,000 micro-credits)", "expires 90 days after"):
        assert sentence in words
    assert not VoucherBatch.objects.exists()
    page = issue(dora, confirmed="1")
    codes = page.context["codes"]
    assert len(set(codes)) == 3
    assert all(code in shown(page) for code in codes)
    assert "no-store" in page.headers["Cache-Control"]
    batch = VoucherBatch.objects.get()
    assert (batch.created_by, batch.amount_micro, batch.credit_days) == ("dora@example.com", 2_500_000, 90)
    again = dora.get(reverse("admin:billing_voucherbatch_change", args=[batch.pk]))
    assert not any(code in again.content.decode() for code in codes)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.details) == ("vouchers.issue", {"codes": 3, "amount_micro": 2_500_000})
    assert not any(code in str(entry.details) for code in codes)


def test_a_code_that_was_shown_is_good(dora):
    code = issue(dora, confirmed="1").context["codes"][0]
    owner = User.objects.create_user("alice@example.com", "a long enough password")
    organization = create_organization("Acme", owner.email).organization
    assert vouchers.redeem(organization.pk, code, owner.pk).amount_micro == 2_500_000


def test_the_codes_can_be_had_as_a_file(dora):
    codes = issue(dora, confirmed="1").context["codes"]
    answer = dora.post(reverse("admin:voucherbatch_codes"), {"codes": " ".join(codes)})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="vouchers.csv"'
    assert answer.content.decode().split() == ["code", *codes]


@pytest.mark.parametrize(
    ("field", "value"), [("count", "0"), ("count", "5001"), ("amount", "0"), ("name", ""), ("credit_days", "0")]
)
def test_what_is_wrong_stands_beside_its_field(dora, field, value):
    page = issue(dora, **{field: value, "confirmed": "1"})
    assert list(page.context["form"].errors) == [field]
    assert not VoucherBatch.objects.exists()


def test_nobody_gives_away_alone_more_than_they_may_grant_alone(dora, settings):
    settings.APPROVAL_ABOVE_MICRO = 7_499_999
    page = issue(dora, confirmed="1")
    assert "A batch is worth at most" in shown(page)
    assert not VoucherBatch.objects.exists()


def test_a_cancelled_batch_is_worth_nothing(dora):
    code = issue(dora, confirmed="1").context["codes"][0]
    batch = VoucherBatch.objects.get()
    cancel = reverse("admin:voucherbatch_cancel", args=[batch.pk])
    assert dora.get(cancel).status_code == 403
    assert "3 codes are worth nothing any more" in shown(dora.post(cancel, follow=True))
    organization = create_organization("Acme", "alice@example.com").organization
    with pytest.raises(vouchers.Cancelled):
        vouchers.redeem(organization.pk, code, User.objects.get(email="alice@example.com").pk)
    assert AuditEntry.objects.filter(action="vouchers.cancel").count() == 1


def test_staff_without_the_permission_look_and_get_403(dora):
    issue(dora, confirmed="1")
    user = User.objects.create_user("faye@example.com", "a long enough password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_voucherbatch", "view_voucher"]))
    faye, batch = logged_in(user), VoucherBatch.objects.get()
    page = faye.get(reverse("admin:billing_voucherbatch_changelist"))
    assert page.status_code == 200
    assert "Issue vouchers" not in page.content.decode()
    assert issue(faye, confirmed="1").status_code == 403
    assert faye.post(reverse("admin:voucherbatch_codes"), {"codes": "A"}).status_code == 403
    assert faye.post(reverse("admin:voucherbatch_cancel", args=[batch.pk])).status_code == 403
    batch.refresh_from_db()
    assert (VoucherBatch.objects.count(), batch.cancelled_at) == (1, None)


def test_charlie_issues_nothing():
    charlie = logged_in(User.objects.create_user("charlie@example.com", "a long enough password"))
    assert issue(charlie, confirmed="1").status_code in (302, 403)
    assert not Voucher.objects.exists()
