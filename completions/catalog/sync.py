"""Our OpenRouter routes against OpenRouter's own model list: what differs, and new price versions from it.

The list is input from outside: its size and the time it takes are bounded, and what cannot be understood
is said in `notes` and never applied. Shapes: https://openrouter.ai/docs/api-reference/list-available-models
"""

import json
import time
from collections.abc import Iterable
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
import requests
from django.conf import settings
from django.db import transaction

from billing.pricing import money
from billing.pricing.classes import BY_NAME, CLASSES, NAMES, TOTALS
from common import outbound
from common.numbers import INTEGER_MAX
from completions.catalog import services
from completions.catalog.capabilities import CAPABILITIES, missing_prices
from completions.catalog.file import PRICE_USD_MAX
from completions.catalog.models import Route
from completions.providers.openrouter.kind import OPENROUTER

TIMEOUT_S = (5, 15)  # to connect, between two reads
DEADLINE_S = 60
LIST_BYTES_MAX = 32 * 1024 * 1024

# Their name of a price, USD per token or per unit → our class, USD per million tokens or per unit.
PRICE_CLASSES = {one.openrouter: one for one in CLASSES if one.openrouter}
PARAMETER_CAPABILITIES = {
    "tools": "tools",
    "structured_outputs": "structured_outputs",
    "response_format": "json_mode",
    "reasoning": "reasoning",
    "logprobs": "logprobs",
}


