"""Vouchers: each code once, for one organization, while it is good; guesses are counted."""

import csv
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction

from accounts.models import LogInThrottle, Membership
from accounts.services import create_user
from billing.credits import accounts, lots, vouchers
from billing.models import Entry, Voucher, VoucherBatch
from billing.oversight import verifier
from tests.kit.books import at_once
from tests.kit.tenants import Cast, Tenant

WORTH = 500_000


@pytest.fixture
def credits_micro() -> int:
    return 0


def make(count: int = 1, **rules: Any) -> list[str]:
    return vouchers.create_batch("Spring", count, WORTH, created_by="carol", **rules)[1]


def granted(organization_id: Any) -> list[tuple[str, int]]:
    return list(Entry.objects.filter(wallet_id=organization_id).order_by("seq").values_list("kind", "amount"))


def test_a_voucher_becomes_credits_of_the_organization_that_redeems_it(cast: Cast) -> None:
    batch, [code] = vouchers.create_batch("Spring", 1, WORTH, created_by="carol")
    redeemed = vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    assert redeemed == vouchers.Redeemed(WORTH, None, WORTH, "Spring")
    [entry] = Entry.objects.filter(wallet_id=cast.alice.organization_id)
    assert (entry.kind, entry.amount, entry.contra) == ("grant", WORTH, "promotion")
    assert (entry.actor, entry.reason) == (f"user {cast.alice.user.pk}", f"voucher …{code[-4:]} of Spring")
    voucher = batch.vouchers.get()
    assert (voucher.organization_id, voucher.redeemed_by_id, voucher.entry_seq) == (
        cast.alice.organization_id,
        cast.alice.user.pk,
        1,
    )
    assert granted(cast.charlie.organization_id) == []


def test_a_code_may_be_typed_as_people_read_it(cast: Cast) -> None:
    for code in make(20):
        typed = f" {code.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')}\t".strip()
        vouchers.redeem(cast.alice.organization_id, typed, cast.alice.user.pk)
    assert granted(cast.alice.organization_id) == [("grant", WORTH)] * 20


def test_no_code_is_stored(cast: Cast) -> None:
    [code] = make()
    voucher = Voucher.objects.get()
    plain = code.replace("-", "")
    assert len(plain) == 24
    assert bytes(voucher.digest) == vouchers.digest(plain)
    assert voucher.tail == plain[-4:]


def test_a_code_is_good_once(cast: Cast) -> None:
    [code] = make()
    vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    for organization, user in (
        (cast.alice.organization, cast.alice.user),
        (cast.charlie.organization, cast.charlie.user),
    ):
        with pytest.raises(vouchers.AlreadyRedeemed):
            vouchers.redeem(organization.pk, code, user.pk)
    assert granted(cast.alice.organization_id) == [("grant", WORTH)]
    assert granted(cast.charlie.organization_id) == []


@pytest.mark.parametrize("code", ["", "-", "ABCD", "7KQ2-M9XD-4TRB-0WZE-HC3N-V8PY", "ü" * 24, "0" * 10_000])
def test_a_typo_is_unknown_and_asks_for_no_voucher(cast: Cast, code: str) -> None:
    with pytest.raises(vouchers.Unknown):
        vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    assert vouchers.canonical(code) is None


def test_a_well_formed_code_that_was_never_made_is_unknown(cast: Cast) -> None:
    make()
    with pytest.raises(vouchers.Unknown):
        vouchers.redeem(cast.alice.organization_id, vouchers.mint(), cast.alice.user.pk)
    assert granted(cast.alice.organization_id) == []


def test_a_changed_character_is_noticed() -> None:
    plain = vouchers.mint().replace("-", "")
    for at, character in enumerate(plain):
        wrong = plain[:at] + ("A" if character != "A" else "B") + plain[at + 1 :]
        assert vouchers.canonical(wrong) is None, at


def test_after_its_time_a_voucher_gives_nothing(cast: Cast) -> None:
    [code] = make(redeem_until=datetime.now(UTC) + timedelta(hours=1))
    VoucherBatch.objects.update(redeem_until=datetime(2026, 11, 1, tzinfo=UTC))
    with pytest.raises(vouchers.Expired, match=r"until 2026-11-01 00:00 UTC"):
        vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    assert granted(cast.alice.organization_id) == []


