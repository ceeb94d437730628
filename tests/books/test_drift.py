"""Whole days: what a provider reports against what we expected, per model, with an alert that is raised once."""

import logging
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.db.models import F

from billing.models import Hold, ProviderDay, Usage
from billing.oversight import verifier
from billing.pricing.money import Usage as Tokens
from billing.reconciliation import drift, losses
from completions.models import Provider
from completions.providers.record import Day
from completions.reconciliation import abandoned_calls, calls, days
from completions.tasks import compare_bills
from sandbox import cards
from sandbox.app import Config
from sandbox.server import SandboxServer
from tests.kit.books import at_once
from tests.kit.catalogs import make_provider, make_route
from tests.kit.provider_calls import lost_call, openrouter, serve, settled_call
from tests.kit.tenants import Tenant

SONNET, OURS = "claude-sonnet-4-6", "anthropic/claude-sonnet-4.6"
OPENING = 100_000_000


@pytest.fixture
def claude(db: None, settings: Any) -> Iterator[SandboxServer]:
    with SandboxServer(Config(claudes=cards.read(cards.CATALOG, "anthropic"))) as sandbox:
        settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_ADMIN_KEY = sandbox.origin, "sk-ant-admin-test"
        provider = make_provider("anthropic", kind="anthropic")
        make_route(OURS, provider, upstream_model=SONNET)
        yield sandbox


@pytest.fixture
def today() -> date:
    """The sandbox's calls are of today: this day is compared although it is not over."""
    return datetime.now(UTC).date()


def ask_claude(sandbox: SandboxServer, directive: str = "") -> None:
    """15 prompt tokens at 3 USD and 8 of the answer at 15 USD per million: 0.000165 USD."""
    answer = httpx.post(
        f"{sandbox.origin}/v1/messages",
        headers={"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"},
        json={
            "model": SONNET,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "metadata": {"user_id": f"sandbox:{directive}"},
        },
    )
    assert answer.status_code == 200, answer.text


def booked(tenant: Tenant, cost_usd: str = "0.000165") -> Usage:
    """Such a call in our books."""
    tokens = Tokens(prompt_tokens=15, completion_tokens=8)
    usage = settled_call(tenant, "anthropic", "msg_1", Decimal(cost_usd), reconciliation="none", usage=tokens)
    Usage.objects.filter(pk=usage.pk).update(model=OURS)
    return usage


def rows(provider: str = "anthropic") -> dict[str, ProviderDay]:
    return {row.model: row for row in ProviderDay.objects.filter(provider=provider)}


def alerts(day: date) -> list[tuple[str, str]]:
    return [(row.provider, row.model) for row in drift.open_alerts() if row.day == day]


# --- Anthropic ------------------------------------------------------------------------------------


def test_a_day_that_agrees(claude: SandboxServer, today: date) -> None:
    alice = Tenant(OPENING)
    for _ in range(2):
        ask_claude(claude)
        booked(alice)
    assert days.compare([today]) == {}
    [row] = rows().values()
    assert (row.day, row.model) == (today, OURS)
    assert (row.expected_usd, row.reported_usd) == (Decimal("0.00033"), Decimal("0.00033"))
    assert (row.prompt_tokens, row.reported_prompt_tokens) == (30, 30)
    assert (row.completion_tokens, row.reported_completion_tokens) == (16, 16)
    assert row.charged_micro == 2 * 17_369  # 0.000165 / 0.95 * 100 credits = 17368.4 micro-credits, rounded up
    assert alerts(today) == []


