"""The catalog as a file: TOML → checked entries. Pure; `services.load` writes them, docs/catalog.md explains them.

Prices are read as decimals, never as floats. What an entry does not say stays as it is in the database.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from billing.pricing import money
from billing.pricing.classes import NAMES, by_class
from common.numbers import INTEGER_MAX
from completions.catalog.capabilities import missing_prices, unknown_capabilities

PRICE_USD_MAX = 1_000_000

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=INTEGER_MAX)]


class CatalogError(ValueError):
    """What is wrong with the file, in one line that names the entry and the field."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ProviderEntry(Entry, frozen=True, kw_only=True):
    name: Text
    kind: Text
    base_url: str | None = None
    allow_plain_http: bool | None = None
    when_client_leaves: Literal["cancel", "drain"] | None = None
    enabled: bool | None = None


_PriceByClass: Any = by_class(Decimal | None, None, Entry, needed=Decimal)
_TierByClass: Any = by_class(Decimal | None, None, Entry)


class PriceEntry(_PriceByClass, Entry, frozen=True, kw_only=True):
    """USD per million tokens, or each."""

    def usd(self) -> dict[str, Decimal]:
        """The price classes that are there."""
        return figures(self)


class TierEntry(_TierByClass, Entry, frozen=True, kw_only=True):
    """The figures that a longer prompt pays instead of the base ones."""

    above_prompt_tokens: Tokens

    def usd(self) -> dict[str, Decimal]:
        """The price classes that are there."""
        return figures(self)


def figures(entry: PriceEntry | TierEntry) -> dict[str, Decimal]:
    given = ((name, getattr(entry, name)) for name in NAMES)
    return {name: usd for name, usd in given if usd is not None}


class RouteEntry(Entry, frozen=True, kw_only=True):
    provider: Text
    upstream_model: Text
    context_length: Tokens
    max_output_tokens: Tokens
    capabilities: list[str]
    priority: Annotated[int, msgspec.Meta(ge=0, le=32767)] | None = None
    price: PriceEntry | None = None
    tiers: list[TierEntry] = []
    rules: dict[str, Any] | None = None
    enabled: bool | None = None


class ModelEntry(Entry, frozen=True, kw_only=True):
    id: Text
    name: Text
    owned_by: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    created: date
    routes: list[RouteEntry]
    enabled: bool | None = None


class CatalogFile(msgspec.Struct, frozen=True):
    providers: list[ProviderEntry]
    models: list[ModelEntry]


EntryType = TypeVar("EntryType", bound=Entry)


def parse(text: str) -> CatalogFile:
    """The entries of a catalog file; raises CatalogError for the first that cannot be taken as it stands."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"not TOML: {error}") from error
    if unknown := sorted(raw.keys() - {"providers", "models"}):
        raise CatalogError(f"unknown top-level key {unknown[0]!r}: a catalog has [[providers]] and [[models]]")
    file = CatalogFile(
        _entries(raw, "providers", "name", ProviderEntry),
        _entries(raw, "models", "id", ModelEntry),
    )
    for model in file.models:
        _check_model(model)
    return file


def _entries(raw: dict[str, Any], section: str, key: str, kind: type[EntryType]) -> list[EntryType]:
    tables = raw.get(section, [])
    if not isinstance(tables, list):
        raise CatalogError(f"{section} must be an array of tables: [[{section}]]")
    entries = [_entry(table, section, key, kind) for table in tables]
    _refuse_repeated(f"{section}: {key}", (getattr(entry, key) for entry in entries))
    return entries


def _entry(table: Any, section: str, key: str, kind: type[EntryType]) -> EntryType:
    name = table.get(key) if isinstance(table, dict) else None
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        where = name if isinstance(name, str) else f"an entry of {section} without {key}"
        raise CatalogError(f"{where}: {error}") from error


def _check_model(model: ModelEntry) -> None:
    _refuse_repeated(f"{model.id}: route", (f"{route.provider} {route.upstream_model}" for route in model.routes))
    for route in model.routes:
        where = f"{model.id}: route by {route.provider}"
        if unknown := unknown_capabilities(route.capabilities):
            raise CatalogError(f"{where}: capabilities: unknown {unknown[0]!r}")
        if route.max_output_tokens > route.context_length:
            raise CatalogError(f"{where}: max_output_tokens is more than context_length")
        _check_price(route, where)


def _check_price(route: RouteEntry, where: str) -> None:
    if route.price is None:
        if route.tiers:
            raise CatalogError(f"{where}: tiers need a price")
        if route.enabled is not False:
            raise CatalogError(f"{where}: price is missing; without one the route must say enabled = false")
        return
    _check_figures(route.price.usd(), f"{where}: price")
    if route.enabled is not False and (missing := missing_prices(route.capabilities, route.price.usd())):
        raise CatalogError(f"{where}: price: {missing[0]} is missing for what the route can do")
    _refuse_repeated(f"{where}: tiers: above_prompt_tokens", (tier.above_prompt_tokens for tier in route.tiers))
    for tier in route.tiers:
        _check_figures(tier.usd(), f"{where}: tier above {tier.above_prompt_tokens}")


def _check_figures(given: dict[str, Decimal], where: str) -> None:
    for name, value in given.items():
        if not value.is_finite() or value > PRICE_USD_MAX:
            raise CatalogError(f"{where}: {name}: {value} is no price")
        try:
            money.pico_of(name, value)
        except ValueError as error:
            raise CatalogError(f"{where}: {name}: {error}") from error


def _refuse_repeated(what: str, values: Iterable[Any]) -> None:
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise CatalogError(f"{what} {repeated[0]} is there twice")
