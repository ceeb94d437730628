from decimal import Decimal
from typing import Any

from django.db import models

from billing.pricing import money


def usd_per_million(**options: Any) -> models.DecimalField:
    return models.DecimalField(max_digits=20, decimal_places=6, **options)


def usd_per_unit(**options: Any) -> models.DecimalField:
    return models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True, **options)


class Price(models.Model):
    """One immutable version of what a route costs us: USD per million tokens, or per unit."""

    version = models.PositiveIntegerField()
    input = usd_per_million()
    output = usd_per_million()
    cache_read = usd_per_million(null=True, blank=True)
    cache_write_5m = usd_per_million(null=True, blank=True)
    cache_write_1h = usd_per_million(null=True, blank=True)
    reasoning = usd_per_million(null=True, blank=True)
    audio_input = usd_per_million(null=True, blank=True)
    audio_output = usd_per_million(null=True, blank=True)
    image = usd_per_unit()
    request = usd_per_unit()
    web_search = usd_per_unit()
    # [{"above_prompt_tokens": 200000, "input": "2.50", ...}]: what a longer prompt pays instead.
    tiers = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        figures = [f"{Decimal(figure).normalize():f}" for figure in (self.input, self.output)]
        return f"v{self.version}: {figures[0]} in, {figures[1]} out (USD per million tokens)"

    def rates(self, overrides: dict[str, str]) -> money.Rates:
        """The rates in picodollars, with a tier's own figures in place of the base ones."""
        return money.rates_from_usd({name: overrides.get(name, getattr(self, name)) for name in money.CLASSES})

    def to_struct(self) -> money.Price:
        tiers = sorted(self.tiers, key=lambda tier: tier["above_prompt_tokens"])
        return money.Price(
            id=self.pk,
            version=self.version,
            base=self.rates({}),
            tiers=tuple(money.Tier(tier["above_prompt_tokens"], self.rates(tier)) for tier in tiers),
        )


class CreditRate(models.Model):
    """What a dollar of cost sells for: MARGIN and CREDITS_PER_USD as they were when calls began. Immutable."""

    credits_per_usd = models.DecimalField(max_digits=30, decimal_places=12)
    margin = models.DecimalField(max_digits=13, decimal_places=12)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credits_per_usd", "margin"], name="credit_rate_once")]

    def __str__(self) -> str:
        return f"{self.credits_per_usd.normalize():f} credits per USD, margin {self.margin.normalize():f}"

    def to_struct(self) -> money.CreditRate:
        return money.CreditRate.of(self.credits_per_usd, self.margin, id=self.pk)