def test_a_cancelled_batch_gives_nothing_more(cast: Cast) -> None:
    first, second = make(2)
    vouchers.redeem(cast.alice.organization_id, first, cast.alice.user.pk)
    batch = VoucherBatch.objects.get()
    assert vouchers.cancel_batch(batch.pk) == 1
    with pytest.raises(vouchers.Cancelled):
        vouchers.redeem(cast.alice.organization_id, second, cast.alice.user.pk)
    assert granted(cast.alice.organization_id) == [("grant", WORTH)]
    with pytest.raises(ValueError, match="none with the id 0"):
        vouchers.cancel_batch(0)


def test_once_per_organization_means_each_organization_gets_one(cast: Cast) -> None:
    first, second = make(2, once_per_organization=True)
    vouchers.redeem(cast.alice.organization_id, first, cast.alice.user.pk)
    with pytest.raises(vouchers.OncePerOrganization):
        vouchers.redeem(cast.alice.organization_id, second, cast.alice.user.pk)
    vouchers.redeem(cast.charlie.organization_id, second, cast.charlie.user.pk)
    assert granted(cast.alice.organization_id) == granted(cast.charlie.organization_id) == [("grant", WORTH)]
    with pytest.raises(IntegrityError), transaction.atomic():
        Voucher.objects.create(
            batch=VoucherBatch.objects.get(),
            digest=b"x" * 32,
            once_per_organization=True,
            organization=cast.charlie.organization,
            redeemed_at=datetime.now(UTC),
            entry_seq=7,
        )


def test_its_credits_may_expire(cast: Cast) -> None:
    [code] = make(credit_days=30)
    redeemed = vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    [lot] = lots.open_lots(cast.alice.organization_id)
    assert (lot.left, lot.expires_at) == (WORTH, redeemed.expires_at)
    assert redeemed.expires_at is not None
    assert timedelta(days=29, hours=23) < redeemed.expires_at - datetime.now(UTC) <= timedelta(days=30)


