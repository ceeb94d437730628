"""The rate of a call: what a dollar of its cost sells for. A call keeps the rate it began with, whatever the
settings say by the time its bill is looked up."""

from django.conf import settings

from billing.ledger.models import Hold
from billing.pricing import money
from billing.pricing.models import CreditRate


def current() -> CreditRate:
    """The settings' rate, as a row; made the first time a server starts with it. One query, or two."""
    row, _ = CreditRate.objects.get_or_create(credits_per_usd=settings.CREDITS_PER_USD, margin=settings.MARGIN)
    return row


def of(hold: Hold) -> CreditRate:
    """A call's own rate. A call from before rates were kept has none: for it the settings' rate, as a row that is not
    stored."""
    return hold.rate or CreditRate(credits_per_usd=settings.CREDITS_PER_USD, margin=settings.MARGIN)


def struct(hold: Hold) -> money.CreditRate:
    """The same, to calculate with."""
    return of(hold).to_struct()
