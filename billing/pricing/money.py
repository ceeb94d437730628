"""Usage × price → micro-credits. Pure, integers only; the one place where anything is rounded.

Units: a price is an integer of picodollars (1e-12 USD) per token or per unit, which makes six
decimals of "USD per million tokens" exact. A cost is an integer of picodollars. An amount is
an integer of micro-credits, rounded up once per call.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import compress, repeat
from operator import attrgetter, mul
from typing import Any

import msgspec

from billing.pricing.classes import BY_NAME, CLASSES, NAMES, ON_A_RECEIPT, TOTALS, by_class, total_of
from common.numbers import MICRO as MICRO

PICO = 10**12


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says a call consumed. Tokens, with OpenAI's meaning of the totals:
    `prompt_tokens` includes cached, written and audio ones, `completion_tokens` reasoning and audio.

    `units` has what is counted and has no field here, by the `counted_as` of its price class; no zeros."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    units: dict[str, int] = {}

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


TOKEN_FIELDS = tuple(name for name in Usage.__struct_fields__ if name != "units")  # usage rows have them as columns
token_counts = attrgetter(*TOKEN_FIELDS)
_BY_COUNT = {one.counted_as: one.name for one in CLASSES if one.counted_as}
UNITS = tuple(name for name in _BY_COUNT if name not in TOKEN_FIELDS)  # usage rows have them in `units`


def units(**counts: int | None) -> dict[str, int]:
    """The `units` of a usage: without what there was none of."""
    return {name: count for name, count in counts.items() if count}


_PicoByClass: Any = by_class(int | None, None, needed=int)


class Rates(_PicoByClass, msgspec.Struct, frozen=True, kw_only=True):
    """Picodollars by class, in the order of the classes: per token (`None`: not priced apart), or each (`None`: not
    offered). The totals, `input` and `output`, are always there."""

    def priced(self) -> dict[str, int]:
        """The classes that have a rate of their own, in their order."""
        rates = zip(NAMES, msgspec.structs.astuple(self), strict=True)
        return {name: pico for name, pico in rates if pico is not None}


class Tier(msgspec.Struct, frozen=True):
    """The rates of the whole request once its prompt has more than `above_prompt_tokens` tokens."""

    above_prompt_tokens: int
    rates: Rates


class Price(msgspec.Struct, frozen=True):
    """One immutable price version. `tiers` ascend by threshold."""

    id: int
    version: int
    base: Rates
    tiers: tuple[Tier, ...] = ()

    def rates(self, prompt_tokens: int) -> Rates:
        """The rates that apply to a prompt of this length, the whole request at one tier."""
        chosen = self.base
        for tier in self.tiers:
            if prompt_tokens > tier.above_prompt_tokens:
                chosen = tier.rates
        return chosen


class CreditRate(msgspec.Struct, frozen=True):
    """How many micro-credits one picodollar of cost sells for, as an exact fraction; `id` is its row's, if any."""

    numerator: int
    denominator: int
    id: int | None = None

    @classmethod
    def of(cls, credits_per_usd: Decimal, margin: Decimal, *, id: int | None = None) -> "CreditRate":
        factor = Fraction(credits_per_usd) * MICRO / (PICO * (1 - Fraction(margin)))
        return cls(factor.numerator, factor.denominator, id)

    def micro(self, cost_pico: int) -> int:
        """Micro-credits for a cost, rounded up to a whole one."""
        return -(-cost_pico * self.numerator // self.denominator)

    def affordable_pico(self, amount_micro: int) -> int:
        """The largest cost that `micro` does not turn into more than `amount_micro`."""
        return amount_micro * self.denominator // self.numerator


def cost_pico(usage: Usage, price: Price) -> int:
    """The cost of a call in picodollars: the sum of its `lines`."""
    tariff = _tariff(price.rates(usage.prompt_tokens))
    return sum(map(mul, _quantities(usage, tariff), tariff.each))


def lines(usage: Usage, price: Price) -> list[tuple[str, int, int]]:
    """The arithmetic of a receipt: (class, quantity, picodollars each), zero quantities left out."""
    tariff = _tariff(price.rates(usage.prompt_tokens))
    found = compress(zip(_ORDER, _quantities(usage, tariff), tariff.each, strict=True), tariff.is_billed)
    return sorted((line for line in found if line[1]), key=lambda line: ON_A_RECEIPT.index(line[0]))


def dearest(rates: Rates, total: str, cache_is_marked: bool) -> int:
    """The most that a token of `input` or `output` may cost, whichever of its classes it turns out to be."""
    return _tariff(rates).dearest[total, cache_is_marked]


def units_pico(rates: Rates, counts: Mapping[str, int]) -> int:
    """The cost of so many units by what they are counted as, and of the call itself."""
    tariff = _tariff(rates)
    cost = tariff.once
    for name, count in counts.items():
        cost += count * tariff.by_count[name]
    return cost


class _Tariff(msgspec.Struct, frozen=True):
    """Rates made ready for arithmetic. Tuples are in `_ORDER`."""

    each: tuple[int, ...]  # picodollars; nothing for what is not billed
    is_billed: tuple[bool, ...]
    parts: tuple[tuple[int, tuple[bool, ...]], ...]  # of each total: its place, and what is billed apart from it
    once: int  # what every call costs
    by_count: dict[str, int]  # picodollars each of the units
    dearest: dict[tuple[str, bool], int]  # by total, and whether the prompt marks what shall be cached


# The order of a usage: its fields, then its units, then what every call is.
_OF_EVERY_CALL = tuple(one.name for one in CLASSES if not one.counted_as)
_ORDER = (*(_BY_COUNT[name] for name in (*TOKEN_FIELDS, *UNITS)), *_OF_EVERY_CALL)
_ONCE = (1,) * len(_OF_EVERY_CALL)


def _quantities(usage: Usage, tariff: _Tariff) -> list[int]:
    """How much of each class there is, of the totals what is not billed apart from them.

    Sub-classes may exceed their total in what providers report (11 reasoning tokens of 10 were recorded): the class
    is billed as reported, the remainder is never negative.
    """
    counts = [*token_counts(usage), *map(usage.units.get, UNITS, repeat(0)), *_ONCE]
    for place, parts in tariff.parts:
        counts[place] = max(0, counts[place] - sum(compress(counts, parts)))
    return counts


@lru_cache(maxsize=1024)
def _tariff(rates: Rates) -> _Tariff:
    """A class without a rate of its own is billed as the class it is part of, never at zero: cache reads and writes
    and audio input as input, audio output as output. Reasoning tokens then stay in the output."""
    priced = rates.priced()
    is_billed = tuple(name in priced or not BY_NAME[name].only_if_priced for name in _ORDER)
    each = {name: _rate(name, priced) if billed else 0 for name, billed in zip(_ORDER, is_billed, strict=True)}
    apart = {name for name, billed in zip(_ORDER, is_billed, strict=True) if billed and name not in TOTALS}
    return _Tariff(
        each=tuple(each.values()),
        is_billed=is_billed,
        parts=tuple(
            (_ORDER.index(total), tuple(name in apart and total_of(name) == total for name in _ORDER))
            for total in TOTALS
        ),
        once=sum(each[name] for name in _OF_EVERY_CALL),
        by_count={unit: each[_BY_COUNT[unit]] for unit in UNITS},
        dearest={
            (total, cache_is_marked): max(
                pico for name, pico in priced.items() if total_of(name) == total and _is_held(name, cache_is_marked)
            )
            for total in TOTALS
            for cache_is_marked in (False, True)
        },
    )


def _is_held(name: str, cache_is_marked: bool) -> bool:
    held = BY_NAME[name].held
    return held == "always" or (held == "when_cache_is_marked" and cache_is_marked)


def _rate(name: str, priced: Mapping[str, int]) -> int:
    parent = BY_NAME[name].part_of
    return priced.get(name, 0 if parent is None else _rate(parent, priced))


def pico_per_token(usd_per_million: Decimal) -> int:
    """0.40 USD per million tokens → 400000. Raises ValueError below a picodollar per token."""
    return _exact(usd_per_million * MICRO, usd_per_million)


def pico_per_unit(usd: Decimal) -> int:
    """0.01 USD per web search → 10**10."""
    return _exact(usd * PICO, usd)


def pico_of(name: str, usd: Decimal) -> int:
    """A class's price in USD, per million tokens or each → picodollars per token or each."""
    return pico_per_token(usd) if BY_NAME[name].is_token else pico_per_unit(usd)


def rates_from_usd(prices: Mapping[str, Decimal | str | None]) -> Rates:
    """Prices in USD by class (per million tokens, or each) → rates; an absent class is `None`."""
    given = ((name, prices.get(name)) for name in NAMES)
    return Rates(**{name: pico_of(name, Decimal(usd)) for name, usd in given if usd is not None})


def stored_rates(prices: Mapping[str, Decimal | str | int | None]) -> dict[str, str]:
    """Prices in USD by class as a price row keeps them: decimal strings, six decimals per million tokens, twelve for
    one. Raises ValueError for what is no class, is negative or has more decimals."""
    if unknown := sorted(prices.keys() - BY_NAME.keys()):
        raise ValueError(f"{unknown[0]!r} is no class of a price")
    given = {name: Decimal(usd) for name in NAMES if (usd := prices.get(name)) is not None}
    for name, usd in given.items():
        pico_of(name, usd)
    return {name: f"{usd:.{BY_NAME[name].decimals}f}" for name, usd in given.items()}


def micro_of_cents(cents: int, credits_per_usd: Decimal) -> int:
    """What an amount of money buys, in micro-credits, rounded down."""
    return int(Fraction(cents, 100) * Fraction(credits_per_usd) * MICRO)


def usd(pico: int) -> Decimal:
    """Picodollars → USD, exact."""
    return Decimal(pico).scaleb(-12)


def pico(cost_usd: Decimal) -> int:
    """A provider's bill in USD → picodollars. Its figures are floats with binary noise far below one."""
    return int(cost_usd.scaleb(12).to_integral_value(ROUND_HALF_EVEN))


def _exact(value: Decimal, given: Decimal) -> int:
    if value != value.to_integral_value() or value < 0:
        raise ValueError(f"{given} USD has too many decimals or is negative")
    return int(value)
