"""Usage × price → micro-credits, to the last one."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing.money import (
    CreditRate,
    Price,
    Rates,
    Tier,
    Usage,
    cost_pico,
    lines,
    pico_per_token,
    pico_per_unit,
    rates_from_usd,
    units,
    usd,
)
from tests.kit.profiles import examples

CREDITS = CreditRate.of(Decimal(100), Decimal("0.05"))


def price(*tiers: Tier, **usd_by_class: Decimal | str | None) -> Price:
    return Price(id=1, version=1, base=rates_from_usd(usd_by_class), tiers=tiers)


MINI = price(input="0.40", output="1.60")
# Every class at a price nobody else has: a quantity billed under the wrong one gives another sum.
FULL = price(
    input="2.00",
    output="8.00",
    cache_read="0.50",
    cache_write_5m="2.50",
    cache_write_1h="4.00",
    reasoning="9.00",
    audio_input="40.00",
    audio_output="80.00",
    image="0.01",
    request="0.002",
    web_search="0.03",
)
PARENTS = price(input="2.00", output="8.00")


# --- The public example -----------------------------------------------------------------------


def test_the_public_example_costs_2400_micro_credits() -> None:
    usage = Usage(prompt_tokens=25, completion_tokens=8)
    assert cost_pico(usage, MINI) == 25 * 400_000 + 8 * 1_600_000 == 22_800_000
    assert CREDITS.micro(22_800_000) == 2_400
    assert 1_000_000 - CREDITS.micro(cost_pico(usage, MINI)) == 997_600


def test_its_receipt_names_both_lines() -> None:
    assert lines(Usage(prompt_tokens=25, completion_tokens=8), MINI) == [
        ("input", 25, 400_000),
        ("output", 8, 1_600_000),
    ]


def test_the_cost_in_usd_is_exact() -> None:
    assert usd(22_800_000) == Decimal("0.0000228")


# --- Rounding ---------------------------------------------------------------------------------


def test_one_token_that_costs_a_fraction_of_a_micro_credit_costs_one() -> None:
    assert CREDITS.micro(1) == 1


def test_nothing_costs_nothing() -> None:
    assert CREDITS.micro(0) == 0
    assert cost_pico(Usage(), MINI) == 0
    assert lines(Usage(), MINI) == []


def test_a_whole_amount_is_not_rounded() -> None:
    # 9,500 picodollars / 0.95 × 100 × 1e6 = exactly one micro-credit.
    assert [CREDITS.micro(cost) for cost in (9_499, 9_500, 9_501, 19_000, 19_001)] == [1, 1, 2, 2, 3]


def test_rounding_happens_once_per_call_not_per_class() -> None:
    # Three classes of one picodollar each: 3 picodollars, one micro-credit and not three.
    thin = Price(id=1, version=1, base=Rates(input=1, output=1, cache_read=1))
    usage = Usage(prompt_tokens=2, cached_tokens=1, completion_tokens=1)
    assert [quantity for _, quantity, _ in lines(usage, thin)] == [1, 1, 1]
    assert CREDITS.micro(cost_pico(usage, thin)) == 1


def test_credits_follow_their_two_settings() -> None:
    assert CreditRate.of(Decimal(100), Decimal(0)).micro(10**12) == 100_000_000  # 1 USD, no margin: 100 credits
    assert CreditRate.of(Decimal(100), Decimal("0.5")).micro(10**12) == 200_000_000
    assert CreditRate.of(Decimal(1), Decimal(0)).micro(10**12) == 1_000_000
    assert CreditRate.of(Decimal("0.1"), Decimal("0.9")).micro(10**12) == 1_000_000


# --- Classes ----------------------------------------------------------------------------------


def test_cached_and_written_tokens_are_part_of_the_prompt() -> None:
    usage = Usage(
        prompt_tokens=1_000,
        cached_tokens=300,
        cache_write_5m_tokens=200,
        cache_write_1h_tokens=100,
        audio_input_tokens=50,
    )
    assert lines(usage, FULL) == [
        ("input", 350, 2_000_000),
        ("cache_read", 300, 500_000),
        ("cache_write_5m", 200, 2_500_000),
        ("cache_write_1h", 100, 4_000_000),
        ("audio_input", 50, 40_000_000),
        ("request", 1, 2_000_000_000),
    ]
    assert cost_pico(usage, FULL) == 700_000_000 + 150_000_000 + 500_000_000 + 400_000_000 + 2 * 10**9 + 2 * 10**9


def test_reasoning_and_audio_are_part_of_the_completion() -> None:
    usage = Usage(completion_tokens=100, reasoning_tokens=60, audio_output_tokens=10)
    assert lines(usage, FULL) == [
        ("output", 30, 8_000_000),
        ("reasoning", 60, 9_000_000),
        ("audio_output", 10, 80_000_000),
        ("request", 1, 2_000_000_000),
    ]


def test_reasoning_without_a_price_of_its_own_is_output() -> None:
    usage = Usage(completion_tokens=100, reasoning_tokens=60)
    assert lines(usage, PARENTS) == [("output", 100, 8_000_000)]


def test_more_reasoning_than_completion_is_billed_as_reported() -> None:
    usage = Usage(completion_tokens=10, reasoning_tokens=11)
    assert lines(usage, FULL)[:1] == [("reasoning", 11, 9_000_000)]
    assert lines(usage, PARENTS) == [("output", 10, 8_000_000)]


def test_images_searches_and_the_request_itself_are_units() -> None:
    usage = Usage(units=units(images=2, web_searches=3))
    assert lines(usage, FULL) == [
        ("image", 2, 10_000_000_000),
        ("web_search", 3, 30_000_000_000),
        ("request", 1, 2_000_000_000),
    ]
    assert usd(cost_pico(usage, FULL)) == Decimal("0.112")


@pytest.mark.parametrize(
    ("tokens", "parent"),
    [
        ("cached_tokens", "input"),
        ("cache_write_5m_tokens", "input"),
        ("cache_write_1h_tokens", "input"),
        ("audio_input_tokens", "input"),
        ("reasoning_tokens", "output"),
        ("audio_output_tokens", "output"),
    ],
)
def test_a_class_without_a_price_is_billed_as_its_parent_and_never_at_zero(tokens: str, parent: str) -> None:
    total = {"input": "prompt_tokens", "output": "completion_tokens"}[parent]
    cost = cost_pico(Usage(**{total: 1_000, tokens: 400}), PARENTS)
    assert cost == 1_000 * getattr(PARENTS.base, parent)


def test_a_one_hour_write_without_a_price_costs_what_a_five_minute_write_costs() -> None:
    base = price(input="2.00", output="8.00", cache_write_5m="2.50")
    assert cost_pico(Usage(prompt_tokens=10, cache_write_1h_tokens=10), base) == 10 * 2_500_000


def test_an_explicit_zero_is_a_price() -> None:
    free = price(input="2.00", output="8.00", cache_read="0", reasoning="0", audio_input="0", audio_output="0")
    usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=10, reasoning_tokens=3)
    assert cost_pico(usage, free) == 6 * 2_000_000 + 7 * 8_000_000


def test_all_writes_together() -> None:
    assert Usage(cache_write_5m_tokens=3, cache_write_1h_tokens=4).cache_write_tokens == 7


# --- Tiers ------------------------------------------------------------------------------------

TIERED = price(
    Tier(200_000, rates_from_usd({"input": "2.50", "output": "15.00"})),
    Tier(400_000, rates_from_usd({"input": "5.00", "output": "30.00"})),
    input="1.25",
    output="10.00",
)


@pytest.mark.parametrize(
    ("prompt_tokens", "input_pico"),
    [
        (199_999, 1_250_000),
        (200_000, 1_250_000),
        (200_001, 2_500_000),
        (400_000, 2_500_000),
        (400_001, 5_000_000),
    ],
)
def test_a_tier_begins_strictly_above_its_threshold_and_takes_the_whole_request(
    prompt_tokens: int, input_pico: int
) -> None:
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=1)
    output_pico = {1_250_000: 10_000_000, 2_500_000: 15_000_000, 5_000_000: 30_000_000}[input_pico]
    assert cost_pico(usage, TIERED) == prompt_tokens * input_pico + output_pico


# --- Prices -----------------------------------------------------------------------------------


def test_six_decimals_of_usd_per_million_tokens_are_exact() -> None:
    assert pico_per_token(Decimal("0.40")) == 400_000
    assert pico_per_token(Decimal("0.000001")) == 1
    assert pico_per_token(Decimal("99999999999999.999999")) == 99_999_999_999_999_999_999
    assert pico_per_unit(Decimal("0.01")) == 10_000_000_000
    assert pico_per_unit(Decimal("99999999.999999999999")) == 99_999_999_999_999_999_999


@pytest.mark.parametrize("wrong", ["0.0000001", "-1"])
def test_a_price_that_cannot_be_exact_is_refused_by_its_figure(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{wrong.replace('0.0000001', '1E-7')} USD"):
        pico_per_token(Decimal(wrong))


def test_an_absent_class_is_not_zero() -> None:
    rates = rates_from_usd({"input": "1", "output": "2", "image": None, "request": "0"})
    assert (rates.image, rates.web_search, rates.request) == (None, None, 0)


# --- For all figures --------------------------------------------------------------------------

amounts = st.integers(0, 2**63 - 1)
costs = st.integers(0, 10**20)
credit_rates = st.builds(
    CreditRate.of,
    st.decimals("0.01", "100000", places=2),
    st.decimals("0", "0.99", places=2),
)
quantities = st.integers(0, 2_000_000)
usages = st.builds(
    Usage,
    prompt_tokens=quantities,
    completion_tokens=quantities,
    cached_tokens=quantities,
    cache_write_5m_tokens=quantities,
    cache_write_1h_tokens=quantities,
    reasoning_tokens=quantities,
    audio_input_tokens=quantities,
    audio_output_tokens=quantities,
    units=st.builds(units, images=st.integers(0, 20), web_searches=st.integers(0, 20)),
)
picos = st.integers(0, 10**9)
maybe = st.none() | picos
rates = st.builds(
    Rates,
    input=picos,
    output=picos,
    cache_read=maybe,
    cache_write_5m=maybe,
    cache_write_1h=maybe,
    reasoning=maybe,
    audio_input=maybe,
    audio_output=maybe,
    image=maybe,
    request=maybe,
    web_search=maybe,
)
tiers = st.dictionaries(st.integers(0, 2_000_000), rates, max_size=3).map(
    lambda found: tuple(Tier(*item) for item in sorted(found.items()))
)
prices = st.builds(Price, id=st.just(1), version=st.just(1), base=rates, tiers=tiers)


@examples(300)
@given(credit_rates, amounts)
def test_what_is_affordable_is_the_exact_bound(rate: CreditRate, amount: int) -> None:
    bound = rate.affordable_pico(amount)
    assert rate.micro(bound) <= amount < rate.micro(bound + 1)


@examples(300)
@given(credit_rates, costs)
def test_rounding_is_up_and_by_less_than_one(rate: CreditRate, cost: int) -> None:
    exact = Fraction(cost) * rate.numerator / rate.denominator
    assert exact <= rate.micro(cost) < exact + 1


@examples(300)
@given(credit_rates, costs, costs)
def test_more_cost_is_never_fewer_credits_and_splitting_is_never_cheaper(
    rate: CreditRate, one: int, other: int
) -> None:
    whole = rate.micro(one + other)
    assert max(rate.micro(one), rate.micro(other)) <= whole <= rate.micro(one) + rate.micro(other)


@examples(300)
@given(usages, prices)
def test_the_lines_of_a_receipt_sum_to_its_cost(usage: Usage, price: Price) -> None:
    found = lines(usage, price)
    assert sum(quantity * pico for _, quantity, pico in found) == cost_pico(usage, price)
    assert all(quantity > 0 and pico >= 0 for _, quantity, pico in found)
    assert len({name for name, _, _ in found}) == len(found)


@examples(300)
@given(usages, prices)
def test_no_token_is_lost_and_none_is_billed_twice(usage: Usage, price: Price) -> None:
    """The token classes sum to the totals, or to their own reported sum where that is more."""
    billed = {name: quantity for name, quantity, _ in lines(usage, price)}
    of_input = sum(
        billed.get(name, 0) for name in ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input")
    )
    of_output = sum(billed.get(name, 0) for name in ("output", "reasoning", "audio_output"))
    parts = usage.cached_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    apart = usage.audio_output_tokens
    if price.rates(usage.prompt_tokens).reasoning is not None:
        apart += usage.reasoning_tokens
    assert of_input == max(usage.prompt_tokens, parts)
    assert of_output == max(usage.completion_tokens, apart)


@examples(200)
@given(usages, prices, st.sampled_from(["completion_tokens", "images", "web_searches"]), st.integers(1, 1_000))
def test_more_usage_never_costs_less(usage: Usage, price: Price, name: str, more: int) -> None:
    # Not of the prompt: a longer one may reach a tier that an operator made cheaper.
    counts = {field: getattr(usage, field) for field in usage.__struct_fields__}
    if name in counts:
        larger = Usage(**counts | {name: counts[name] + more})
    else:
        larger = Usage(**counts | {"units": usage.units | {name: usage.units.get(name, 0) + more}})
    assert cost_pico(larger, price) >= cost_pico(usage, price)
