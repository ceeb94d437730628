"""`GET /v1/models` and `/v1/models/{id}`: what can be asked for, and what it costs. No key is needed."""

from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import cast

import msgspec
from django.conf import settings
from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from rest_framework.request import Request
from rest_framework.views import APIView

from billing.pricing import money
from billing.pricing.classes import BY_NAME
from common.numbers import plain
from completions.api import shapes
from completions.api.documented import EndpointDoc, documented
from completions.catalog.capabilities import CAPABILITIES
from completions.catalog.loader import load_catalog
from completions.errors import ModelNotFound, NotFound
from completions.routes import ModelCard, Route

MAX_AGE_S = 60
CREDIT_DECIMALS = 6


class ModelListView(APIView):
    authentication_classes = ()
    permission_classes = ()

    @documented(EndpointDoc(answer=shapes.ModelList))
    def get(self, request: Request) -> HttpResponse:
        """Every model that can be served now."""
        cards = load_catalog().models.values()
        return cacheable(request, shapes.ModelList(data=[model_body(card) for card in cards]))


class ModelView(APIView):
    authentication_classes = ()
    permission_classes = ()

    @documented(EndpointDoc(answer=shapes.Model, refusals=(ModelNotFound, NotFound)))
    def get(self, request: Request, model_id: str) -> HttpResponse:
        """One model; its id holds a slash."""
        return cacheable(request, model_body(load_catalog().card(model_id)))


def cacheable(request: Request, body: shapes.ModelList | shapes.Model) -> HttpResponse:
    """The same for everybody, so shared caches may keep it a little; 304 to who has it already."""
    encoded = msgspec.json.encode(body)
    response = HttpResponse(encoded, content_type="application/json")
    response["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
    response["ETag"] = etag = f'"{sha256(encoded).hexdigest()[:32]}"'
    return cast(HttpResponse, get_conditional_response(request._request, etag=etag, response=response))


def model_body(card: ModelCard) -> shapes.Model:
    """A model can what one of its routes can; each provider's own limits stand beside its price."""
    return shapes.Model(
        id=card.id,
        created=card.created,
        owned_by=card.owned_by,
        name=card.name,
        context_length=max(route.context_length for route in card.routes),
        max_output_tokens=max(route.max_output_tokens for route in card.routes),
        capabilities=words(frozenset().union(*(route.capabilities for route in card.routes))),
        providers=[provider_body(route) for route in card.routes],
    )


def provider_body(route: Route) -> shapes.ModelProvider:
    price = route.price
    return shapes.ModelProvider(
        name=route.provider.name,
        priority=route.priority,
        context_length=route.context_length,
        max_output_tokens=route.max_output_tokens,
        capabilities=words(route.capabilities),
        price_version=price.version,
        pricing=pricing(price.base),
        credits=credits(price.base),
        tiers=[
            shapes.Tier(
                above_prompt_tokens=tier.above_prompt_tokens, pricing=pricing(tier.rates), credits=credits(tier.rates)
            )
            for tier in price.tiers
        ],
    )


def words(capabilities: frozenset[str]) -> list[str]:
    return [word for word in CAPABILITIES if word in capabilities]


def pricing(rates: money.Rates) -> shapes.Rates:
    return shapes.Rates(**{name: plain(money.usd(pico)) for name, pico in quoted(rates).items()})


def credits(rates: money.Rates) -> shapes.CreditRates:
    return shapes.CreditRates(**{name: micro_credits(pico) for name, pico in quoted(rates).items()})


def quoted(rates: money.Rates) -> dict[str, int]:
    """Picodollars for what a price is quoted by, a million tokens or one unit, of the classes that have a price of
    their own."""
    return {name: pico * money.MICRO if BY_NAME[name].is_token else pico for name, pico in rates.priced().items()}


def micro_credits(pico: int) -> int | str:
    """What a cost sells for, before the one rounding that a call gets: exact as an int,
    else a decimal string, its last decimal rounded up."""
    rate = money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN)
    exact = Fraction(pico * rate.numerator, rate.denominator)
    scaled = -(-exact * 10**CREDIT_DECIMALS // 1)
    if scaled % 10**CREDIT_DECIMALS == 0:
        return scaled // 10**CREDIT_DECIMALS
    return plain(Decimal(scaled).scaleb(-CREDIT_DECIMALS))
