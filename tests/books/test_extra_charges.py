"""Extra charges: an operator takes them or gives them up, once, however often and from wherever he says so."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.models import Entry, ExtraCharge, Hold, Usage, Wallet
from billing.oversight import verifier
from billing.reconciliation import losses
from billing.reconciliation.extra_charges import ExtraChargeDecided, charge_extra, queue_extra, waive_extra
from common.checks import Invalid
from tests.kit.books import at_once
from tests.kit.provider_calls import settled_call
from tests.kit.tenants import Tenant

COST = Decimal("0.019")  # two credits
EXTRA_MICRO = 60_000  # 0.00057 USD
SAID = {"actor": "carol@example.com", "reason": "the model was dearer than its price said"}


def queued(alice: Tenant) -> ExtraCharge:
    usage = settled_call(alice, "openrouter", "gen-1", COST)
    Usage.objects.filter(pk=usage.pk).update(reconciliation="queued")
    return queue_extra(Hold.objects.get(pk=usage.pk), EXTRA_MICRO, Decimal("0.01957"))


def extra_entries(row: ExtraCharge) -> list[tuple[Any, ...]]:
    rows = Entry.objects.filter(hold_id=row.hold_id, kind="correction")
    return list(rows.values_list("amount", "idempotency_key", "actor", "reason"))


def lost(row: ExtraCharge) -> list[tuple[str, Decimal | None]]:
    return [
        (found.reason, found.cost_usd)
        for found in losses.losses(Hold.objects.get(pk=row.hold_id).created_at)
        if found.hold_id == row.hold_id
    ]


def reconciliation(row: ExtraCharge) -> str:
    return Usage.objects.get(pk=row.hold_id).reconciliation


def test_charged_once_with_actor_and_reason(db: None) -> None:
    alice = Tenant(3_000_000)
    row = queued(alice)
    decided = charge_extra(row.pk, **SAID)
    assert (decided.state, decided.taken_micro, decided.decided_by) == ("charged", EXTRA_MICRO, SAID["actor"])
    assert isinstance(decided.decided_at, datetime)
    assert extra_entries(row) == [(-EXTRA_MICRO, f"recon:{row.hold_id}:1", SAID["actor"], SAID["reason"])]
    assert alice.wallet == (1_000_000 - EXTRA_MICRO, 0, 3)
    assert charge_extra(row.pk, actor="dave", reason="again").decided_by == SAID["actor"]
    assert alice.wallet == (1_000_000 - EXTRA_MICRO, 0, 3)
    assert (lost(row), reconciliation(row)) == ([], "corrected")
    assert verifier.violations() == []


def test_waived_is_a_loss_of_all_of_it(db: None) -> None:
    alice = Tenant(3_000_000)
    row = queued(alice)
    assert waive_extra(row.pk, **SAID).state == "waived"
    assert waive_extra(row.pk, **SAID).state == "waived"
    assert extra_entries(row) == []
    assert alice.wallet == (1_000_000, 0, 2)
    assert (lost(row), reconciliation(row)) == ([("extra_charge_waived", Decimal("0.00057"))], "waived")


def test_what_the_wallet_cannot_pay_is_a_loss(db: None) -> None:
    """Never below the floor, and never what running calls hold."""
    alice = Tenant(2_100_000)
    row = queued(alice)
    alice.hold(65_000)
    assert charge_extra(row.pk, **SAID).taken_micro == 35_000
    assert alice.wallet == (65_000, 65_000, 3)
    # 25,000 of 60,000 micro-credits at 100 credits per USD and a margin of 5 %
    assert lost(row) == [("extra_charge_unpayable", Decimal("0.0002375"))]
    assert verifier.violations() == []


def test_an_empty_wallet_pays_nothing(db: None) -> None:
    alice = Tenant(2_000_000)
    row = queued(alice)
    decided = charge_extra(row.pk, **SAID)
    assert (decided.state, decided.taken_micro) == ("charged", 0)
    assert extra_entries(row) == []
    assert (lost(row), reconciliation(row)) == ([("extra_charge_unpayable", Decimal("0.00057"))], "waived")


def test_the_overdraft_pays_it_and_an_unlimited_wallet_all_of_it(db: None) -> None:
    alice, bob = Tenant(2_000_000, overdraft_micro=20_000), Tenant(2_000_000, unlimited=True)
    assert charge_extra(queued(alice).pk, **SAID).taken_micro == 20_000
    assert charge_extra(queued(bob).pk, **SAID).taken_micro == EXTRA_MICRO
    assert (alice.wallet[0], bob.wallet[0]) == (-20_000, -EXTRA_MICRO)
    assert verifier.violations() == []


def test_decided_one_way_it_cannot_be_decided_the_other(db: None) -> None:
    alice = Tenant(3_000_000)
    row = queued(alice)
    waive_extra(row.pk, **SAID)
    with pytest.raises(ExtraChargeDecided, match=f"extra charge {row.pk} was waived by carol@example.com"):
        charge_extra(row.pk, **SAID)
    assert alice.wallet == (1_000_000, 0, 2)


@pytest.mark.parametrize("said", [{"actor": "carol", "reason": " "}, {"actor": "", "reason": "because"}])
def test_nobody_decides_without_a_name_and_a_reason(db: None, said: dict[str, str]) -> None:
    alice = Tenant(3_000_000)
    row = queued(alice)
    with pytest.raises(Invalid):
        charge_extra(row.pk, **said)
    row.refresh_from_db()
    assert (row.state, alice.wallet) == ("waiting", (1_000_000, 0, 2))


def test_one_that_is_not_there(db: None) -> None:
    with pytest.raises(ValueError, match="there is no extra charge 0"):
        charge_extra(0, **SAID)


def test_queued_twice_is_one_row(db: None) -> None:
    row = queued(Tenant(3_000_000))
    again = queue_extra(row.hold, 999, Decimal(1))
    assert (again.pk, again.amount_micro) == (row.pk, EXTRA_MICRO)


@pytest.mark.parametrize("decide", [charge_extra, waive_extra])
def test_five_at_once_have_one_effect(live_db: None, decide: Callable[..., ExtraCharge]) -> None:
    alice = Tenant(2_030_000)
    row = queued(alice)
    decided = at_once([lambda: decide(row.pk, **SAID)] * 5)
    assert len({(one.state, one.taken_micro, one.decided_at) for one in decided}) == 1
    taken = 30_000 if decide is charge_extra else 0
    assert decided[0].taken_micro == taken
    assert len(extra_entries(row)) == (1 if taken else 0)
    assert Wallet.objects.get(pk=alice.organization_id).posted == 30_000 - taken
    assert len(lost(row)) == 1
    assert verifier.violations() == []
