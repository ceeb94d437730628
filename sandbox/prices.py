"""What is priced, and what a consumption costs. Pure, exact, and the sandbox's own: a provider has its own till.

A price is whole picodollars (1e-12 USD) per token, or each; so is a cost.
"""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

TOKEN_CLASSES = (
    *("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"),
    *("audio_input", "reasoning", "audio_output"),
)
UNIT_CLASSES = ("image", "web_search", "request")
# As what tokens are billed that have no price of their own. Reasoning then stays in the output.
ELSE = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "audio_output": "output",
}
TOKEN_DECIMALS, UNIT_DECIMALS = 6, 12  # of a price in USD, per million tokens or each

Rates = Mapping[str, int]  # picodollars by class; an absent one has no price of its own


class Usage(Struct, frozen=True, kw_only=True):
    """What a call consumed. The prompt's tokens include cached, written and audio ones, the completion's those of
    reasoning and audio."""

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
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


class Tier(Struct, frozen=True):
    """The rates of a whole request whose prompt has more than so many tokens."""

    above_prompt_tokens: int
    rates: Rates


class Price(Struct, frozen=True):
    base: Rates
    tiers: tuple[Tier, ...] = ()  # ascending

    def rates(self, prompt_tokens: int) -> Rates:
        chosen = self.base
        for tier in self.tiers:
            if prompt_tokens > tier.above_prompt_tokens:
                chosen = tier.rates
        return chosen


class Line(Struct, frozen=True):
    name: str
    quantity: int
    pico: int  # each

    @property
    def cost_pico(self) -> int:
        return self.quantity * self.pico


def lines(usage: Usage, price: Price) -> list[Line]:
    """What is billed, class by class; without what there was none of."""
    rates = price.rates(usage.prompt_tokens)
    reasoning = usage.reasoning_tokens if "reasoning" in rates else 0
    apart_in = usage.cached_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    quantities = {
        "input": max(0, usage.prompt_tokens - apart_in),
        "output": max(0, usage.completion_tokens - reasoning - usage.audio_output_tokens),
        "cache_read": usage.cached_tokens,
        "cache_write_5m": usage.cache_write_5m_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "audio_input": usage.audio_input_tokens,
        "reasoning": reasoning,
        "audio_output": usage.audio_output_tokens,
        "image": usage.images,
        "web_search": usage.web_searches,
        "request": 1 if "request" in rates else 0,
    }
    return [Line(name, quantity, rate(name, rates)) for name, quantity in quantities.items() if quantity]


def rate(name: str, rates: Rates) -> int:
    """Units without a price are free; tokens are not."""
    return rates[name] if name in rates else rate(ELSE[name], rates) if name in ELSE else 0


def rates_from_usd(figures: Mapping[str, Decimal | str]) -> Rates:
    """USD per million tokens, or each; other keys are not ours to read."""
    decimals = {**dict.fromkeys(TOKEN_CLASSES, TOKEN_DECIMALS), **dict.fromkeys(UNIT_CLASSES, UNIT_DECIMALS)}
    return {name: _exact(Decimal(figures[name]), places) for name, places in decimals.items() if name in figures}


def usd(pico: int) -> Decimal:
    return Decimal(pico).scaleb(-12)


def _exact(price_usd: Decimal, decimals: int) -> int:
    pico = price_usd.scaleb(decimals)
    if pico != pico.to_integral_value() or pico < 0:
        raise ValueError(f"{price_usd} USD has too many decimals or is negative")
    return int(pico)
