"""The `usage` object of OpenAI-compatible providers → Reported. Pure.

Zero is zero, absent is absent; what cannot be true is named and left to the caller's estimate.
"""

from decimal import Decimal

import msgspec
from msgspec import Raw, Struct

from billing.pricing.money import Usage, units
from completions.ask import Reported
from completions.chat.request import given
from completions.providers.base import problem_of


class _PromptDetails(Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _CompletionDetails(Struct, frozen=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _ServerTools(Struct, frozen=True):
    web_search_requests: int | None = None


class _Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    # OpenRouter's overview calls it by the second name, its bodies by the first.
    server_tool_use_details: _ServerTools | None = None
    server_tool_use: _ServerTools | None = None


class _Cost(Struct, frozen=True):
    cost: Decimal | None = None


_usage_decoder = msgspec.json.Decoder(_Usage)
_cost_decoder = msgspec.json.Decoder(_Cost)
_NO_PROMPT, _NO_COMPLETION, _NO_TOOLS = _PromptDetails(), _CompletionDetails(), _ServerTools()

COST_USD_MAX = Decimal(1_000_000)
COST_DECIMALS = 20  # 1e-99999999 is a number in JSON, but none that PostgreSQL stores


def reported(raw: Raw, *, images: int, context_length: int) -> Reported | None:
    """None: the provider said nothing. `images` is what we counted in the answer: no usage object has it."""
    if not given(raw):
        return None
    cost_usd = _cost_usd(raw)
    try:
        usage = _usage(_usage_decoder.decode(raw), images)
    except msgspec.ValidationError:
        return Reported(None, cost_usd, "malformed")
    problem = problem_of(usage, context_length)
    return Reported(None if problem else usage, cost_usd, problem)


def _usage(said: _Usage, images: int) -> Usage:
    prompt = said.prompt_tokens_details or _NO_PROMPT
    completion = said.completion_tokens_details or _NO_COMPLETION
    searches = (said.server_tool_use_details or said.server_tool_use or _NO_TOOLS).web_search_requests
    return Usage(
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
        cached_tokens=prompt.cached_tokens or 0,
        cache_write_5m_tokens=prompt.cache_write_tokens or 0,  # these providers do not tell the two apart
        reasoning_tokens=completion.reasoning_tokens or 0,
        audio_input_tokens=prompt.audio_tokens or 0,
        audio_output_tokens=completion.audio_tokens or 0,
        units=units(images=images, web_searches=searches) if images or searches else {},
    )


def _cost_usd(raw: Raw) -> Decimal | None:
    """Never a float: costs come with binary noise (0.0076509169000000005) that is rounded once, later."""
    try:
        cost = _cost_decoder.decode(raw).cost
    except msgspec.ValidationError:
        return None
    if cost is None or not cost.is_finite() or not 0 <= cost <= COST_USD_MAX:
        return None
    return round(cost, COST_DECIMALS)
