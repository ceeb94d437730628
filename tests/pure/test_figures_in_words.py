"""Figures as text: one home for credits, dollars and plain decimals."""

from decimal import Decimal

import pytest

from common.csv_cells import no_formula
from common.numbers import (
    dollars,
    fixed_credits,
    grouped_credits,
    plain,
    rounded_dollars,
    spelled_credits,
    typed_credits,
)


@pytest.mark.parametrize(
    ("value", "text"), [("0.400000", "0.4"), ("1E+2", "100"), ("100", "100"), ("0E-6", "0"), ("-1.50", "-1.5")]
)
def test_a_plain_decimal_has_no_exponent_and_no_zeros_at_its_end(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


@pytest.mark.parametrize(
    ("micro", "typed", "fixed", "grouped", "cut", "spelled"),
    [
        (0, "0", "0.000000", "0", "0", "0 credits"),
        (1, "0.000001", "0.000001", "0.000001", "0", "0.000001 credits"),
        (1_000_000, "1", "1.000000", "1", "1", "1 credit"),
        (-2_400, "-0.0024", "-0.002400", "−0.0024", "−0.0024", "−0.0024 credits"),
        (1_234_567_890, "1234.56789", "1234.567890", "1,234.56789", "1,234.5678", "1,234.56789 credits"),
    ],
)
def test_credits_are_exact_unless_they_are_cut(
    micro: int, typed: str, fixed: str, grouped: str, cut: str, spelled: str
) -> None:
    assert (typed_credits(micro), fixed_credits(micro)) == (typed, fixed)
    assert (grouped_credits(micro), grouped_credits(micro, decimals=4)) == (grouped, cut)
    assert spelled_credits(micro) == spelled


@pytest.mark.parametrize(
    ("usd", "exact", "rounded"),
    [
        ("0", "$0.00", "$0.00"),
        ("1234.5", "$1,234.50", "$1,234.50"),
        ("0.0000012", "$0.0000012", "$0.00"),
        ("-0.056", "−$0.056", "−$0.06"),
    ],
)
def test_dollars_have_cents_at_least(usd: str, exact: str, rounded: str) -> None:
    assert (dollars(Decimal(usd)), rounded_dollars(Decimal(usd))) == (exact, rounded)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert no_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a=1", -5, None])
def test_other_cells_stay(cell: object) -> None:
    assert no_formula(cell) == cell