def test_a_dear_day_is_an_alert_once(
    claude: SandboxServer, today: date, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DRIFT_ALERT_USD = Decimal("0.0000001")
    ask_claude(claude, "billed=0.00016995")  # +3 %
    booked(Tenant(OPENING))
    with caplog.at_level(logging.ERROR):
        days.compare([today])
        alerted_at = rows()[OURS].alerted_at
        days.compare([today])
    assert alerts(today) == [("anthropic", OURS)]
    assert rows()[OURS].alerted_at == alerted_at
    said = f"anthropic billed 0.00016995 USD for {OURS} on {today}, we expected 0.000165"
    assert [record.getMessage() for record in caplog.records if record.name == "billing.reconciliation.drift"] == [said]


def test_a_day_that_agrees_after_all_ends_its_alert(claude: SandboxServer, today: date, settings: Any) -> None:
    settings.DRIFT_ALERT_USD = Decimal("0.0000001")
    ask_claude(claude)
    days.compare([today])
    assert alerts(today) == [("anthropic", OURS)]
    booked(Tenant(OPENING))  # a settlement that came from the spool
    days.compare([today])
    assert alerts(today) == []


def test_one_too_many_without_a_reference_shows_as_drift_and_as_a_loss(
    claude: SandboxServer, today: date, settings: Any
) -> None:
    """The server died before it knew Anthropic's id of the call: the tenant pays nothing, the day says it."""
    settings.DRIFT_ALERT_USD = Decimal("0.0000001")
    alice = Tenant(OPENING)
    ask_claude(claude)
    ask_claude(claude)
    booked(alice)
    lost = lost_call(alice, "anthropic", "")
    assert abandoned_calls.sweep().expired == 1
    assert days.compare([today]) == {}
    row = rows()[OURS]
    assert (row.expected_usd, row.reported_usd) == (Decimal("0.000165"), Decimal("0.00033"))
    assert (row.completion_tokens, row.reported_completion_tokens) == (8, 16)
    assert alerts(today) == [("anthropic", OURS)]
    assert [found.reason for found in losses.losses(Hold.objects.get(pk=lost).created_at)] == ["no_reference"]
    assert alice.wallet == (OPENING - 17_369, 0, 2)
    assert verifier.violations() == []


def test_web_searches_are_billed_apart(claude: SandboxServer, today: date) -> None:
    ask_claude(claude, "searches=2")
    usage = booked(Tenant(OPENING))
    Usage.objects.filter(pk=usage.pk).update(units={"web_searches": 2}, cost_pico=165_000_000 + 2 * 10**10)
    days.compare([today])
    found = {model: (row.expected_usd, row.reported_usd) for model, row in rows().items()}
    assert found == {
        OURS: (Decimal("0.000165"), Decimal("0.000165")),
        "web_search": (Decimal("0.02"), Decimal("0.02")),
    }


def test_what_they_bill_and_we_do_not_know_keeps_their_name(claude: SandboxServer, today: date) -> None:
    Provider.objects.get(name="anthropic").routes.all().delete()
    ask_claude(claude)
    days.compare([today])
    assert list(rows()) == [SONNET]
    assert rows()[SONNET].expected_usd == 0


def test_a_dated_name_is_its_aliases(today: date) -> None:
    names = {"claude-haiku-4-5": "anthropic/claude-haiku-4.5", "claude-3-20240101": "old"}
    report = {
        (today, "claude-haiku-4-5-20251001"): Day(cost_usd=Decimal(2), prompt_tokens=3),
        (today, "claude-haiku-4-5"): Day(cost_usd=Decimal(1), prompt_tokens=4),
        (today, "claude-3-20240101"): Day(cost_usd=Decimal(5)),
        (today - timedelta(days=1), "claude-haiku-4-5"): Day(cost_usd=Decimal(9)),
        (today, ""): Day(search_usd=Decimal("0.5")),
    }
    assert days.bills(report, today, names) == {
        "anthropic/claude-haiku-4.5": drift.Bill(Decimal(3), 7, 0),
        "old": drift.Bill(Decimal(5), 0, 0),
        "web_search": drift.Bill(Decimal("0.5"), 0, 0),
    }


def test_without_an_admin_key_it_says_so_and_asks_nobody(claude: SandboxServer, today: date, settings: Any) -> None:
    settings.ANTHROPIC_ADMIN_KEY = ""
    assert days.compare([today]) == {"anthropic": "ANTHROPIC_ADMIN_KEY is not set"}
    assert rows() == {}


def test_a_key_that_is_no_admins_is_said(claude: SandboxServer, today: date, settings: Any) -> None:
    settings.ANTHROPIC_ADMIN_KEY = "sk-ant-api03-test"
    assert days.compare([today]) == {"anthropic": "status 401"}
    assert rows() == {}


def test_a_provider_of_its_own_base_url_never_gets_the_admin_key(claude: SandboxServer, today: date) -> None:
    Provider.objects.filter(name="anthropic").update(base_url="https://elsewhere.example")
    assert days.compare([today]) == {}
    assert rows() == {}


def test_two_providers_of_one_account_cannot_be_told_apart(claude: SandboxServer, today: date) -> None:
    make_provider("second", kind="anthropic")
    why = "more than one provider calls with ANTHROPIC_API_KEY"
    assert days.compare([today]) == {"anthropic": why, "second": why}


def test_the_days_compared_are_over(claude: SandboxServer) -> None:
    assert days.days_over(date(2026, 3, 1)) == [date(2026, 2, 26), date(2026, 2, 27), date(2026, 2, 28)]
    ask_claude(claude)
    compare_bills()
    assert rows() == {}


# --- OpenRouter -----------------------------------------------------------------------------------


def test_bills_call_by_call_are_summed_by_model(db: None, today: date, settings: Any) -> None:
    settings.DRIFT_ALERT_USD = Decimal("0.0001")
    with openrouter() as (sandbox, provider):
        alice = Tenant(OPENING)
        for directive in ("billed=0.01957", "billed=0.01957"):
            settled_call(alice, provider.name, serve(sandbox, directive).id, Decimal("0.019"))
        settled_call(alice, provider.name, "gen-nobody-knows", Decimal("0.019"))
        calls.reconcile()
        days.compare([today])
        [row] = rows(provider.name).values()
        assert (row.expected_usd, row.reported_usd) == (Decimal("0.038"), Decimal("0.03914"))
        assert row.reported_prompt_tokens is None
        assert (provider.name, "any/model") in alerts(today)


@pytest.fixture
def account(db: None, settings: Any) -> Iterator[SandboxServer]:
    """OpenRouter with a management key. Its days are told when they are over."""
    with SandboxServer() as sandbox:
        settings.OPENROUTER_BASE_URL, settings.OPENROUTER_MANAGEMENT_KEY = sandbox.base_url, "sk-or-management-test"
        make_provider("openrouter", kind="openrouter")
        yield sandbox


def yesterday(sandbox: SandboxServer) -> date:
    """Let all that was served and booked have happened a day ago."""
    for call in sandbox.calls:
        call.received_at -= 86_400
    Usage.objects.filter(provider="openrouter").update(recorded_at=F("recorded_at") - timedelta(days=1))
    return datetime.now(UTC).date() - timedelta(days=1)


def test_one_too_many_at_openrouter_shows_in_its_activity(account: SandboxServer, settings: Any) -> None:
    settings.DRIFT_ALERT_USD = Decimal("0.0000001")
    alice = Tenant(OPENING)
    known = serve(account, "billed=0.019")
    settled_call(alice, "openrouter", known.id, Decimal("0.019"), usage=Tokens(prompt_tokens=15, completion_tokens=8))
    serve(account, "billed=0.002")  # and our server died before it knew of it
    day = yesterday(account)
    assert days.compare([day]) == {}
    row = rows("openrouter")["any/model"]
    assert (row.expected_usd, row.reported_usd) == (Decimal("0.019"), Decimal("0.021"))
    assert (row.prompt_tokens, row.reported_prompt_tokens) == (15, 30)
    assert (row.completion_tokens, row.reported_completion_tokens) == (8, 16)
    assert alerts(day) == [("openrouter", "any/model")]


def test_activity_is_for_days_that_are_over_and_management_keys(account: SandboxServer, today: date, settings: Any):
    assert days.compare([today]) == {"openrouter": "status 400"}
    settings.OPENROUTER_MANAGEMENT_KEY = "sk-or-v1-ordinary"
    assert days.compare([today - timedelta(days=1)]) == {"openrouter": "status 403"}
    assert rows("openrouter") == {}


# --- The threshold, and side by side ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "reported", "is_above"),
    [
        ("100", "102", False),  # not above 2 %
        ("100", "102.01", True),
        ("100", "97.99", True),
        ("10", "11", False),  # not above a dollar
        ("10", "11.01", True),
        ("0", "1.01", True),
        ("0", "1", False),
    ],
)
def test_both_thresholds_must_be_passed(expected: str, reported: str, is_above: bool) -> None:
    assert drift.is_above_threshold(Decimal(expected), Decimal(reported)) is is_above


def test_three_tasks_at_once_raise_one_alert(live_db: None, caplog: pytest.LogCaptureFixture) -> None:
    provider = f"p-{os.urandom(4).hex()}"
    bill = {"m": drift.Bill(Decimal(5), 1, 1)}
    with caplog.at_level(logging.ERROR):
        at_once([lambda: drift.compare_reported(date(2026, 1, 2), provider, bill)] * 3)
    assert len([record for record in caplog.records if provider in record.getMessage()]) == 1
    assert ProviderDay.objects.filter(provider=provider).count() == 1
