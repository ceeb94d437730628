"""Migration 0034: what older versions wrote of failures is told in the field's words, and the sums follow the rows."""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from django.db import connection

from billing.ledger import journal
from billing.ledger.commands import Attempt
from billing.models import AttemptHour, Usage
from billing.oversight import verifier
from billing.usage import rollups
from tests.kit.books import make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.tenants import Tenant

MIGRATION = import_module("billing.migrations.0034_outcomes_in_the_fields_words")
FORWARDS = MIGRATION.renamed(MIGRATION.WORDS)
BACKWARDS = MIGRATION.renamed({new: old for old, new in MIGRATION.WORDS.items()})

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock(db: None) -> DatabaseClock:
    return DatabaseClock(datetime(2026, 11, 20, 10, tzinfo=UTC))


def run(statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


def voided(alice: Tenant, error_code: str, *outcomes: str) -> None:
    tried = tuple(Attempt(f"provider-{number}", outcome, 7 + number) for number, outcome in enumerate(outcomes))
    receipt = make_receipt(price_id=alice.price_id, cost_pico=0, error_code=error_code, attempts=tried)
    journal.execute([alice.void(alice.hold(5), receipt=receipt)])


def told() -> list[tuple[str, list[dict[str, Any]]]]:
    return list(Usage.objects.order_by("pk").values_list("error_code", "attempts"))


def providers_and_times(rows: list[tuple[str, list[dict[str, Any]]]]) -> list[list[tuple[str, int]]]:
    return [[(attempt["provider"], attempt["milliseconds"]) for attempt in attempts] for _, attempts in rows]


def test_rows_and_sums_are_carried_over_and_back() -> None:
    alice = Tenant(1_000)
    voided(alice, "nonsense", "our_account", "circuit_open", "nonsense")
    voided(alice, "client_left", "cancelled")
    voided(alice, "unavailable", "unavailable")
    journal.execute([alice.settle(alice.hold(5), 3, attempts=(Attempt("a", "nonsense", 1), Attempt("b", "ok", 2)))])
    rollups.roll_up()
    before, hours = told(), list(AttemptHour.objects.order_by("pk").values_list("outcome", "attempts", "milliseconds"))
    run(FORWARDS)
    assert [(code, [attempt["outcome"] for attempt in attempts]) for code, attempts in told()] == [
        ("malformed_response", ["provider_auth", "circuit_open", "malformed_response"]),
        ("client_disconnected", ["cancelled"]),
        ("unavailable", ["unavailable"]),
        ("", ["malformed_response", "ok"]),
    ]
    assert providers_and_times(told()) == providers_and_times(before)
    assert verifier.violations() == []
    run(BACKWARDS)
    assert told() == before
    assert sorted(AttemptHour.objects.values_list("outcome", "attempts", "milliseconds")) == sorted(hours)
    assert verifier.violations() == []


def test_an_hour_that_has_both_words_becomes_one_sum() -> None:
    alice = Tenant(1_000)
    voided(alice, "nonsense", "nonsense")
    voided(alice, "malformed_response", "malformed_response")
    rollups.roll_up()
    assert AttemptHour.objects.count() == 2
    run(FORWARDS)
    hour = AttemptHour.objects.get()
    assert (hour.outcome, hour.attempts, hour.milliseconds) == ("malformed_response", 2, 14)
    assert verifier.violations() == []
