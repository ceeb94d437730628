"""A provider that had begun to answer when the call turned to the next one: its bill is the operator's loss, once."""

import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from billing.ledger.commands import FailedAttempt as Told
from billing.ledger.commands import Mark, Settle, Void
from billing.models import Entry, FailedAttempt, Hold, Usage
from billing.oversight import verifier
from billing.reconciliation import losses
from completions.reconciliation import calls as reconciliation
from completions.reconciliation.calls import Pass
from sandbox.server import SandboxServer
from tests.kit.books import at_once, do
from tests.kit.calls import call
from tests.kit.catalogs import make_price, make_provider, make_route
from tests.kit.failover import House, usage_of
from tests.kit.live import start_server
from tests.kit.provider_calls import failed_call, openrouter, receipt, serve
from tests.kit.tenants import Tenant

FAULTS = ("invalid_json", "no_choices", "200_error_top")  # 200, and no word of output


@pytest.fixture
def house(server_environment: dict[str, str], tmp_path: Path) -> Iterator[House]:
    """Two upstreams; the first one is of OpenRouter's kind, and tells bills."""
    tag = os.urandom(4).hex()
    with SandboxServer() as first, SandboxServer() as second:
        names = (f"first-{tag}", f"second-{tag}")
        kinds = ("openrouter", "openai")
        for priority, (name, kind, upstream) in enumerate(zip(names, kinds, (first, second), strict=True)):
            provider = make_provider(name, kind=kind, base_url=upstream.base_url, allow_plain_http=True)
            provider.set_secret("sk-test")
            provider.save()
            make_route(
                f"test/{tag}",
                provider,
                upstream_model="openai/gpt-4.1-mini",
                priority=priority,
                price=make_price(),
            )
        with start_server(server_environment, tmp_path) as server:
            yield House(server, first, second, f"test/{tag}", names)


def attempts(hold: Any) -> list[tuple[str, str, str]]:
    rows = FailedAttempt.objects.filter(hold_id=hold).order_by("pk")
    return list(rows.values_list("provider", "provider_ref", "reconciliation"))


def due() -> None:
    FailedAttempt.objects.filter(reconciliation="pending").update(reconcile_at=timezone.now() - timedelta(seconds=1))


def test_what_the_first_route_bills_is_a_loss_and_the_second_routes_answer_is_charged(house: House, alice: Tenant):
    for fault, stream in product(FAULTS, (False, True)):
        house.break_first(f"fault={fault} billed=0.0007 generation_ms=0")
        answer = house.ask(alice, stream=stream)
        assert (fault, answer.status_code, answer.headers["x-quantized-provider"]) == (fault, 200, house.names[1])
        usage = usage_of(answer)
        asked = house.first.calls[-1]
        assert attempts(usage.pk) == [(house.names[0], asked.id, "pending")]
        due()
        reconciliation.reconcile()
        [lost] = losses.losses(usage.hold.created_at)[-1:]
        assert (lost.hold_id, lost.provider, lost.reason) == (usage.pk, house.names[0], "failed_attempt")
        assert lost.cost_usd == Decimal("0.0007")
        assert list(Entry.objects.filter(hold_id=usage.pk).values_list("kind", "amount")) == [("usage", -1_979)]
        told = call(house.server, "GET", f"/v1/generation?id=gen-{usage.pk.hex}", alice.headers).json
        assert [set(attempt) for attempt in told["attempts"]] == [{"provider", "outcome", "milliseconds"}] * 2
        assert asked.id not in str(told)
    before = losses_of(alice)
    assert len(before) == 2 * len(FAULTS)
    due()
    reconciliation.reconcile()
    assert losses_of(alice) == before
    assert verifier.violations() == []


def losses_of(caller: Tenant) -> list[losses.Lost]:
    """Others' calls wait in the same database."""
    found = losses.losses(timezone.now() - timedelta(minutes=5))
    return [lost for lost in found if lost.organization_id == caller.organization_id]


# --- In the books -----------------------------------------------------------------------------------


def turned(tenant: Tenant, provider: str, reference: str, *, look_up_after_s: int | None = -1) -> Usage:
    """A call that another provider answered. Both commands tell of the attempt, and may come again."""
    hold = Hold.objects.get(pk=tenant.hold(5_000))
    failed = (Told(provider, reference, look_up_after_s),)
    mark = Mark(
        wallet_id=tenant.organization_id, hold_id=hold.pk, provider="second", provider_ref="gen-2", failed=failed
    )
    given = receipt(hold, "second", "gen-2", 0, failed=failed, reconciliation="none", reconcile_after_s=None)
    settle = Settle(wallet_id=tenant.organization_id, hold_id=hold.pk, key_id=None, actual=1_000, receipt=given)
    for command in (mark, mark, settle, settle):
        do(command)
    return Usage.objects.select_related("hold").get(pk=hold.pk)


def lost(usage: Usage) -> list[tuple[str, str, Decimal | None]]:
    found = losses.losses(Hold.objects.get(pk=usage.pk).created_at)
    return [(each.provider, each.reason, each.cost_usd) for each in found if each.hold_id == usage.pk]


def test_an_attempt_is_noted_once_however_often_it_is_told(db: None):
    usage = turned(Tenant(10_000), "first", "gen-1")
    assert attempts(usage.pk) == [("first", "gen-1", "pending")]
    assert lost(usage) == []  # until its bill is known


