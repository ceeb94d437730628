"""The words for what a route can do, and which of them have a price of their own. Pure."""

from collections.abc import Collection, Iterable
from typing import Any

from billing.pricing.classes import CLASSES, TOTALS

# What a route may be able to do; docs/catalog.md says what each word promises.
_CAPABILITIES = (
    "tools",
    "structured_outputs",
    "json_mode",
    "reasoning",
    "logprobs",
    "web_search",
    "prompt_caching",
    "image_input",
    "file_input",
    "audio_input",
    "video_input",
    "image_output",
    "audio_output",
)
CAPABILITIES = tuple(dict.fromkeys((*_CAPABILITIES, *(one.capability for one in CLASSES if one.capability))))

# A capability that is billed by a class of its own is not offered without that class's price:
# the ledger would take the missing figure for the plain token price, or for nothing at all.
PRICED_CAPABILITIES = {one.capability: one.name for one in CLASSES if one.capability}


def unknown_capabilities(capabilities: Any) -> list[Any]:
    """What of a route's capabilities is no word of the vocabulary."""
    given = capabilities if isinstance(capabilities, list) else [capabilities]
    return [word for word in given if word not in CAPABILITIES]


def missing_prices(capabilities: Iterable[str], offered: Collection[str]) -> list[str]:
    """The price classes a route lacks for what it says it can do, given those it has."""
    needed = [*TOTALS, *(PRICED_CAPABILITIES[word] for word in capabilities if word in PRICED_CAPABILITIES)]
    return [name for name in needed if name not in offered]
