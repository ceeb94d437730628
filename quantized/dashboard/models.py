"""What can be asked for: every model that is served now, its prices, limits and providers."""

from urllib.parse import urlencode

import msgspec
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.decorators.http import require_safe

from billing.pricing import money
from billing.pricing.classes import BY_NAME
from billing.usage.figures import last_days, provider_health
from completions.catalog.capabilities import CAPABILITIES
from completions.catalog.loader import load_catalog
from completions.routes import ModelCard, Route
from quantized.dashboard.frame import Visitor, member_page, show

SEARCH_MAX = 100
HEALTH_DAYS = 7
_LABELS = {
    "tools": "Tools",
    "structured_outputs": "Structured output",
    "json_mode": "JSON",
    "reasoning": "Reasoning",
    "logprobs": "Log probabilities",
    "web_search": "Web search",
    "prompt_caching": "Prompt caching",
    "image_input": "Images in",
    "file_input": "Files in",
    "audio_input": "Audio in",
    "video_input": "Video in",
    "image_output": "Images out",
    "audio_output": "Audio out",
}
LABELS = {word: _LABELS.get(word, word.replace("_", " ").capitalize()) for word in CAPABILITIES}


class Rate(msgspec.Struct, frozen=True):
    """What one class costs: for a million tokens, or for one unit."""

    name: str
    pico: int
    is_token: bool


class Offer(msgspec.Struct, frozen=True):
    """A model at one provider."""

    provider: str
    context_length: int
    max_output_tokens: int
    capabilities: list[str]
    price_version: int
    rates: list[Rate]
    tiers: list[tuple[int, list[Rate]]]


class Card(msgspec.Struct, frozen=True):
    id: str
    name: str
    owned_by: str
    context_length: int
    max_output_tokens: int
    capabilities: list[str]
    input_pico: int  # for a million tokens, of the provider that is asked first
    output_pico: int
    offers: list[Offer]


@require_safe
@member_page
def page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    search = request.GET.get("q", "").strip()[:SEARCH_MAX]
    able = request.GET.get("able", "")
    able = able if able in CAPABILITIES else ""
    cards = [card_of(card) for card in load_catalog().models.values()]
    offered = [word for word in CAPABILITIES if any(LABELS[word] in card.capabilities for card in cards)]
    context = {
        "cards": [card for card in cards if matches(card, search, able)],
        "all": len(cards),
        "search": search,
        "able": able,
        "abilities": [(word, LABELS[word]) for word in offered],
        "query": urlencode({"q": search} if search else {}),
    }
    return show(request, visitor, "models.html", context)


@require_safe
@member_page
def model_page(request: HttpRequest, visitor: Visitor, model_id: str) -> HttpResponseBase:
    card = load_catalog().models.get(model_id)
    if card is None:
        raise Http404
    shown = card_of(card)
    health = {
        each.provider: each for each in provider_health(last_days(visitor.now, HEALTH_DAYS, visitor.zone), model_id)
    }
    context = {
        "card": shown,
        "offers": [(offer, health.get(offer.provider)) for offer in shown.offers],
        "health_days": HEALTH_DAYS,
    }
    return show(request, visitor, "model.html", context)


def matches(card: Card, search: str, able: str) -> bool:
    words = search.lower().split()
    told = f"{card.id} {card.name} {card.owned_by}".lower()
    return all(word in told for word in words) and (not able or LABELS[able] in card.capabilities)


def card_of(card: ModelCard) -> Card:
    """A model can what one of its routes can."""
    first = card.routes[0].price.base
    return Card(
        id=card.id,
        name=card.name,
        owned_by=card.owned_by,
        context_length=max(route.context_length for route in card.routes),
        max_output_tokens=max(route.max_output_tokens for route in card.routes),
        capabilities=labels(frozenset[str]().union(*(route.capabilities for route in card.routes))),
        input_pico=first.input * money.MICRO,
        output_pico=first.output * money.MICRO,
        offers=[offer_of(route) for route in card.routes],
    )


def offer_of(route: Route) -> Offer:
    return Offer(
        provider=route.provider.name,
        context_length=route.context_length,
        max_output_tokens=route.max_output_tokens,
        capabilities=labels(route.capabilities),
        price_version=route.price.version,
        rates=rates_of(route.price.base),
        tiers=[(tier.above_prompt_tokens, rates_of(tier.rates)) for tier in route.price.tiers],
    )


def rates_of(rates: money.Rates) -> list[Rate]:
    priced = ((BY_NAME[name], pico) for name, pico in rates.priced().items())
    return [Rate(one.label, pico * money.MICRO if one.is_token else pico, one.is_token) for one, pico in priced]


def labels(capabilities: frozenset[str]) -> list[str]:
    return [LABELS[word] for word in CAPABILITIES if word in capabilities]