def test_an_attempt_is_known_although_its_server_dies_before_the_end(db: None):
    alice = Tenant(10_000)
    hold_id = alice.hold(5_000, life_s=-1)
    failed = (Told("first", "gen-1", 5),)
    do(Mark(wallet_id=alice.organization_id, hold_id=hold_id, provider="second", provider_ref="gen-2", failed=failed))
    do(alice.expire(hold_id))
    assert attempts(hold_id) == [("first", "gen-1", "pending")]


def test_a_call_that_no_route_answered_pays_for_none_of_them(db: None):
    with openrouter() as (sandbox, provider):
        alice = Tenant(10_000)
        hold = Hold.objects.get(pk=alice.hold(5_000))
        served = serve(sandbox, "billed=0.0004")
        given = receipt(
            hold, "second", "", 0, failed=(Told(provider.name, served.id, -1),), reconciliation="none",
            reconcile_after_s=None, error_code="unavailable",
        )  # fmt: skip
        do(Void(wallet_id=alice.organization_id, hold_id=hold.pk, key_id=None, receipt=given))
        assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=0)
        assert lost(Usage.objects.get(pk=hold.pk)) == [(provider.name, "failed_attempt", Decimal("0.0004"))]
        assert alice.wallet == (10_000, 0, 1)
        assert verifier.violations() == []


def test_what_was_billed_nothing_or_is_unknown_to_its_provider_is_no_loss(db: None):
    with openrouter() as (sandbox, provider):
        alice = Tenant(10_000)
        free = turned(alice, provider.name, serve(sandbox, "billed=0").id)
        unknown = turned(alice, provider.name, "gen-nobody-knows")
        FailedAttempt.objects.filter(hold_id=unknown.pk).update(reconcile_attempts=len(reconciliation.RETRY_AFTER_S))
        assert reconciliation.reconcile() == Pass(checked=2, corrected=0, queued=0, pending=0)
        assert (lost(free), lost(unknown)) == ([], [])
        assert attempts(unknown.pk) == [(provider.name, "gen-nobody-knows", "gave_up")]


def test_where_no_bill_can_be_had_it_is_a_loss_of_unknown_cost(db: None):
    alice = Tenant(10_000)
    unasked = turned(alice, "anthropic", "msg_1", look_up_after_s=None)
    silent = turned(alice, "gone", "gen-1")
    FailedAttempt.objects.filter(hold_id=silent.pk).update(reconcile_attempts=len(reconciliation.RETRY_AFTER_S))
    assert reconciliation.reconcile() == Pass(checked=1, corrected=0, queued=0, pending=0)
    assert lost(unasked) == [("anthropic", "failed_attempt", None)]
    assert lost(silent) == [("gone", "failed_attempt", None)]


def test_three_passes_at_once_look_an_attempt_up_once(live_db: None):
    with openrouter() as (sandbox, provider):
        alice = Tenant(100_000)
        calls = [turned(alice, provider.name, serve(sandbox, "billed=0.0004").id) for _ in range(9)]
        at_once([reconciliation.reconcile] * 3)
        mine = FailedAttempt.objects.filter(hold_id__in=[usage.pk for usage in calls])
        assert set(mine.values_list("reconcile_attempts", "reconciliation")) == {(1, "matched")}
        assert [lost(usage) for usage in calls] == [[(provider.name, "failed_attempt", Decimal("0.0004"))]] * 9
        assert alice.wallet == (100_000 - 9_000, 0, 10)


def test_an_attempt_stays_as_it_was_noted(db: None):
    turned(Tenant(10_000), "first", "gen-1")
    rows = FailedAttempt.objects.all()
    for change in (lambda: rows.update(provider_ref="gen-2"), rows.delete):
        with pytest.raises(DatabaseError, match=r"stays as it is|append-only"), transaction.atomic():
            change()


# --- Calls that failed at a provider without bills ---------------------------------------------------


def test_a_call_that_failed_after_it_had_begun_is_a_loss_of_unknown_cost(db: None):
    alice = Tenant(10_000)
    usage = failed_call(alice, "anthropic", "msg_1")
    Usage.objects.filter(pk=usage.pk).update(reconciliation="none", reconcile_at=None, error_code="malformed_response")
    assert lost(usage) == [("anthropic", "failed_without_output", None)]


@pytest.mark.parametrize(("was_asked", "expected"), [(True, [("sandbox", "no_reference", None)]), (False, [])])
def test_a_call_whose_client_left_before_the_answer_began(db: None, was_asked: bool, expected: list[Any]):
    alice = Tenant(10_000)
    hold = Hold.objects.get(pk=alice.hold(5_000))
    tried = ({"provider": "sandbox", "outcome": "cancelled", "milliseconds": 3},) if was_asked else ()
    given = receipt(
        hold, "sandbox", "", 0, cancelled=True, error_code="client_disconnected", attempts=tried, reconciliation="none",
        reconcile_after_s=None,
    )  # fmt: skip
    do(Void(wallet_id=alice.organization_id, hold_id=hold.pk, key_id=None, receipt=given))
    assert lost(Usage.objects.get(pk=hold.pk)) == expected


def test_a_call_that_never_reached_its_provider_is_no_loss(db: None):
    alice = Tenant(10_000)
    hold = Hold.objects.get(pk=alice.hold(5_000))
    given = receipt(hold, "sandbox", "", 0, error_code="unavailable", reconciliation="none", reconcile_after_s=None)
    do(Void(wallet_id=alice.organization_id, hold_id=hold.pk, key_id=None, receipt=given))
    assert lost(Usage.objects.get(pk=hold.pk)) == []
