"""How amounts and times look to people: credits with at most four decimals, times by distance; the exact figure is on
hover."""

from datetime import datetime

from django import template
from django.utils.timesince import timesince

register = template.Library()

MICRO = 1_000_000
SHOWN_UNIT = 100  # micro-credits in the fourth decimal


@register.filter
def credits(micro: int) -> str:
    """Cut off, not rounded: nobody is shown a credit they do not have."""
    whole, fraction = divmod(abs(micro), MICRO)
    decimals = f"{fraction // SHOWN_UNIT:04d}".rstrip("0")
    sign = "−" if micro < 0 else ""
    return f"{sign}{whole:,}{'.' if decimals else ''}{decimals}"


@register.filter
def exact_micro(micro: int) -> str:
    return f"{'−' if micro < 0 else ''}{abs(micro):,} micro-credits"


@register.filter
def count(number: int) -> str:
    return f"{number:,}"


@register.filter
def ago(at: datetime, now: datetime) -> str:
    if abs(now - at).total_seconds() < 60:
        return "just now"
    return f"in {timesince(now, at, depth=1)}" if at > now else f"{timesince(at, now, depth=1)} ago"
