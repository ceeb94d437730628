"""How amounts look to people: credits with at most four decimals; the exact figure is on hover."""

from django import template

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
    return f"{micro:,} micro-credits".replace("-", "−", 1) if micro < 0 else f"{micro:,} micro-credits"


@register.filter
def count(number: int) -> str:
    return f"{number:,}"
