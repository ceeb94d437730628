from decimal import Decimal

from django.db import models

from billing.pricing import money
from billing.pricing.classes import NAMES


class Price(models.Model):
    """One immutable version of what a route costs us: USD per million tokens, or each, by price class.

    `rates` are decimal strings (`money.stored_rates` makes them), and a CHECK of migration 0029 keeps them so: JSON has
    no decimals of its own, and a new class needs no column.
    """

    version = models.PositiveIntegerField()
    rates = models.JSONField()  # {"input": "0.400000", "web_search": "0.010000000000", ...}
    # [{"above_prompt_tokens": 200000, "input": "2.50", ...}]: what a longer prompt pays instead.
    tiers = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        figures = [f"{self.usd[name].normalize():f}" for name in ("input", "output")]
        return f"v{self.version}: {figures[0]} in, {figures[1]} out (USD per million tokens)"

    @property
    def usd(self) -> dict[str, Decimal]:
        """The classes that have a figure, in their order: USD per million tokens, or each."""
        return {name: Decimal(self.rates[name]) for name in NAMES if name in self.rates}

    def to_struct(self) -> money.Price:
        tiers = sorted(self.tiers, key=lambda tier: tier["above_prompt_tokens"])
        return money.Price(
            id=self.pk,
            version=self.version,
            base=money.rates_from_usd(self.rates),
            # A tier's own figures take the place of the base ones.
            tiers=tuple(
                money.Tier(tier["above_prompt_tokens"], money.rates_from_usd(self.rates | tier)) for tier in tiers
            ),
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
