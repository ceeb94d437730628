"""What a request can reach: every served model with its usable routes, as frozen structs in memory.

`load_catalog()` reads all of it in one query; who serves requests calls it at the start and after every
notification `catalog` on the channel `quantized`. Nothing here is cached and nothing touches the network.
"""

import logging

from django.conf import settings

from billing.pricing.classes import BY_NAME
from completions.catalog import models
from completions.catalog.secrets import SecretUnreadable
from completions.providers import kinds
from completions.routes import Catalog, ModelCard, Provider, Route

logger = logging.getLogger(__name__)


class NoBaseURL(Exception):
    """Neither the provider's row nor its kind says where it is, in one line."""


def load_catalog() -> Catalog:
    """The catalog of this moment. Synchronous: an async caller uses a thread."""
    rows = models.Route.objects.filter(enabled=True, model__enabled=True, provider__enabled=True)
    rows = rows.select_related("model", "provider", "price").order_by("model_id", "priority", "id")
    providers: dict[int, Provider | None] = {}
    cards: dict[str, list[models.Route]] = {}
    for row in rows:
        if row.provider_id not in providers:
            providers[row.provider_id] = _usable(row.provider)
        if providers[row.provider_id] and _is_priced(row) and _is_ruled(row):
            cards.setdefault(row.model_id, []).append(row)
    return Catalog({model_id: _card(routes, providers) for model_id, routes in cards.items()})


def endpoint(provider: models.Provider) -> tuple[str, str]:
    """Where a provider is and its secret: its own, or the settings' if the row names no base URL. Raises
    SecretUnreadable, NoBaseURL."""
    if provider.base_url:
        return provider.base_url.rstrip("/"), provider.secret
    kind = kinds.KINDS.get(provider.kind)
    if kind is None or kind.base_url_setting is None:
        raise NoBaseURL(f"it has no base URL, and its kind {provider.kind!r} has none either")
    secret = getattr(settings, kind.key_setting) if kind.key_setting else ""
    return getattr(settings, kind.base_url_setting), secret


def _usable(row: models.Provider) -> Provider | None:
    """None of a kind that takes no call without a key, until there is one; an error of a kind that nobody knows."""
    kind = kinds.KINDS.get(row.kind)
    if kind is None:
        logger.error("provider %s is not served: %r is no kind of provider", row.name, row.kind)
        return None
    try:
        base_url, secret = endpoint(row)
    except (SecretUnreadable, NoBaseURL) as error:
        logger.error("provider %s is not served: %s", row.name, error)
        return None
    if kind.needs_key and not secret:
        return None
    is_drained = row.when_client_leaves == models.Provider.Leaving.DRAIN
    return Provider(row.pk, row.name, row.kind, base_url, secret, is_drained)


def _is_priced(row: models.Route) -> bool:
    """Rows can be written around `Route.clean`; what it refuses is not sold here either."""
    missing = row.missing_prices()
    if missing:
        logger.error("route %s (%s) is not served: no price for %s", row.pk, row, ", ".join(missing))
    unknown = row.price.rates.keys() - BY_NAME.keys() if row.price else set()
    if unknown:  # of a version after this one, which counts what we would give away
        logger.error("route %s (%s) is not served: no such price class: %s", row.pk, row, ", ".join(sorted(unknown)))
    return not missing and not unknown


def _is_ruled(row: models.Route) -> bool:
    try:
        row.ruled()
    except ValueError as error:
        logger.error("route %s (%s) is not served: rules: %s", row.pk, row, error)
        return False
    return True


def _card(rows: list[models.Route], providers: dict[int, Provider | None]) -> ModelCard:
    model = rows[0].model
    return ModelCard(
        id=model.pk,
        name=model.name,
        owned_by=model.owned_by,
        created=int(model.created.timestamp()),
        routes=tuple(_route(row, provider) for row in rows if (provider := providers[row.provider_id])),
    )


def _route(row: models.Route, provider: Provider) -> Route:
    assert row.price is not None  # unpriced rows are left out before
    return Route(
        id=row.pk,
        model=row.model_id,
        provider=provider,
        upstream_model=row.upstream_model,
        priority=row.priority,
        capabilities=frozenset(row.capabilities),
        context_length=row.context_length,
        max_output_tokens=row.max_output_tokens,
        price=row.price.to_struct(),
        rules=row.ruled(),
    )
