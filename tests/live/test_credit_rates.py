"""The rate of a call: a call keeps the margin and the price of a credit that it began with."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from billing.ledger import rates
from billing.models import CreditRate, Hold
from billing.pricing import money
from billing.usage import receipts
from common.ids import generation_id
from tests.kit.books import at_once
from tests.kit.calls import ask
from tests.kit.live import Server
from tests.kit.tenants import Tenant


@pytest.mark.django_db
def test_the_settings_rate_is_one_row_however_often_it_is_asked_for(settings: Any) -> None:
    settings.MARGIN, settings.CREDITS_PER_USD = Decimal("0.25"), Decimal(1000)
    first = rates.current()
    settings.MARGIN = Decimal("0.2500")
    assert rates.current().pk == first.pk
    settings.MARGIN = Decimal("0.3")
    assert rates.current().pk != first.pk


@pytest.mark.django_db
def test_a_rate_is_never_changed() -> None:
    row = rates.current()
    for change in (lambda: CreditRate.objects.filter(pk=row.pk).update(margin=0), row.delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()


@pytest.mark.django_db
def test_a_call_keeps_its_rate_and_its_receipt_says_it(settings: Any) -> None:
    alice = Tenant(1_000)
    then = rates.current()
    hold_id = alice.hold(100, rate_id=then.pk)
    settings.MARGIN, settings.CREDITS_PER_USD = Decimal("0.5"), Decimal(7)
    hold = Hold.objects.get(pk=hold_id)
    assert rates.struct(hold) == money.CreditRate.of(Decimal(100), Decimal("0.05"), id=then.pk)
    receipt = receipts.receipt(alice.organization_id, generation_id(hold_id))
    assert receipt is not None
    assert (receipt.rate.credits_per_usd, receipt.rate.margin) == (Decimal(100), Decimal("0.05"))


@pytest.mark.django_db
def test_a_call_from_before_rates_were_kept_has_todays(settings: Any) -> None:
    hold = Hold.objects.get(pk=Tenant(1_000).hold(100))
    settings.MARGIN, settings.CREDITS_PER_USD = Decimal("0.5"), Decimal(7)
    assert rates.struct(hold) == money.CreditRate.of(Decimal(7), Decimal("0.5"))


def test_servers_that_start_at_once_make_one_row(live_db: None, settings: Any) -> None:
    settings.CREDITS_PER_USD = Decimal("123.456789")
    assert len({row.pk for row in at_once([rates.current] * 4)}) == 1


def test_every_call_of_a_server_names_its_rate(gateway: Server, alice: Tenant) -> None:
    ask(gateway, alice)
    hold = Hold.objects.get(wallet_id=alice.organization_id)
    assert hold.rate == rates.current()
