"""The table of price classes: it agrees with itself, the database keeps its figures, and a class is one line of it."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from billing.ledger import journal
from billing.models import Price, Usage
from billing.pricing import money
from billing.pricing.classes import BY_NAME, CLASSES, NAMES, ON_A_RECEIPT, TOTALS, total_of
from completions.catalog.capabilities import CAPABILITIES, PRICED_CAPABILITIES
from completions.catalog.loader import load_catalog
from tests.kit import CHECKOUT
from tests.kit.catalogs import make_route
from tests.kit.tenants import Tenant

TWO_LINES = """\
    PriceClass(name="characters", unit="each", counted_as="characters", label="Characters", capability="speech"),
    PriceClass(name="video_input", unit="token", part_of="input", counted_as="video_tokens", label="Video in"),
)
"""

# --- The table ------------------------------------------------------------------------------------


def test_names_and_counts_are_said_once() -> None:
    assert len(BY_NAME) == len(NAMES) == len(CLASSES) == len(set(ON_A_RECEIPT))
    assert max(Counter(one.counted_as for one in CLASSES if one.counted_as).values()) == 1
    assert max(Counter(one.openrouter for one in CLASSES if one.openrouter).values()) == 1


def test_parts_are_tokens_and_end_at_a_total() -> None:
    assert TOTALS == ("input", "output")
    assert {name: total_of(name) for name in NAMES if BY_NAME[name].is_token} == {
        "input": "input",
        "output": "output",
        "cache_read": "input",
        "cache_write_5m": "input",
        "cache_write_1h": "input",
        "reasoning": "output",
        "audio_input": "input",
        "audio_output": "output",
    }
    assert [name for name in NAMES if total_of(name) is None] == ["image", "request", "web_search"]


def test_every_column_of_tokens_has_its_class_and_every_class_its_place() -> None:
    counts = {one.counted_as for one in CLASSES}
    assert counts == {*money.TOKEN_FIELDS, *money.UNITS, ""}
    columns = {field.name for field in Usage._meta.fields}
    assert columns & counts == set(money.TOKEN_FIELDS)


def test_capabilities_that_need_a_price() -> None:
    assert PRICED_CAPABILITIES == {
        "web_search": "web_search",
        "audio_input": "audio_input",
        "audio_output": "audio_output",
        "image_output": "image",
    }
    assert set(PRICED_CAPABILITIES) <= set(CAPABILITIES)


def test_the_manual_names_every_class() -> None:
    [section] = re.findall(r"## Prices\n(.*?)\n## ", (CHECKOUT / "docs/catalog.md").read_text(), re.DOTALL)
    assert [name for name in NAMES if f"`{name}`" not in section] == []


# --- What a row keeps -----------------------------------------------------------------------------


def test_a_row_keeps_decimal_strings_of_two_scales() -> None:
    stored = money.stored_rates({"web_search": "0.01", "output": 2, "input": Decimal("1e-6"), "image": None})
    assert stored == {"input": "0.000001", "output": "2.000000", "web_search": "0.010000000000"}
    assert money.rates_from_usd(stored) == money.Rates(input=1, output=2_000_000, web_search=10**10)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"input": "0.0000001"}, "1E-7 USD has too many decimals or is negative"),
        ({"image": "0.0000000000001"}, "1E-13 USD has too many decimals or is negative"),
        ({"input": "-1"}, "-1 USD has too many decimals or is negative"),
        ({"inputs": "1"}, "'inputs' is no class of a price"),
    ],
)
def test_what_is_no_price_is_not_stored(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        money.stored_rates(given)


def test_a_stored_tier_replaces_only_what_it_names() -> None:
    row = Price(
        id=7,
        version=3,
        rates=money.stored_rates({"input": "1.25", "output": "10.00", "cache_read": "0.125"}),
        tiers=[
            {"above_prompt_tokens": 400_000, "input": "5.00"},
            {"above_prompt_tokens": 200_000, "input": "2.50", "output": "15.00"},
        ],
    )
    stored = row.to_struct()
    assert (stored.id, stored.version) == (7, 3)
    assert stored.rates(200_000) == money.Rates(input=1_250_000, output=10_000_000, cache_read=125_000)
    assert stored.rates(200_001) == money.Rates(input=2_500_000, output=15_000_000, cache_read=125_000)
    assert stored.rates(400_001) == money.Rates(input=5_000_000, output=10_000_000, cache_read=125_000)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "rates",
    [
        {},
        [],
        {"input": "1.000000"},
        {"input": "1.000000", "output": None},
        {"input": "1.000000", "output": 1},
        {"input": "1.000000", "output": "-1.000000"},
        {"input": "1.000000", "output": "1e6"},
        {"input": "1.000000", "output": "NaN"},
        {"input": "1.000000", "output": ""},
        {"input": "1.000000", "output": "1"},
        {"input": "1.000000", "output": "1.0000000"},
        {"input": "1.000000", "output": "1.000000000000"},
        {"input": "1.000000", "output": "1.000000", "image": "0.01"},
        {"input": "1.000000", "output": "1.000000", "image": ["0.010000000000"]},
        {"input": "1.000000", "output": "1.000000", "image": {"each": "0.010000000000"}},
        {"input": "1.000000", "output": "1.000000", "image": "999999999.000000000000"},
        {"input": "1.000000", "output": "1.000000\n"},
        {"input": "1.000000", "output": "1.000000", "": "1.000000"},
        {"input": "1.000000", "output": "1.000000", "In-put": "1.000000"},
    ],
    ids=str,
)
def test_the_database_refuses_rates_that_are_none(rates: Any) -> None:
    with pytest.raises(DatabaseError, match="violates check constraint"), transaction.atomic():
        Price.objects.create(version=1, rates=rates)
    assert Price.objects.count() == 0


@pytest.mark.django_db
def test_the_database_takes_a_class_it_has_not_heard_of() -> None:
    price = Price.objects.create(
        version=1, rates={"input": "0.000000", "output": "99999999999999.999999", "characters": "0.000000000001"}
    )
    price.refresh_from_db()
    assert price.usd == {"input": Decimal(0), "output": Decimal("99999999999999.999999")}


@pytest.mark.django_db
def test_a_class_that_nobody_here_counts_is_not_sold(caplog: pytest.LogCaptureFixture) -> None:
    rates = money.stored_rates({"input": "1", "output": "2"}) | {"seconds": "0.010000000000"}
    make_route(capabilities=[], price=Price.objects.create(version=1, rates=rates))
    assert load_catalog().models == {}
    assert "openai/gpt-4.1-mini by openrouter) is not served: no such price class: seconds" in caplog.text


# --- The migrations -------------------------------------------------------------------------------

RATES = import_module("billing.migrations.0029_rates_by_price_class")
UNITS = import_module("billing.migrations.0030_units_of_usage")
OLD_PRICES = "SELECT input, output, cache_write_1h, web_search, request FROM billing_price ORDER BY id"
OLD_USAGE = "SELECT images, web_searches FROM billing_usage"


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(sql, None)


def rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def call(tenant: Tenant, units: dict[str, int]) -> UUID:
    hold_id = tenant.hold(10)
    journal.execute([tenant.settle(hold_id, 3, usage=money.Usage(units=units))])
    return hold_id


@pytest.mark.django_db
def test_prices_move_between_columns_and_json_unchanged() -> None:
    full = money.stored_rates({name: f"{place}.25" for place, name in enumerate(NAMES)})
    lean = money.stored_rates({"input": "0.000001", "output": "0", "cache_write_1h": "7", "web_search": "0.01"})
    for rates in (full, lean):
        Price.objects.create(version=1, rates=rates)
    run(RATES.RELEASE, RATES.COLUMNS_AGAIN, RATES.EMPTY)
    assert rows(OLD_PRICES) == [
        (Decimal("0.25"), Decimal("1.25"), Decimal("4.25"), Decimal("10.25"), Decimal("9.25")),
        (Decimal("0.000001"), Decimal(0), Decimal(7), Decimal("0.01"), None),
    ]
    run(RATES.ADD_AND_FILL, RATES.CONSTRAIN, RATES.DROP)
    assert [price.rates for price in Price.objects.order_by("pk")] == [full, lean]


@pytest.mark.django_db
def test_a_price_without_a_column_to_go_back_to_is_not_lost() -> None:
    Price.objects.create(version=1, rates=money.stored_rates({"input": 1, "output": 1}) | {"seconds": "1.000000"})
    with pytest.raises(DatabaseError, match="prices of classes that had no column"), transaction.atomic():
        run(RATES.COLUMNS_AGAIN)


@pytest.mark.django_db
def test_counts_move_between_columns_and_json_unchanged() -> None:
    alice = Tenant(10_000)
    nothing, pictures, both = {}, {"images": 2}, {"images": 1, "web_searches": 3}
    counted = {call(alice, units): units for units in (nothing, pictures, both)}
    run(UNITS.COLUMNS_AGAIN, UNITS.EMPTY, UNITS.REMOVE)
    assert sorted(rows(OLD_USAGE)) == [(0, 0), (1, 3), (2, 0)]
    run(UNITS.ADD, UNITS.FILL, UNITS.DROP)
    assert dict(Usage.objects.values_list("pk", "units")) == counted


@pytest.mark.django_db
def test_counts_without_a_column_to_go_back_to_are_not_lost() -> None:
    call(Tenant(10_000), {"characters": 5})
    with pytest.raises(DatabaseError, match="counts of units that had no column"), transaction.atomic():
        run(UNITS.COLUMNS_AGAIN)


# --- A class is one line --------------------------------------------------------------------------


@pytest.fixture
def checkout_with_two_classes_more(tmp_path: Path) -> Path:
    for entry in CHECKOUT.iterdir():
        if entry.name != "billing" and not entry.name.startswith("."):
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(CHECKOUT / "billing", tmp_path / "billing", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "billing/pricing/classes.py"
    text, end, rest = table.read_text().partition("\n)\n\nNAMES")
    assert end
    table.write_text(f"{text}\n{TWO_LINES}\nNAMES{rest}")
    return tmp_path


def test_a_new_class_is_a_line_of_the_table(
    checkout_with_two_classes_more: Path, process_environment: dict[str, str]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.kit.new_price_class"],
        cwd=checkout_with_two_classes_more,
        env=process_environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    # 60 prompt tokens at 1 USD per million and 40 of video at 3, 10 of output at 2; 1,200 characters at 0.000015 USD.
    rates = {"input": "1", "output": "2", "characters": "0.000015", "video_input": "3"}
    assert json.loads(ended.stdout) == {
        "without its price": "acme/speaker: route by acme: price: characters is missing for what the route can do",
        "row": {
            "input": "1.000000",
            "output": "2.000000",
            "characters": "0.000015000000",
            "video_input": "3.000000",
        },
        "cost_pico": 60_000_000 + 120_000_000 + 20_000_000 + 1_200 * 15_000_000,
        "of a long prompt": 300_000 * 1_000_000 + 30_000_000,
        "held": [2_000 * 15_000_000, 3_000_000],
        "units": {"characters": 1_200, "video_tokens": 40},
        "lines": [
            ["input", 60, 1_000_000],
            ["output", 10, 2_000_000],
            ["video_input", 40, 3_000_000],
            ["characters", 1_200, 15_000_000],
        ],
        "receipt": [
            ["Input", 60, 60_000_000],
            ["Output", 10, 20_000_000],
            ["Video in", 40, 120_000_000],
            ["Characters", 1_200, 18_000_000_000],
        ],
        "operator's": [
            ["input", "$1.00 / M"],
            ["output", "$2.00 / M"],
            ["video input", "$3.00 / M"],
            ["characters", "$0.000015 each"],
        ],
        "generation": rates | {"version": 1, "tiers": [{"above_prompt_tokens": 200_000, "characters": "0.000030"}]},
        "model": rates,
        "page": [["Input", True], ["Output", True], ["Characters", False], ["Video in", True]],
        "form": ["0.000015", "3"],
        "difference": ["output", "characters", "video_input"],
        "documented": ["characters", "video_input"],
    }