def test_guesses_are_counted_by_member_and_good_codes_are_not(cast: Cast) -> None:
    good = make(12)
    for code in good[:11]:
        vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    for _ in range(vouchers.FAILURES_PER_USER_MAX):
        with pytest.raises(vouchers.Unknown):
            vouchers.redeem(cast.alice.organization_id, vouchers.mint(), cast.alice.user.pk)
    with pytest.raises(vouchers.TooManyFailures) as refused:
        vouchers.redeem(cast.alice.organization_id, good[11], cast.alice.user.pk)
    assert 0 < refused.value.retry_after_s <= 15 * 60
    vouchers.redeem(
        cast.charlie.organization_id, good[11], cast.charlie.user.pk
    )  # somebody else's guesses are not charlie's
    LogInThrottle.objects.update(window_started_at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(vouchers.AlreadyRedeemed):
        vouchers.redeem(cast.alice.organization_id, good[11], cast.alice.user.pk)


def test_guesses_are_counted_by_organization_too(cast: Cast) -> None:
    members = [create_user(f"guesser{n}@example.org") for n in range(4)]
    for member in members[:3]:
        for _ in range(10):
            with pytest.raises(vouchers.Unknown):
                vouchers.redeem(cast.alice.organization_id, "no code", member.pk)
    with pytest.raises(vouchers.TooManyFailures):
        vouchers.redeem(cast.alice.organization_id, "no code", members[3].pk)


def test_a_redeemed_voucher_stays_redeemed(cast: Cast) -> None:
    [code] = make()
    vouchers.redeem(cast.alice.organization_id, code, cast.alice.user.pk)
    with pytest.raises(IntegrityError, match="stays so"), transaction.atomic():
        Voucher.objects.update(redeemed_at=None, organization=None, entry_seq=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        Voucher.objects.all().delete()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"name": " "}, "name"),
        ({"count": 0}, "count"),
        ({"count": 100_001}, "count"),
        ({"amount_micro": 0}, "a voucher"),
        ({"credit_days": 0}, "credit_days"),
        ({"redeem_until": datetime(2026, 1, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(db: None, wrong: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {"name": "Spring", "count": 1, "amount_micro": 1, "created_by": "carol"} | wrong
    with pytest.raises(ValueError, match=named):
        vouchers.create_batch(**given)
    assert VoucherBatch.objects.count() == 0


@pytest.mark.parametrize(
    ("role", "may"), [("owner", True), ("admin", True), ("billing", True), ("developer", False), ("viewer", False)]
)
def test_who_may_pay(role: str, may: bool) -> None:
    assert role in Membership.Role.values
    assert accounts.may_pay(role) is may
    assert not accounts.may_pay("key")


def test_the_command_prints_the_codes_once(cast: Cast) -> None:
    out = StringIO()
    call_command("createvouchers", "Fair", "2", "1000", "--credit-days", "7", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert (answer["count"], answer["micro"], len(answer["codes"])) == (2, 1000, 2)
    assert vouchers.redeem(cast.alice.organization_id, answer["codes"][1], cast.alice.user.pk).amount_micro == 1000
    assert VoucherBatch.objects.get(pk=answer["batch"]).credit_days == 7
    out = StringIO()
    call_command("cancelvouchers", str(answer["batch"]), "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"batch": answer["batch"], "cancelled": 1}


def test_the_command_writes_a_file_that_is_not_there_yet(cast: Cast, tmp_path: Path) -> None:
    file, out = tmp_path / "codes.csv", StringIO()
    until = "2030-01-01T00:00:00+00:00"
    call_command("createvouchers", "Fair", "3", "1000", "--redeem-until", until, "--csv", str(file), stdout=out)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["micro_credits"] for row in rows] == ["1000"] * 3
    assert rows[0]["redeem_until"].startswith("2030-01-01")
    assert file.stat().st_mode & 0o777 == 0o600
    assert rows[0]["code"] not in out.getvalue()
    vouchers.redeem(cast.alice.organization_id, rows[2]["code"], cast.alice.user.pk)
    with pytest.raises(CommandError, match="File exists"):
        call_command("createvouchers", "Fair", "3", "1000", "--csv", str(file), stdout=out)
    assert VoucherBatch.objects.count() == 1


# --- At the same moment -----------------------------------------------------------------------------


def test_twenty_redemptions_of_one_voucher_by_two_organizations_are_one(live_db: None) -> None:
    tenants = [Tenant(), Tenant()]
    users = [create_user(f"racer-{uuid4()}@example.org") for _ in range(20)]
    [code] = make(credit_days=30)

    def redeem(number: int) -> str:
        try:
            vouchers.redeem(tenants[number % 2].organization_id, code, users[number].pk)
        except vouchers.Refused as refused:
            return type(refused).__name__
        return "redeemed"

    outcomes = at_once([lambda number=number: redeem(number) for number in range(20)])  # type: ignore[misc]
    assert sorted(outcomes) == ["AlreadyRedeemed"] * 19 + ["redeemed"]
    assert sorted([*tenants[0].entries(), *tenants[1].entries()]) == [(1, "grant", WORTH, WORTH)]
    assert sum(len(lots.open_lots(tenant.organization_id)) for tenant in tenants) == 1
    assert verifier.violations() == []


def test_two_codes_of_a_batch_that_allows_one_are_one_also_at_the_same_moment(live_db: None) -> None:
    tenant = Tenant()
    users = [create_user(f"racer-{uuid4()}@example.org") for _ in range(6)]
    codes = make(6, once_per_organization=True)

    def redeem(number: int) -> str:
        try:
            vouchers.redeem(tenant.organization_id, codes[number], users[number].pk)
        except vouchers.Refused as refused:
            return type(refused).__name__
        return "redeemed"

    outcomes = at_once([lambda number=number: redeem(number) for number in range(6)])  # type: ignore[misc]
    assert sorted(outcomes) == ["OncePerOrganization"] * 5 + ["redeemed"]
    assert tenant.entries() == [(1, "grant", WORTH, WORTH)]
