"""Writes to the catalog: a file's entries, and new price versions. All in one transaction each, one at a time."""

from collections.abc import Iterable
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction

from billing.models import Price
from billing.pricing import money
from completions.catalog.capabilities import CAPABILITIES
from completions.catalog.file import CatalogError, CatalogFile, ModelEntry, ProviderEntry, RouteEntry
from completions.catalog.models import Model, Provider, Route

Row = TypeVar("Row", bound=models.Model)

CATALOG_LOCK = 0x9A17  # pg_advisory_xact_lock: two deployments may load their catalogs at the same moment


class LoadReport(msgspec.Struct):
    """How many rows of the file were new, different, or there already; and how many price versions that made."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    prices: int = 0


@transaction.atomic
def load(file: CatalogFile) -> LoadReport:
    """Make the file's providers, models and routes so; rows it does not name are not touched.

    Raises CatalogError, and changes nothing, if one of them cannot be.
    """
    lock_catalog()
    loaded = LoadReport()
    for provider in file.providers:
        _load_provider(provider, loaded)
    for model in file.models:
        row = _load_model(model, loaded)
        for route in model.routes:
            _load_route(row, route, loaded)
    return loaded


def lock_catalog() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CATALOG_LOCK])


def price_version(current: Price | None, usd: dict[str, Decimal], tiers: Iterable[dict[str, Any]]) -> Price:
    """The price with these figures: the current one if it says the same, else a new version after it."""
    wanted = Price(version=current.version + 1 if current else 1, rates=money.stored_rates(usd), tiers=list(tiers))
    if current and _rates(current) == _rates(wanted):
        return current
    wanted.save(force_insert=True)
    return wanted


def tier(above_prompt_tokens: int, usd: dict[str, Decimal]) -> dict[str, Any]:
    """One tier as a price stores it."""
    return {"above_prompt_tokens": above_prompt_tokens, **{name: f"{value:f}" for name, value in usd.items()}}


def _rates(price: Price) -> tuple[Any, ...]:
    struct = price.to_struct()
    return struct.base, struct.tiers


def _load_provider(entry: ProviderEntry, loaded: LoadReport) -> None:
    row = Provider.objects.filter(name=entry.name).first() or Provider(name=entry.name)
    _save(row, entry.name, msgspec.structs.asdict(entry), loaded)


def _load_model(entry: ModelEntry, loaded: LoadReport) -> Model:
    row = Model.objects.filter(pk=entry.id).first() or Model(pk=entry.id)
    values = msgspec.structs.asdict(entry)
    del values["routes"]
    values["created"] = datetime.combine(entry.created, time(), UTC)
    return _save(row, entry.id, values, loaded)


def _load_route(model: Model, entry: RouteEntry, loaded: LoadReport) -> None:
    where = f"{model.pk}: route by {entry.provider}"
    provider = Provider.objects.filter(name=entry.provider).first()
    if provider is None:
        raise CatalogError(f"{where}: provider: there is none of this name")
    key = {"model": model, "provider": provider, "upstream_model": entry.upstream_model}
    row = Route.objects.select_related("price").filter(**key).first() or Route(**key, enabled=True)
    values = {
        "priority": entry.priority,
        "capabilities": [word for word in CAPABILITIES if word in entry.capabilities],
        "context_length": entry.context_length,
        "max_output_tokens": entry.max_output_tokens,
        "price": _load_price(row.price, entry, loaded),
        "rules": entry.rules,
        "enabled": entry.enabled,
    }
    _save(row, where, values, loaded)


def _load_price(current: Price | None, entry: RouteEntry, loaded: LoadReport) -> Price | None:
    if entry.price is None:
        return None
    tiers = [tier(one.above_prompt_tokens, one.usd()) for one in entry.tiers]
    price = price_version(current, entry.price.usd(), tiers)
    loaded.prices += price != current
    return price


def _save(row: Row, where: str, values: dict[str, Any], loaded: LoadReport) -> Row:
    """Set what the entry says (None: nothing said), and save and count the row."""
    is_new = row._state.adding
    changed = {name: value for name, value in values.items() if value is not None and getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    if not is_new and not changed:
        loaded.unchanged += 1
        return row
    try:
        row.full_clean()
    except ValidationError as error:
        raise CatalogError(f"{where}: {_first_message(error)}") from error
    row.save()
    loaded.created += is_new
    loaded.updated += not is_new
    return row


def _first_message(error: ValidationError) -> str:
    field, messages = next(iter(error.message_dict.items()))
    return messages[0] if field == "__all__" else f"{field}: {messages[0]}"
