"""Calls that a crash left at their provider: settled at its bill, or the operator's loss with a reason."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from billing.ledger.commands import Settled
from billing.models import Hold, Loss, Usage
from billing.oversight import verifier
from billing.reconciliation import losses
from billing.reconciliation.abandoned_holds import Sweep
from completions.models import LookupPace, Provider
from completions.reconciliation import abandoned_calls, lookups
from sandbox.server import SandboxServer
from tests.kit.books import at_once, do, hold_row
from tests.kit.catalogs import make_provider
from tests.kit.provider_calls import lost_call, openrouter, serve, settled_call
from tests.kit.tenants import Tenant

COST_MICRO = 1_979  # 15 prompt tokens at 0.40 and 8 completion tokens at 1.60: 18.8 micro-USD, 100 credits each, 5 %


@pytest.fixture
def upstream(db: None) -> Iterator[tuple[SandboxServer, Provider]]:
    with openrouter() as made:
        yield made


def age(hold_id: Any, seconds: float) -> None:
    """Let a hold be overdue for so long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_hold SET expires_at = clock_timestamp() - make_interval(secs => %s), sweep_at = NULL"
            " WHERE id = %s",
            [seconds, hold_id],
        )


def due(hold_id: Any) -> None:
    Hold.objects.filter(pk=hold_id).update(sweep_at=timezone.now() - timedelta(seconds=1))


def reasons(since: datetime) -> list[tuple[Any, str]]:
    return [(lost.hold_id, lost.reason) for lost in losses.losses(since)]


def test_a_call_the_provider_knows_is_settled_at_its_bill(upstream: tuple[SandboxServer, Provider]) -> None:
    sandbox, provider = upstream
    alice, served = Tenant(1_000_000), serve(sandbox, "billed=0.00002")
    hold_id = lost_call(alice, provider.name, served.id)
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=1, pending=0)
    # 0.00002 USD / 0.95 * 100 credits = 2105.26.. micro-credits, rounded up
    assert hold_row(hold_id) == ("settled", 5_000, 2_106, 2_106)
    usage = Usage.objects.get(pk=hold_id)
    assert (usage.reconciliation, usage.error_code, usage.estimated) == ("swept", "server_lost", False)
    assert (usage.reported_cost_usd, usage.billed_cost_usd) == (Decimal("0.00002"), Decimal("0.00002"))
    assert (usage.prompt_tokens, usage.completion_tokens) == (15, 8)
    assert usage.cost_pico == 15 * 400_000 + 8 * 1_600_000
    assert alice.entries()[1:] == [(2, "usage", -2_106, 1_000_000 - 2_106)]
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=0)
    assert losses.losses(hold_time(hold_id)) == []
    assert verifier.violations() == []


def hold_time(hold_id: Any) -> datetime:
    return Hold.objects.get(pk=hold_id).created_at


def test_the_rate_is_the_calls_own(upstream: tuple[SandboxServer, Provider], settings: Any) -> None:
    sandbox, provider = upstream
    hold_id = lost_call(Tenant(1_000_000), provider.name, serve(sandbox).id)
    settings.MARGIN, settings.CREDITS_PER_USD = Decimal("0.5"), Decimal(1000)
    abandoned_calls.sweep()
    assert hold_row(hold_id) == ("settled", 5_000, COST_MICRO, COST_MICRO)


def test_a_call_the_provider_does_not_know_waits_one_sweep_and_expires(
    upstream: tuple[SandboxServer, Provider], settings: Any
) -> None:
    _, provider = upstream
    alice = Tenant(1_000_000)
    hold_id = lost_call(alice, provider.name, "gen-nobody-knows")
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=1)
    assert Hold.objects.get(pk=hold_id).sweep_attempts == 1
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=1)  # not asked again yet
    assert Hold.objects.get(pk=hold_id).sweep_attempts == 1
    age(hold_id, settings.SWEEP_EVERY_S)
    assert abandoned_calls.sweep() == Sweep(expired=1, settled=0, pending=0)
    assert hold_row(hold_id) == ("expired", 5_000, None, None)
    assert alice.wallet == (1_000_000, 0, 1)
    assert Hold.objects.get(pk=hold_id).sweep_attempts == 2
    assert reasons(hold_time(hold_id)) == [(hold_id, "unknown_to_provider")]
    assert verifier.violations() == []


