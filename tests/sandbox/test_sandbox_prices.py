"""The sandbox's till is its own, and comes to the same figures as our books."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import money
from billing.pricing.classes import NAMES
from sandbox import cards, prices
from tests.kit import shipped

COUNTS = st.integers(0, 2_000_000)
TOTALS = ("input", "output")
PICO = st.integers(0, 10**8)
FIGURES = st.fixed_dictionaries(
    dict.fromkeys(TOTALS, PICO), optional={name: PICO for name in NAMES if name not in TOTALS}
)
USED = st.builds(prices.Usage, **dict.fromkeys(prices.Usage.__struct_fields__, COUNTS))


def ours(used: prices.Usage) -> money.Usage:
    """The same consumption as our books would have it."""
    tokens = {name: getattr(used, name) for name in money.TOKEN_FIELDS}
    return money.Usage(**tokens, units=money.units(images=used.images, web_searches=used.web_searches))


def billed(used: prices.Usage, price: prices.Price) -> list[tuple[str, int, int]]:
    return [(line.name, line.quantity, line.pico) for line in prices.lines(used, price)]


def test_it_knows_the_classes_of_the_catalog() -> None:
    assert sorted((*prices.TOKEN_CLASSES, *prices.UNIT_CLASSES)) == sorted(NAMES)


@given(used=USED, base=FIGURES, dearer=FIGURES, above=COUNTS)
def test_every_line_is_what_our_books_would_bill(
    used: prices.Usage, base: dict[str, int], dearer: dict[str, int], above: int
) -> None:
    theirs = prices.Price(base, (prices.Tier(above, dearer),))
    price = money.Price(0, 0, money.Rates(**base), (money.Tier(above, money.Rates(**dearer)),))
    assert billed(used, theirs) == money.lines(ours(used), price)


@pytest.mark.parametrize("provider", ["openrouter", "anthropic"])
def test_the_shipped_prices_are_read_alike(provider: str) -> None:
    read = cards.read(cards.CATALOG, provider)
    entries = shipped.entries(provider)
    assert read.keys() == entries.keys()
    for name, card in read.items():
        price = shipped.price(entries[name][1])
        assert card.price.base == price.base.priced()
        tiers = [(tier.above_prompt_tokens, tier.rates.priced()) for tier in price.tiers]
        assert [(tier.above_prompt_tokens, tier.rates) for tier in card.price.tiers] == tiers


@pytest.mark.parametrize("figure", ["-1", "0.0000001"])
def test_what_is_no_price_is_refused(figure: str) -> None:
    with pytest.raises(ValueError, match="has too many decimals or is negative"):
        prices.rates_from_usd({"input": Decimal(figure), "output": "1"})
