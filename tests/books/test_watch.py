"""What the operator is told without asking: each trouble once a day, by mail, with figures."""

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing import tasks
from billing.models import Heartbeat, Hold, Loss
from billing.notices.models import Notification
from billing.oversight import verifier, watch
from billing.reconciliation import drift, losses
from billing.reconciliation.extra_charges import queue_extra, waive_extra
from tests.kit.books import at_once, do
from tests.kit.provider_calls import settled_call
from tests.kit.stripe import Buyer, receive
from tests.kit.stripe_server import StripeServer
from tests.kit.tenants import Tenant

COST = Decimal("0.019")
TOMORROW = timedelta(days=1)


def told() -> list[tuple[str, dict[str, Any]]]:
    rows = Notification.objects.filter(organization=None).order_by("created_at", "kind")
    return list(rows.values_list("kind", "payload"))


def test_nothing_to_tell(db: None) -> None:
    Heartbeat.objects.create(task="billing.tasks.roll_up", succeeded_at=datetime.now(UTC))
    assert (watch.look(), told()) == (0, [])


def test_losses_above_the_threshold_of_a_day(db: None, settings: Any) -> None:
    settings.LOSS_ALERT_USD = Decimal("0.5")
    alice = Tenant(10_000_000)
    first, second, third = (settled_call(alice, "gone", f"gen-{n}", COST).pk for n in range(3))
    losses.note(first, Loss.Reason.FAILED_WITHOUT_OUTPUT, Decimal("0.5"))
    assert watch.look() == 0
    losses.note(second, Loss.Reason.FAILED_WITHOUT_OUTPUT, Decimal("0.25"))
    losses.note(third, Loss.Reason.FAILED_WITHOUT_OUTPUT)
    assert (watch.look(), watch.look()) == (1, 0)
    [(kind, figures)] = told()
    assert kind == "losses.above_threshold"
    assert Decimal(figures["cost_usd"]) == Decimal("0.75")
    assert (figures["calls"], figures["calls_of_unknown_cost"]) == (3, 1)


def test_extra_charges_that_wait_are_told_every_day(db: None) -> None:
    usage = settled_call(Tenant(10_000_000), "gone", "gen-1", COST)
    row = queue_extra(Hold.objects.get(pk=usage.pk), 60_000, Decimal("0.01957"))
    now = datetime.now(UTC)
    assert (watch.look(now), watch.look(now), watch.look(now + TOMORROW)) == (1, 0, 1)
    kind, figures = told()[0]
    assert (kind, figures["calls"], figures["micro_credits"]) == ("extra_charges.waiting", 1, 60_000)
    waive_extra(row.pk, actor="carol", reason="not worth it")
    assert watch.look(now + 2 * TOMORROW) == 0


@pytest.mark.parametrize(
    ("succeeded_ago_s", "failed_ago_s", "is_told"), [(None, 5, True), (1_000, 5, True), (30, 5, False), (5, 30, False)]
)
def test_a_task_that_does_not_succeed(db: None, succeeded_ago_s: int | None, failed_ago_s: int, is_told: bool) -> None:
    now = datetime.now(UTC)
    succeeded_at = None if succeeded_ago_s is None else now - timedelta(seconds=succeeded_ago_s)
    failed_at = now - timedelta(seconds=failed_ago_s)
    Heartbeat.objects.create(
        task="billing.tasks.roll_up", succeeded_at=succeeded_at, failed_at=failed_at, error="DataError"
    )
    assert watch.look(now) == is_told
    assert [(kind, figures["task"], figures["error"]) for kind, figures in told()] == [
        ("task.failing", "billing.tasks.roll_up", "DataError")
    ] * is_told


def test_three_passes_at_once_tell_once(live_db: None) -> None:
    task = f"tests.{datetime.now(UTC).timestamp()}"
    Heartbeat.objects.create(task=task, failed_at=datetime.now(UTC), error="DataError")
    try:
        at_once([tasks.look_for_trouble] * 3)
        assert Notification.objects.filter(kind="task.failing", payload__task=task).count() == 1
    finally:
        Heartbeat.objects.filter(task=task).delete()


# --- What is told at the moment it happens -----------------------------------------------------------


def test_violations_of_the_books(db: None, caplog: pytest.LogCaptureFixture) -> None:
    found = verifier.Result(1, 2, None, [verifier.Violation("seq counts the entries", "x", "seq 1, entries 2")] * 2)
    with caplog.at_level(logging.CRITICAL):
        tasks.tell(found)
        tasks.tell(found)
    assert told() == [("ledger.violations", {"violations": 2, "invariants": "seq counts the entries"})]
    assert caplog.text.count("the books are wrong") == 4


def test_a_bill_that_drifts_is_told_again_when_it_drifts_again(db: None, settings: Any) -> None:
    day = datetime.now(UTC).date()
    for cost in ("5", "5", "0", "5"):
        drift.compare_reported(day, "anthropic", {"claude": drift.Bill(Decimal(cost), 1, 1)})
    figures = {"provider": "anthropic", "model": "claude", "day": str(day), "billed_usd": "5", "expected_usd": "0"}
    assert told() == [("provider.drift", figures)] * 2


def test_a_dispute_and_credits_that_are_spent_already(buyer: Buyer, stripe: StripeServer) -> None:
    payment = buyer.buy()
    intent = str(payment.payment_intent)
    spent = 400_000_000
    buyer_hold = buyer.hold(spent)
    do(buyer.settle(buyer_hold, spent))
    receive(*stripe.dispute(intent), *stripe.dispute(intent))
    kinds = dict(told())
    assert kinds["payment.disputed"]["payment"] == str(payment.pk)
    assert kinds["payment.spent_before_it_went_back"]["micro_credits"] == spent
