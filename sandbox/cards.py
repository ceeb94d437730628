"""The models the sandbox serves: what they cost, how much they take, what they can do.

Read from the repository's catalog file, so that the sandbox charges what the catalog says. The file is
checked by the gateway (`completions/catalog/file.py`, which needs Django); here it is only read.
"""

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from sandbox import prices

CATALOG = Path(__file__).resolve().parents[1] / "catalog.toml"


class Card(msgspec.Struct, frozen=True):
    """One model at this upstream; `id` is what the upstream calls it."""

    id: str
    name: str
    context_length: int
    max_output_tokens: int
    price: prices.Price
    capabilities: frozenset[str]
    created: int = 1_700_000_000  # Unix time

    @property
    def maker(self) -> str:
        return self.id.partition("/")[0]


# What a sandbox without a catalog takes any model for.
ANY_MODEL = Card(
    id="",
    name="",
    context_length=128_000,
    max_output_tokens=16_384,
    price=prices.Price(prices.rates_from_usd({"input": "0.40", "output": "1.60", "web_search": "0.01"})),
    capabilities=frozenset(
        {
            "tools",
            "structured_outputs",
            "json_mode",
            "reasoning",
            "logprobs",
            "web_search",
            "image_input",
            "file_input",
            "audio_input",
            "audio_output",
            "image_output",
        }
    ),
)


def read(path: Path, kind: str) -> dict[str, Card]:
    """The cards of a catalog file for upstreams of one kind, by upstream id."""
    catalog = tomllib.loads(path.read_text(), parse_float=Decimal)
    kinds = {provider["name"]: provider["kind"] for provider in catalog.get("providers", [])}
    routes = ((model, route) for model, route in _routes(catalog) if kinds.get(route["provider"]) == kind)
    return {route["upstream_model"]: _card(model, route) for model, route in routes}


def _routes(catalog: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for model in catalog.get("models", []):
        for route in model["routes"]:
            if "price" in route:
                yield model, route


def _card(model: dict[str, Any], route: dict[str, Any]) -> Card:
    return Card(
        id=route["upstream_model"],
        name=model["name"],
        context_length=route["context_length"],
        max_output_tokens=route["max_output_tokens"],
        price=_price(route["price"], route.get("tiers", [])),
        capabilities=frozenset(route["capabilities"]),
        created=_unix(model["created"]),
    )


def _price(base: dict[str, Decimal], tiers: list[dict[str, Decimal]]) -> prices.Price:
    """A tier names the figures that change above its threshold; the others stay the base's."""
    ascending = sorted(tiers, key=lambda tier: tier["above_prompt_tokens"])
    return prices.Price(prices.rates_from_usd(base), tuple(_tier(base, tier) for tier in ascending))


def _tier(base: dict[str, Decimal], tier: dict[str, Decimal]) -> prices.Tier:
    return prices.Tier(int(tier["above_prompt_tokens"]), prices.rates_from_usd({**base, **tier}))


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
