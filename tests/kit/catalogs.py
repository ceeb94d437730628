"""Catalog rows for tests: a provider, models and routes with the prices of the public API's own example."""

from datetime import UTC, datetime
from typing import Any

from billing.models import Price
from billing.pricing import money
from completions.models import Model, Provider, Route

MINI = "openai/gpt-4.1-mini"
CAPABILITIES = ["tools", "structured_outputs", "json_mode", "logprobs", "web_search", "prompt_caching", "image_input"]


def make_provider(name: str = "openrouter", **fields: Any) -> Provider:
    return Provider.objects.create(**{"name": name, "kind": "openrouter", **fields})


def make_price(**fields: Any) -> Price:
    figures = {"input": "0.40", "output": "1.60", "cache_read": "0.10", "web_search": "0.01", **fields}
    columns = {name: figures.pop(name) for name in ("tiers",) if name in figures}
    return Price.objects.create(version=1, rates=money.stored_rates(figures), **columns)


def make_route(model: str = MINI, provider: Provider | None = None, **fields: Any) -> Route:
    """An enabled route, with its model and, unless given, its provider."""
    row, _ = Model.objects.get_or_create(
        pk=model,
        defaults={"name": "GPT-4.1 Mini", "owned_by": "openai", "created": datetime(2025, 4, 14, tzinfo=UTC)},
    )
    provider = provider or Provider.objects.filter(name="openrouter").first() or make_provider()
    defaults = {
        "upstream_model": model,
        "capabilities": CAPABILITIES,
        "context_length": 1_047_576,
        "max_output_tokens": 32_768,
        "enabled": True,
    }
    price = fields.pop("price", None) or make_price()
    return Route.objects.create(**{**defaults, "model": row, "provider": provider, "price": price, **fields})
