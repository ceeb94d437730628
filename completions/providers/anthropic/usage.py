"""Anthropic's `usage` → Reported. Pure.

`input_tokens` are those that are neither read from the cache nor written to it: the prompt is the
sum of the three. Writes are told apart by their life (5 minutes, 1 hour), which cost differently.
In a stream the figures are cumulative: what a later event says replaces what an earlier one said.
"""

import msgspec
from msgspec import Raw, Struct

from billing.pricing.money import TOKEN_FIELDS, Usage, units
from completions.ask import Reported
from completions.chat.request import given
from completions.providers.base import problem_of

# What the model itself did; `advisor` iterations are another model's, at another price.
_OWN_ITERATIONS = ("message", "compaction")


class _CacheCreation(Struct, frozen=True):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(Struct, frozen=True):
    thinking_tokens: int | None = None


class _ServerTools(Struct, frozen=True):
    web_search_requests: int | None = None


class _Counts(Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None


class _Iteration(_Counts, frozen=True, kw_only=True):
    type: str | None = None


class _Usage(_Counts, frozen=True, kw_only=True):
    server_tool_use: _ServerTools | None = None
    iterations: list[_Iteration] | None = None


_usage_decoder = msgspec.json.Decoder(_Usage)
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_encoder = msgspec.json.Encoder()
_NO_WRITES, _NO_DETAILS, _NO_TOOLS = _CacheCreation(), _OutputDetails(), _ServerTools()


def reported(raw: Raw, context_length: int, *, is_partial: bool = False) -> Reported:
    """What a `usage` object says; the empty Reported if there is none."""
    if not given(raw):
        return Reported()
    try:
        usage = _usage(_usage_decoder.decode(raw))
    except msgspec.ValidationError:
        return Reported(problem="malformed")
    problem = problem_of(usage, context_length)
    return Reported(None if problem else usage, None, problem, is_partial)


class StreamUsage:
    """The figures of one stream so far."""

    def __init__(self, context_length: int) -> None:
        self._context_length = context_length
        self._fields: dict[str, Raw] = {}

    def told(self, raw: Raw, *, is_partial: bool) -> Reported | None:
        """With what an event adds; None if it says nothing."""
        if not given(raw):
            return None
        try:
            said = _fields_decoder.decode(raw)
        except msgspec.ValidationError:
            return Reported(problem="malformed")
        self._fields |= {name: value for name, value in said.items() if given(value)}
        return reported(Raw(_encoder.encode(self._fields)), self._context_length, is_partial=is_partial)


def _usage(said: _Usage) -> Usage:
    """Totals may leave out iterations, which are then the whole truth."""
    own = [one for one in said.iterations or () if one.type in _OWN_ITERATIONS]
    parts = [_counted(one) for one in own] or [_counted(said)]
    searches = (said.server_tool_use or _NO_TOOLS).web_search_requests
    summed = {name: sum(getattr(part, name) for part in parts) for name in TOKEN_FIELDS}
    return Usage(**summed, units=units(web_searches=searches))


def _counted(said: _Counts) -> Usage:
    read = said.cache_read_input_tokens or 0
    written, written_1h = _written(said)
    return Usage(
        prompt_tokens=said.input_tokens + read + written,
        completion_tokens=said.output_tokens,
        cached_tokens=read,
        cache_write_5m_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
        reasoning_tokens=(said.output_tokens_details or _NO_DETAILS).thinking_tokens or 0,
    )


def _written(said: _Counts) -> tuple[int, int]:
    """All tokens written to the cache, and those of them for an hour. A write of unsaid life is one of 5 minutes."""
    apart = said.cache_creation or _NO_WRITES
    written_1h = apart.ephemeral_1h_input_tokens or 0
    known = (apart.ephemeral_5m_input_tokens or 0) + written_1h
    return max(said.cache_creation_input_tokens or 0, known), written_1h