def test_an_expired_call_that_the_provider_knows_later_is_settled_late_and_no_loss_any_more(
    upstream: tuple[SandboxServer, Provider], settings: Any
) -> None:
    sandbox, provider = upstream
    alice, served = Tenant(1_000_000), serve(sandbox, "generation_ms=3600000")
    hold_id = lost_call(alice, provider.name, served.id)
    age(hold_id, settings.SWEEP_EVERY_S)
    assert abandoned_calls.sweep() == Sweep(expired=1, settled=0, pending=0)
    assert reasons(hold_time(hold_id)) == [(hold_id, "unknown_to_provider")]
    served.generation_ms = 0
    due(hold_id)
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=1, pending=0)
    assert alice.entries()[1:] == [(2, "late_usage", -COST_MICRO, 1_000_000 - COST_MICRO)]
    assert reasons(hold_time(hold_id)) == []
    assert verifier.violations() == []


def test_the_look_ups_of_an_unknown_call_end(upstream: tuple[SandboxServer, Provider], settings: Any) -> None:
    _, provider = upstream
    hold_id = lost_call(Tenant(1_000_000), provider.name, "gen-nobody-knows")
    age(hold_id, settings.SWEEP_EVERY_S)
    for attempt in range(1, 7):
        abandoned_calls.sweep()
        assert Hold.objects.get(pk=hold_id).sweep_attempts == attempt
        if attempt < 6:
            due(hold_id)
    assert Hold.objects.get(pk=hold_id).sweep_at is None
    assert Loss.objects.filter(pk=hold_id).count() == 1


def test_a_provider_that_is_down_does_not_hold_credits_for_ever(upstream: Any, settings: Any) -> None:
    _, provider = upstream
    Provider.objects.filter(pk=provider.pk).update(base_url="http://127.0.0.1:9/api/v1")
    alice = Tenant(1_000_000)
    hold_id = lost_call(alice, provider.name, "gen-1")
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=1)
    age(hold_id, settings.SWEEP_EVERY_S)
    assert abandoned_calls.sweep() == Sweep(expired=1, settled=0, pending=0)
    assert reasons(hold_time(hold_id)) == [(hold_id, "provider_silent")]
    assert Hold.objects.get(pk=hold_id).sweep_at is not None  # and is asked for once the provider is back
    assert alice.wallet == (1_000_000, 0, 1)


@pytest.mark.parametrize(("kind", "reference"), [("openrouter", ""), ("anthropic", "msg_1"), ("openai", "chat-1")])
def test_a_call_that_cannot_be_asked_for_is_the_operators_loss_at_once(
    db: None, kind: str, reference: str, caplog: pytest.LogCaptureFixture
) -> None:
    alice = Tenant(1_000_000)
    make_provider("elsewhere", kind=kind, base_url="http://127.0.0.1:9/v1", allow_plain_http=True)
    hold_id = lost_call(alice, "elsewhere", reference)
    assert abandoned_calls.sweep() == Sweep(expired=1, settled=0, pending=0)
    assert reasons(hold_time(hold_id)) == [(hold_id, "no_reference")]
    assert f"a call was lost at its provider: {hold_id} at elsewhere, no_reference" in caplog.text
    assert alice.wallet == (1_000_000, 0, 1)


def test_a_loss_that_is_settled_from_the_spool_after_all_is_none(db: None) -> None:
    alice = Tenant(1_000_000)
    hold_id = lost_call(alice, "elsewhere", "")
    abandoned_calls.sweep()
    assert reasons(hold_time(hold_id)) == [(hold_id, "no_reference")]
    assert do(alice.settle(hold_id, 700)) == Settled(700, 999_300, late=True)
    assert reasons(hold_time(hold_id)) == []
    assert Loss.objects.filter(pk=hold_id).exists()


def test_a_call_that_never_reached_a_provider_is_nobodys_loss(upstream: tuple[SandboxServer, Provider]) -> None:
    _, provider = upstream
    alice = Tenant(1_000_000)
    hold_id = lost_call(alice, provider.name, None)
    assert abandoned_calls.sweep() == Sweep(expired=1, settled=0, pending=0)
    assert reasons(hold_time(hold_id)) == []
    assert alice.wallet == (1_000_000, 0, 1)


def test_a_call_that_is_not_overdue_is_left_alone(upstream: tuple[SandboxServer, Provider]) -> None:
    sandbox, provider = upstream
    hold_id = lost_call(Tenant(1_000_000), provider.name, serve(sandbox).id, life_s=600)
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=1)
    assert hold_row(hold_id)[0] == "open"


