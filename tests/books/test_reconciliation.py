"""A provider's bill against ours: what differs is corrected exactly, once, and nothing else is touched."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from billing.models import Entry, ExtraCharge, Hold, Loss, Usage
from billing.oversight import verifier
from billing.reconciliation import losses
from completions.models import LookupPace, Provider
from completions.reconciliation import calls as reconciliation
from completions.reconciliation.calls import Pass
from completions.tasks import reconcile
from sandbox.server import SandboxServer
from tests.kit import CHECKOUT
from tests.kit.books import at_once
from tests.kit.provider_calls import failed_call, openrouter, serve, settled_call
from tests.kit.tenants import Tenant

COST = Decimal("0.019")  # USD: two credits, at 100 for a USD and a margin of 5 %
COST_MICRO = 2_000_000
MORE, LESS = "billed=0.01957", "billed=0.01843"  # +3 % and -3 %
OPENING = 100_000_000

Upstream = tuple[SandboxServer, Provider]


@pytest.fixture
def upstream(db: None) -> Iterator[Upstream]:
    with openrouter() as made:
        yield made


def settled(tenant: Tenant, upstream: Upstream, directive: str, cost: Decimal = COST, **of_receipt: Any) -> Usage:
    sandbox, provider = upstream
    return settled_call(tenant, provider.name, serve(sandbox, directive).id, cost, **of_receipt)


def state(usage: Usage) -> tuple[str, Decimal | None]:
    usage.refresh_from_db()
    return usage.reconciliation, usage.billed_cost_usd


def due(usage: Usage) -> None:
    Usage.objects.filter(pk=usage.pk).update(reconcile_at=timezone.now() - timedelta(seconds=1))


def corrections(tenant: Tenant) -> list[tuple[int, str | None]]:
    rows = Entry.objects.filter(wallet_id=tenant.organization_id, kind="correction").order_by("seq")
    return list(rows.values_list("amount", "idempotency_key"))


def test_too_much_is_refunded_to_the_micro_credit(upstream: Upstream) -> None:
    alice = Tenant(OPENING)
    call = settled(alice, upstream, LESS)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=1, queued=0, pending=0)
    assert state(call) == ("corrected", Decimal("0.01843"))
    assert corrections(alice) == [(60_000, f"recon:{call.pk}:1")]
    assert alice.wallet == (OPENING - COST_MICRO + 60_000, 0, 3)
    assert reconciliation.reconcile() == Pass(checked=0, corrected=0, queued=0, pending=0)
    assert alice.wallet == (OPENING - COST_MICRO + 60_000, 0, 3)
    assert verifier.violations() == []


def test_too_little_waits_for_an_operator(upstream: Upstream) -> None:
    alice = Tenant(OPENING)
    call = settled(alice, upstream, MORE)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=1, pending=0)
    assert state(call) == ("queued", Decimal("0.01957"))
    [extra] = ExtraCharge.objects.filter(wallet_id=alice.organization_id)
    assert (extra.hold_id, extra.version, extra.amount_micro, extra.state) == (call.pk, 1, 60_000, "waiting")
    assert (extra.call_charged_micro, extra.billed_cost_usd) == (COST_MICRO, Decimal("0.01957"))
    assert alice.wallet == (OPENING - COST_MICRO, 0, 2)
    assert reconciliation.reconcile().checked == 0


def test_the_same_bill_is_a_match(upstream: Upstream) -> None:
    alice = Tenant(OPENING)
    call = settled(alice, upstream, "billed=0.019")
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=0)
    assert state(call) == ("matched", COST)
    assert corrections(alice) == []


def test_the_rate_is_the_calls_own(upstream: Upstream, settings: Any) -> None:
    alice = Tenant(OPENING)
    settled(alice, upstream, LESS)
    settings.MARGIN, settings.CREDITS_PER_USD = Decimal("0.5"), Decimal(3000)
    reconciliation.reconcile()
    assert [amount for amount, _ in corrections(alice)] == [60_000]


def test_a_call_that_is_not_known_yet_is_asked_for_again_later(upstream: Upstream) -> None:
    alice = Tenant(OPENING)
    call = settled(alice, upstream, f"{LESS} generation_ms=3600000")
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=1)
    call.refresh_from_db()
    assert call.reconcile_attempts == 1
    assert call.reconcile_at is not None
    assert timezone.now() < call.reconcile_at <= timezone.now() + timedelta(seconds=5)
    upstream[0].calls[-1].generation_ms = 0
    assert reconciliation.reconcile() == Pass(checked=0, corrected=0, queued=0, pending=1)
    due(call)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=1, queued=0, pending=0)


def test_a_call_that_is_never_known_is_given_up_with_a_reason(upstream: Upstream) -> None:
    alice = Tenant(OPENING)
    call = settled_call(alice, upstream[1].name, "gen-nobody-knows", COST)
    pauses = []
    for _ in reconciliation.RETRY_AFTER_S:
        reconciliation.reconcile()
        call.refresh_from_db()
        assert call.reconcile_at is not None
        pauses.append(round((call.reconcile_at - timezone.now()).total_seconds()))
        due(call)
    assert pauses == list(reconciliation.RETRY_AFTER_S)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=0)
    call.refresh_from_db()
    assert (call.reconciliation, call.reconcile_reason, call.reconcile_at) == ("gave_up", "unknown_to_provider", None)
    assert alice.wallet == (OPENING - COST_MICRO, 0, 2)


def test_a_provider_that_never_answers_is_another_reason(db: None) -> None:
    call = settled_call(Tenant(OPENING), "gone", "gen-1", COST)
    Usage.objects.filter(pk=call.pk).update(reconcile_attempts=len(reconciliation.RETRY_AFTER_S))
    assert reconciliation.reconcile().pending == 0
    call.refresh_from_db()
    assert (call.reconciliation, call.reconcile_reason) == ("gave_up", "provider_silent")


def test_what_was_billed_for_nothing_is_the_operators_loss(upstream: Upstream) -> None:
    sandbox, provider = upstream
    alice = Tenant(OPENING)
    billed = failed_call(alice, provider.name, serve(sandbox, "billed=0.0004").id)
    free = failed_call(alice, provider.name, serve(sandbox, "billed=0").id)
    assert reconciliation.reconcile() == Pass(checked=2, corrected=0, queued=0, pending=0)
    assert (state(billed), state(free)) == (("matched", Decimal("0.0004")), ("matched", Decimal(0)))
    [lost] = losses.losses(Hold.objects.get(pk=billed.pk).created_at)
    assert (lost.hold_id, lost.reason, lost.cost_usd) == (billed.pk, "failed_without_output", Decimal("0.0004"))
    assert alice.wallet == (OPENING, 0, 1)
    assert ExtraCharge.objects.filter(wallet_id=alice.organization_id).count() == 0


def test_what_the_wallet_could_not_pay_is_no_extra_charge_but_a_loss_by_the_final_bill(upstream: Upstream) -> None:
    alice = Tenant(60_000)  # the hold of 50,000 and 10,000 more
    call = settled(alice, upstream, MORE)
    assert call.charged == 60_000
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=0)
    [lost] = losses.losses(Hold.objects.get(pk=call.pk).created_at)
    assert (lost.reason, lost.cost_usd) == ("wallet_exhausted", Decimal("0.019"))  # 0.01957, less 0.00057 paid for


# --- A fake bill ------------------------------------------------------------------------------------


def test_a_bill_that_is_3_percent_up_and_down_misses_one_and_has_one_too_many(upstream: Upstream) -> None:
    """One too many that left no trace with us shows in the daily comparison: test_drift.py."""
    sandbox, provider = upstream
    alice, bob = Tenant(OPENING), Tenant(OPENING)
    up, down = settled(alice, upstream, MORE), settled(bob, upstream, LESS)
    same = settled(alice, upstream, "billed=0.019")
    missing = settled_call(bob, provider.name, "gen-not-on-the-bill", COST)
    serve(sandbox, "billed=0.019")  # too many: nothing of ours names it
    before = Entry.objects.count()
    assert reconciliation.reconcile() == Pass(checked=4, corrected=1, queued=1, pending=1)
    assert Entry.objects.count() == before + 1
    assert corrections(alice) == []
    assert corrections(bob) == [(60_000, f"recon:{down.pk}:1")]
    assert list(ExtraCharge.objects.values_list("hold_id", "amount_micro", "state")) == [(up.pk, 60_000, "waiting")]
    assert [state(call)[0] for call in (up, down, same, missing)] == ["queued", "corrected", "matched", "pending"]
    due(missing)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=1)
    assert Entry.objects.count() == before + 1
    assert ExtraCharge.objects.count() == 1
    assert (alice.wallet, bob.wallet) == (
        (OPENING - 2 * COST_MICRO, 0, 3),
        (OPENING - 2 * COST_MICRO + 60_000, 0, 4),
    )
    assert verifier.violations() == []


# --- How fast, and side by side -----------------------------------------------------------------------


def test_the_pace_bounds_a_pass(upstream: Upstream, settings: Any) -> None:
    settings.RECONCILE_PER_MINUTE = 2
    alice = Tenant(OPENING)
    for _ in range(3):
        settled(alice, upstream, LESS)
    assert reconciliation.reconcile() == Pass(checked=2, corrected=2, queued=0, pending=1)
    assert reconciliation.reconcile() == Pass(checked=0, corrected=0, queued=0, pending=1)
    LookupPace.objects.update(free_at=timezone.now() - timedelta(seconds=31))
    assert reconciliation.reconcile() == Pass(checked=1, corrected=1, queued=0, pending=0)


def test_a_pace_beyond_what_a_pass_can_do_leaves_room_for_settled_calls(upstream: Upstream, settings: Any) -> None:
    settings.RECONCILE_PER_MINUTE = 100_000
    settled(Tenant(OPENING), upstream, LESS)
    assert reconciliation.reconcile() == Pass(checked=1, corrected=1, queued=0, pending=0)


def test_three_tasks_at_once_look_every_call_up_once(live_db: None) -> None:
    with openrouter() as upstream:
        tenants = [Tenant(OPENING) for _ in range(3)]
        calls = [settled(tenants[n % 3], upstream, LESS if n % 2 else MORE) for n in range(30)]
        at_once([reconcile] * 3)
        mine = Usage.objects.filter(pk__in=[call.pk for call in calls])
        assert set(mine.values_list("reconcile_attempts", flat=True)) == {1}
        assert mine.filter(reconciliation="corrected").count() == 15
        assert mine.filter(reconciliation="queued").count() == 15
        for tenant in tenants:
            assert [amount for amount, _ in corrections(tenant)] == [60_000] * 5
            assert ExtraCharge.objects.filter(wallet_id=tenant.organization_id, amount_micro=60_000).count() == 5
        at_once([reconcile] * 3)
        assert [len(corrections(tenant)) for tenant in tenants] == [5, 5, 5]
        assert verifier.violations() == []


def test_three_processes_at_once_correct_every_call_once(process_environment: dict[str, str]) -> None:
    with openrouter() as upstream:
        alice = Tenant(OPENING)
        calls = [settled(alice, upstream, LESS) for _ in range(12)]
        command = [sys.executable, "manage.py", "reconcile", "--json"]
        passes = [
            subprocess.Popen(command, cwd=CHECKOUT, env=process_environment, stdout=subprocess.PIPE) for _ in range(3)
        ]
        told = [json.loads(each.communicate(timeout=60)[0]) for each in passes]
        assert sum(each["corrected"] for each in told) == 12
        assert sorted(corrections(alice)) == sorted((60_000, f"recon:{call.pk}:1") for call in calls)
        assert verifier.violations() == []


def test_a_claim_that_was_overtaken_posts_nothing(upstream: Upstream) -> None:
    """A worker that slept through its claim comes back with a bill that another has booked."""
    alice = Tenant(OPENING)
    call = settled(alice, upstream, LESS)
    stale = reconciliation._claim(Usage, upstream[1].name)[0]
    due(call)
    assert reconciliation.reconcile().corrected == 1
    assert reconciliation._compare(stale, Decimal("0.01")) == "pending"
    assert corrections(alice) == [(60_000, f"recon:{call.pk}:1")]
    assert state(call) == ("corrected", Decimal("0.01843"))


def test_a_failure_gives_back_what_was_claimed(upstream: Upstream) -> None:
    Provider.objects.filter(pk=upstream[1].pk).update(base_url="http://127.0.0.1:9/api/v1")
    alice = Tenant(OPENING)
    calls = [settled_call(alice, upstream[1].name, f"gen-{n}", COST) for n in range(3)]
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=3)
    for call in calls:
        call.refresh_from_db()
    assert sorted(call.reconcile_attempts for call in calls) == [0, 0, 1]
    assert Usage.objects.filter(reconciliation="pending", reconcile_at__lte=timezone.now()).count() == 2


def test_a_call_cannot_be_lost_twice(db: None) -> None:
    usage = settled_call(Tenant(OPENING), "gone", "gen-1", COST)
    assert losses.note(usage.pk, Loss.Reason.FAILED_WITHOUT_OUTPUT, Decimal(1))
    assert not losses.note(usage.pk, Loss.Reason.NO_REFERENCE)
    assert Loss.objects.get(pk=usage.pk).cost_usd == 1


def test_a_loss_is_never_changed(db: None) -> None:
    usage = settled_call(Tenant(OPENING), "gone", "gen-1", COST)
    losses.note(usage.pk, Loss.Reason.FAILED_WITHOUT_OUTPUT, Decimal(1))
    for change in (lambda: Loss.objects.update(cost_usd=0), lambda: Loss.objects.all().delete()):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()
