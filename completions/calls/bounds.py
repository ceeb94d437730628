"""The most a call may cost, before anybody has counted anything. Pure.

A hold covers the upper estimate of the prompt plus the output bound, each at the dearest class the
provider could bill it as: a prompt with cache marks may be written to the cache, output may be
reasoning or audio where those are priced apart.
"""

import msgspec

from billing.pricing import money
from completions.ask import Demand
from completions.routes import Route


class CostBound(msgspec.Struct, frozen=True):
    """Picodollars: what the call costs without output, and what each output token adds at the most."""

    fixed_pico: int
    output_pico: int

    def pico(self, output_tokens: int) -> int:
        return self.fixed_pico + output_tokens * self.output_pico

    def affordable_tokens(self, budget_pico: int, tokens_max: int) -> int:
        """How many output tokens a budget covers, at most `tokens_max`; 0 when not even the prompt fits."""
        if budget_pico < self.fixed_pico:
            return 0
        if self.output_pico == 0:
            return tokens_max
        return min(tokens_max, (budget_pico - self.fixed_pico) // self.output_pico)


class MaxCostBound(msgspec.Struct, frozen=True):
    """The cost bound of a call that any of several routes may serve: the highest of theirs, which may be another one's
    for another number of output tokens."""

    bounds: tuple[CostBound, ...]

    def pico(self, output_tokens: int) -> int:
        return max(bound.pico(output_tokens) for bound in self.bounds)

    def affordable_tokens(self, budget_pico: int, tokens_max: int) -> int:
        return min(bound.affordable_tokens(budget_pico, tokens_max) for bound in self.bounds)


def cost_bound(demand: Demand, route: Route) -> CostBound:
    """What the demand costs at the most on this route, whose context bounds the prompt."""
    prompt_tokens = min(demand.prompt_tokens_max, route.context_length)
    rates = route.price.rates(prompt_tokens)
    prompt_pico = prompt_tokens * money.dearest(rates, "input", demand.may_write_cache)
    output_pico = money.dearest(rates, "output", False) if demand.has_output else 0
    return CostBound(prompt_pico + money.units_pico(rates, demand.units), output_pico)


def output_bound(demand: Demand, route: Route, floor_tokens: int) -> int:
    """The most output tokens to allow: what the client named, else the model's maximum within its context."""
    if demand.output_tokens is not None:
        return demand.output_tokens
    room = max(floor_tokens, route.context_length - demand.prompt_tokens_max)
    return min(route.max_output_tokens, room)


def estimated_usage(prompt_tokens_max: int, completion_tokens: int) -> money.Usage:
    """What a call is billed when the provider reported nothing usable: the middle of the prompt's
    estimate (its upper bound is twice what English text has), and the delivered output."""
    return money.Usage(prompt_tokens=likely_prompt_tokens(prompt_tokens_max), completion_tokens=completion_tokens)


def likely_prompt_tokens(prompt_tokens_max: int) -> int:
    return -(-prompt_tokens_max // 2)