def test_what_the_wallet_cannot_pay_of_a_swept_call_is_a_shortfall(upstream: tuple[SandboxServer, Provider]) -> None:
    sandbox, provider = upstream
    alice = Tenant(1_000)
    hold_id = lost_call(alice, provider.name, serve(sandbox).id, amount=1_000)
    assert abandoned_calls.sweep().settled == 1
    assert hold_row(hold_id) == ("settled", 1_000, COST_MICRO, 1_000)
    [lost] = losses.losses(hold_time(hold_id))
    # 979 of 1979 micro-credits, at 100 credits per USD and a margin of 5 %
    assert (lost.hold_id, lost.reason, lost.cost_usd) == (hold_id, "wallet_exhausted", Decimal("0.0000093005"))


def test_a_settlement_that_comes_after_the_sweeper_changes_nothing(upstream: tuple[SandboxServer, Provider]) -> None:
    sandbox, provider = upstream
    alice = Tenant(1_000_000)
    hold_id = lost_call(alice, provider.name, serve(sandbox).id)
    abandoned_calls.sweep()
    assert do(alice.settle(hold_id, 4_000)) == Settled(COST_MICRO, 1_000_000 - COST_MICRO, replayed=True)
    assert alice.wallet == (1_000_000 - COST_MICRO, 0, 2)


# --- how fast, and side by side -------------------------------------------------------------------


def test_the_pace_bounds_the_look_ups_of_sweeper_and_reconciliation(
    upstream: tuple[SandboxServer, Provider], settings: Any
) -> None:
    settings.RECONCILE_PER_MINUTE = 3
    sandbox, provider = upstream
    alice = Tenant(1_000_000)
    for _ in range(5):
        lost_call(alice, provider.name, serve(sandbox).id)
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=3, pending=2)
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=2)
    LookupPace.objects.filter(provider=provider.name).update(free_at=timezone.now() - timedelta(seconds=21))
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=1, pending=1)


def test_a_provider_that_says_when_to_come_back_is_left_alone_until_then(upstream: Any) -> None:
    _, provider = upstream
    with lookups.paced(provider.name) as allowance:
        assert (allowance.left, allowance.left_for_settled_calls) == (240, 216)
    lookups.pause(provider.name, 90)
    with lookups.paced(provider.name) as allowance:
        assert allowance.left == 0
    until = LookupPace.objects.get(provider=provider.name).paused_until
    lookups.pause(provider.name, 5)  # a shorter one does not end it
    assert LookupPace.objects.get(provider=provider.name).paused_until == until


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 1), ("1e9", 3600), ("nan", 60), ("", 60), ("Wed, 21 Oct 2026", 60)]
)
def test_what_a_retry_after_means(header: str, seconds: float) -> None:
    assert lookups.retry_after_s(header) == seconds


def test_three_sweepers_at_once_settle_and_lose_every_call_once(live_db: None) -> None:
    with openrouter() as (sandbox, provider):
        abandoned_calls.sweep()  # what other tests may have left
        tenants = [Tenant(1_000_000) for _ in range(3)]
        known = [lost_call(tenants[n % 3], provider.name, serve(sandbox).id) for n in range(30)]
        lost = [lost_call(tenants[n % 3], provider.name, "") for n in range(30)]
        swept = at_once([abandoned_calls.sweep] * 3)
        assert sum(sweep.settled for sweep in swept) == 30
        assert sum(sweep.expired for sweep in swept) == 30
        assert Usage.objects.filter(pk__in=known, reconciliation="swept", charged=COST_MICRO).count() == 30
        assert Loss.objects.filter(pk__in=lost, reason="no_reference").count() == 30
        assert Hold.objects.filter(pk__in=known, sweep_attempts=1).count() == 30  # each asked for once
        assert [tenant.wallet for tenant in tenants] == [(1_000_000 - 10 * COST_MICRO, 0, 11)] * 3
        assert verifier.violations() == []


def test_a_settled_call_is_not_asked_for(upstream: tuple[SandboxServer, Provider]) -> None:
    sandbox, provider = upstream
    usage = settled_call(Tenant(1_000_000), provider.name, serve(sandbox).id, Decimal("0.0000188"))
    age_settled = Hold.objects.get(pk=usage.pk)
    assert age_settled.state == "settled"
    assert abandoned_calls.sweep() == Sweep(expired=0, settled=0, pending=0)
    assert Hold.objects.get(pk=usage.pk).sweep_attempts == 0