class SyncFailed(ValueError):
    """The list could not be had, in one line."""


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of their list in our terms. Without `usd` it has no price we can take."""

    usd: dict[str, Decimal]
    tiers: tuple[dict[str, Any], ...]
    capabilities: frozenset[str]
    context_length: int | None
    max_output_tokens: int | None
    notes: tuple[str, ...]


class Difference(msgspec.Struct, frozen=True):
    """`theirs` is None where they do not have it, `ours` where we do not."""

    model: str
    field: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.model}: {self.field}: ours {self.ours}, theirs {self.theirs}"


class SyncReport(msgspec.Struct, kw_only=True):
    checked: int = 0
    differences: list[Difference] = []
    notes: list[str] = []
    applied: int = 0


def sync(listed: dict[str, ListedModel], *, apply: bool) -> SyncReport:
    """Compare every enabled OpenRouter route; with `apply`, give those whose price differs a new version."""
    synced = SyncReport()
    with transaction.atomic():
        services.lock_catalog()
        for route in _routes():
            synced.checked += 1
            theirs = listed.get(route.upstream_model)
            if theirs is None:
                synced.differences.append(Difference(route.model_id, "upstream_model", route.upstream_model, None))
                continue
            prices = price_differences(route, theirs)
            synced.differences += prices + limit_differences(route, theirs)
            synced.notes += [f"{route.model_id}: {note}" for note in theirs.notes]
            if apply and prices:
                _apply(route, theirs, synced)
    return synced


def price_differences(route: Route, theirs: ListedModel) -> list[Difference]:
    assert route.price is not None  # a CHECK of the table: enabled routes have one
    if not theirs.usd:
        return []
    ours = route.price.usd
    found = [
        Difference(route.model_id, name, _text(ours.get(name)), _text(theirs.usd.get(name)))
        for name in NAMES
        if ours.get(name) != theirs.usd.get(name)
    ]
    if _comparable(route.price.tiers) != _comparable(theirs.tiers):
        found.append(Difference(route.model_id, "tiers", route.price.tiers, list(theirs.tiers)))
    return found


def limit_differences(route: Route, theirs: ListedModel) -> list[Difference]:
    """Limits they name, and the capabilities that only one side has."""
    limits = {"context_length": theirs.context_length, "max_output_tokens": theirs.max_output_tokens}
    found = [
        Difference(route.model_id, name, getattr(route, name), value)
        for name, value in limits.items()
        if value is not None and value != getattr(route, name)
    ]
    ours = frozenset(route.capabilities)
    if ours != theirs.capabilities:
        only_ours, only_theirs = sorted(ours - theirs.capabilities), sorted(theirs.capabilities - ours)
        found.append(Difference(route.model_id, "capabilities", only_ours, only_theirs))
    return found


def fetch(base_url: str | None = None) -> dict[str, ListedModel]:
    """OpenRouter's list by model id. Raises SyncFailed with one line when it cannot be had."""
    url = f"{base_url or settings.OPENROUTER_BASE_URL}/models"
    try:
        body = json.loads(_download(url), parse_float=Decimal)
        models = {model["id"]: model for model in body["data"]}
    except (requests.RequestException, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SyncFailed(f"{url} gave no model list: {_one_line(error)}") from error
    return {name: listed(model) for name, model in models.items()}


def listed(model: dict[str, Any]) -> ListedModel:
    """One entry of their list, tolerant of whatever it holds."""
    notes: list[str] = []
    usd = _prices(_mapping(model.get("pricing")), notes)
    top = _mapping(model.get("top_provider"))
    return ListedModel(
        usd=usd if {"input", "output"} <= usd.keys() else {},
        tiers=_tiers(_mapping(model.get("pricing")), notes),
        capabilities=_capabilities(model, usd),
        context_length=_tokens(top.get("context_length")) or _tokens(model.get("context_length")),
        max_output_tokens=_tokens(top.get("max_completion_tokens")),
        notes=tuple(notes),
    )


def _routes() -> Iterable[Route]:
    rows = Route.objects.filter(enabled=True, provider__kind=OPENROUTER.name)
    return rows.select_related("price").order_by("model_id", "id")


def _apply(route: Route, theirs: ListedModel, synced: SyncReport) -> None:
    """A price that would sell for nothing what we sell today, or less than the route needs, is not taken over."""
    assert route.price is not None
    if lost := missing_prices(route.capabilities, theirs.usd):
        synced.notes.append(f"{route.model_id}: not applied: no price for {', '.join(lost)}")
        return
    if freed := [name for name in TOTALS if route.price.usd[name] and not theirs.usd[name]]:
        synced.notes.append(f"{route.model_id}: not applied: {freed[0]} became free")
        return
    route.price = services.price_version(route.price, theirs.usd, theirs.tiers)
    route.save(update_fields=["price"])
    synced.applied += 1


def _download(url: str) -> bytes:
    deadline = time.monotonic() + DEADLINE_S
    body = bytearray()
    with (
        outbound.session() as session,
        session.get(url, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as response,
    ):
        if response.status_code != requests.codes.ok:
            raise requests.RequestException(f"HTTP status {response.status_code}")
        for chunk in response.iter_content(65536):
            body += chunk
            if len(body) > LIST_BYTES_MAX or time.monotonic() > deadline:
                raise requests.RequestException("too long, or too slow")
    return bytes(body)


def _prices(pricing: dict[str, Any], notes: list[str]) -> dict[str, Decimal]:
    """Their prices by our classes. A zero beside a price means "not apart"; a negative one is a placeholder."""
    factor = 1 - (_decimal(pricing.get("discount")) or Decimal(0))
    usd = {}
    for theirs, ours in PRICE_CLASSES.items():
        value = _decimal(pricing.get(theirs))
        if value is None or (value == 0 and ours.name not in TOTALS):
            continue
        scaled = value * factor * (money.MICRO if ours.is_token else 1)
        if not 0 <= scaled <= PRICE_USD_MAX:
            notes.append(f"{theirs} is {value}, which is no price: ignored")
            continue
        usd[ours.name] = scaled
    if _decimal(pricing.get("image")) == _decimal(pricing.get("prompt")):
        usd.pop("image", None)  # the price of an image token, and those are prompt tokens; not of an image
    steps = {name: Decimal(1).scaleb(-BY_NAME[name].decimals) for name in usd}
    return {name: value.quantize(steps[name], ROUND_CEILING) for name, value in _whole(usd).items()}


def _whole(usd: dict[str, Decimal]) -> dict[str, Decimal]:
    """Prices that stand alone, as ours do."""
    least = usd.get("input", Decimal(0))
    for name in ("cache_write_5m", "cache_write_1h"):
        if usd.get(name, least) < least:
            usd[name] += least  # Google: what storage costs on top of the input (their list of 2025 had the sum)
    if usd.get("reasoning") == usd.get("output"):
        usd.pop("reasoning", None)
    return usd


def _tiers(pricing: dict[str, Any], notes: list[str]) -> tuple[dict[str, Any], ...]:
    """Their overrides by prompt length; later ones win. A tier says what differs from the base."""
    given = pricing.get("overrides")
    overrides = [_mapping(one) for one in given] if isinstance(given, list) else []
    by_length = [one for one in overrides if _tokens(one.get("min_prompt_tokens")) and "utc_start" not in one]
    if len(by_length) < len(overrides):
        notes.append("a price by time of day cannot be represented: ignored")
    base = _prices(pricing, [])
    tiers = []
    for threshold in sorted({one["min_prompt_tokens"] for one in by_length}):
        merged = dict(pricing)
        for one in by_length:
            merged |= one if one["min_prompt_tokens"] <= threshold else {}
        usd = _prices(merged, notes)
        tiers.append(services.tier(threshold, {name: usd[name] for name in usd if usd[name] != base.get(name)}))
    return tuple(tiers)


def _capabilities(model: dict[str, Any], usd: dict[str, Decimal]) -> frozenset[str]:
    """What they list, as far as it has the price that we would have to charge for it."""
    architecture = _mapping(model.get("architecture"))
    words = {PARAMETER_CAPABILITIES.get(name) for name in _strings(model.get("supported_parameters"))}
    words |= {f"{name}_input" for name in _strings(architecture.get("input_modalities"))}
    words |= {f"{name}_output" for name in _strings(architecture.get("output_modalities"))}
    words |= {word for word, name in (("prompt_caching", "cache_read"), ("web_search", "web_search")) if name in usd}
    offered = {"input", "output", *usd}
    return frozenset(word for word in CAPABILITIES if word in words and not missing_prices([word], offered))


def _comparable(tiers: Iterable[dict[str, Any]]) -> list[tuple[int, dict[str, Decimal]]]:
    return sorted(
        (one["above_prompt_tokens"], {name: Decimal(one[name]) for name in NAMES if name in one}) for one in tiers
    )


def _decimal(value: Any) -> Decimal | None:
    try:
        number = Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
    except ArithmeticError:
        return None
    return number if number is not None and number.is_finite() else None


def _tokens(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value <= INTEGER_MAX else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value.normalize():f}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
