"""What a request can reach: every served model with its usable routes, as frozen structs in memory. Pure.

completions/catalog/loader.py makes them of the tables.
"""

from difflib import get_close_matches

import msgspec

from billing.pricing import money
from completions import errors

SUGGESTIONS_MAX = 3
SUGGESTED_FOR_LENGTH_MAX = 100  # nearest names cost quadratic time: none for what is no model id anyway


class RouteRules(msgspec.Struct, frozen=True):
    """What a route's model takes beyond its capabilities; a kind of provider that needs such words has its own."""


NO_RULES = RouteRules()


class Provider(msgspec.Struct, frozen=True):
    """An upstream as the translators see it. An empty secret means that no key is sent."""

    id: int
    name: str
    kind: str
    base_url: str
    secret: str
    is_drained: bool = False  # its streams are read to their end also when their client has left

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.kind!r}, {self.base_url!r})"  # never the secret: this reaches logs


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One usable way to a model, at one price version. `context_length` bounds prompt and output together,
    `max_output_tokens` the output alone: both in tokens, as the catalog has them. The lowest `priority` is asked first;
    `capabilities` are the catalog's words (docs/catalog.md)."""

    id: int
    model: str
    provider: Provider
    upstream_model: str
    priority: int
    capabilities: frozenset[str]
    context_length: int
    max_output_tokens: int
    price: money.Price
    rules: RouteRules = NO_RULES


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its routes in the order in which they are tried; there is at least one."""

    id: str
    name: str
    owned_by: str
    created: int  # Unix time
    routes: tuple[Route, ...]


class Catalog(msgspec.Struct, frozen=True):
    """All models that can be served right now, by id."""

    models: dict[str, ModelCard]

    def card(self, model: str) -> ModelCard:
        """The model of exactly this id; variants such as `:online` or `:free` are other models, never this one. Raises
        ModelNotFound with the nearest ids."""
        card = self.models.get(model)
        if card is None:
            raise errors.ModelNotFound(model, self._nearest(model))
        return card

    def resolve(self, model: str, provider: str | None = None) -> tuple[Route, ...]:
        """The routes to a model, best first; with a forced provider its own alone. Raises ModelNotFound, and
        UnknownProvider if the forced one has no route to it."""
        routes = self.card(model).routes
        if provider is None:
            return routes
        forced = tuple(route for route in routes if route.provider.name == provider)
        if not forced:
            raise errors.UnknownProvider(provider, sorted({route.provider.name for route in routes}))
        return forced

    def _nearest(self, model: str) -> list[str]:
        if len(model) > SUGGESTED_FOR_LENGTH_MAX:
            return []
        return get_close_matches(model, self.models, n=SUGGESTIONS_MAX)
