"""The routes of the shipped catalog, as its file says them."""

from functools import cache

from billing.pricing import money
from completions.catalog import file as catalog_file
from completions.catalog.file import RouteEntry
from tests.kit import CHECKOUT


@cache
def entries(provider: str) -> dict[str, tuple[str, RouteEntry]]:
    """Model id and route by the name that the provider knows."""
    file = catalog_file.parse((CHECKOUT / "catalog.toml").read_text())
    routes = ((model.id, route) for model in file.models for route in model.routes)
    return {route.upstream_model: (model, route) for model, route in routes if route.provider == provider}


def price(entry: RouteEntry) -> money.Price:
    assert entry.price is not None
    base = entry.price.usd()
    tiers = (
        money.Tier(tier.above_prompt_tokens, money.rates_from_usd({**base, **tier.usd()}))
        for tier in sorted(entry.tiers, key=lambda tier: tier.above_prompt_tokens)
    )
    return money.Price(0, 0, money.rates_from_usd({**base}), tuple(tiers))
