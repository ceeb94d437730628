"""Usage × price → micro-credits. Pure, integers only; the one place where anything is rounded.

Units: a price is an integer of picodollars (1e-12 USD) per token or per unit, which makes six
decimals of "USD per million tokens" exact. A cost is an integer of picodollars. An amount is
an integer of micro-credits, rounded up once per call.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from operator import mul

import msgspec

PICO = 10**12
MICRO = 10**6

TOKEN_CLASSES = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
)
UNIT_CLASSES = ("image", "request", "web_search")
CLASSES = TOKEN_CLASSES + UNIT_CLASSES
# The same in the order of a receipt.
LINES = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "reasoning",
    "audio_output",
    "image",
    "web_search",
    "request",
)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says a call consumed. Tokens, with OpenAI's meaning of the totals:
    `prompt_tokens` includes cached, written and audio ones, `completion_tokens` reasoning and audio."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    images: int = 0
    web_searches: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Picodollars per token by class (`None`: not priced apart) and per unit (`None`: not offered)."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image: int | None = None
    request: int | None = None
    web_search: int | None = None


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
    rates = price.rates(usage.prompt_tokens)
    return sum(map(mul, _quantities(usage, rates), _each(rates)))


def lines(usage: Usage, price: Price) -> list[tuple[str, int, int]]:
    """The arithmetic of a receipt: (class, quantity, picodollars each), zero quantities left out."""
    rates = price.rates(usage.prompt_tokens)
    found = zip(LINES, _quantities(usage, rates), _each(rates), strict=True)
    return [line for line in found if line[1]]


def _quantities(usage: Usage, rates: Rates) -> tuple[int, ...]:
    """How much of each of the LINES is billed. Reasoning tokens are part of the output unless the price names them.

    Sub-classes may exceed their total in what providers report (11 reasoning tokens of 10 were recorded): the class
    is billed as reported, the remainder is never negative.
    """
    reasoning = 0 if rates.reasoning is None else usage.reasoning_tokens
    input_apart = usage.cached_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    return (
        max(0, usage.prompt_tokens - input_apart),
        max(0, usage.completion_tokens - reasoning - usage.audio_output_tokens),
        usage.cached_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.audio_input_tokens,
        reasoning,
        usage.audio_output_tokens,
        usage.images,
        usage.web_searches,
        0 if rates.request is None else 1,
    )


@lru_cache(maxsize=1024)
def _each(rates: Rates) -> tuple[int, ...]:
    """What one of each of the LINES costs. A class without a price of its own is billed as the class it is part of,
    never at zero: cache reads and writes and audio input as input, reasoning and audio output as output."""
    write_5m = _first(rates.cache_write_5m, rates.input)
    return (
        rates.input,
        rates.output,
        _first(rates.cache_read, rates.input),
        write_5m,
        _first(rates.cache_write_1h, write_5m),
        _first(rates.audio_input, rates.input),
        _first(rates.reasoning, rates.output),
        _first(rates.audio_output, rates.output),
        rates.image or 0,
        rates.web_search or 0,
        rates.request or 0,
    )


def _first(rate: int | None, fallback: int) -> int:
    return fallback if rate is None else rate


def pico_per_token(usd_per_million: Decimal) -> int:
    """0.40 USD per million tokens → 400000. Raises ValueError below a picodollar per token."""
    return _exact(usd_per_million * MICRO, usd_per_million)


def pico_per_unit(usd: Decimal) -> int:
    """0.01 USD per web search → 10**10."""
    return _exact(usd * PICO, usd)


def rates_from_usd(prices: dict[str, Decimal | str | None]) -> Rates:
    """Prices in USD by class (per million tokens, or per unit) → rates; an absent class is `None`."""
    given = {name: Decimal(value) for name, value in prices.items() if value is not None}
    return Rates(
        **{name: pico_per_token(given[name]) for name in TOKEN_CLASSES if name in given},
        **{name: pico_per_unit(given[name]) for name in UNIT_CLASSES if name in given},
    )


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
