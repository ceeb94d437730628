"""How amounts and times look to people: credits with at most four decimals, times by distance; the exact figure is on
hover."""

import math
from datetime import datetime

from django import template
from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from billing.pricing import money
from common.numbers import MICRO, grouped_credits
from common.numbers import dollars as exact_dollars

register = template.Library()

SHOWN_UNIT = 100  # micro-credits in the fourth decimal


@register.filter
def credits(micro: int) -> str:
    """Cut off, not rounded, at the fourth decimal."""
    return grouped_credits(micro, decimals=4)


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


@register.filter
def signed_credits(micro: int) -> str:
    """A movement: one too small for four decimals is still one."""
    if 0 < abs(micro) < SHOWN_UNIT:
        return f"{'+' if micro > 0 else '−'}<0.0001"
    return f"+{credits(micro)}" if micro > 0 else credits(micro)


@register.filter
def tokens(number: int) -> str:
    """12.3 k, 4.56 M: three figures at least; the exact number is on hover."""
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if abs(number) >= size:
            return f"{_cut(number, size, 1 if abs(number) >= 10 * size else 2)} {unit}"
    return f"{number}"


def _cut(number: int, size: int, decimals: int) -> str:
    """Cut off, not rounded: 999,999 is not yet 1 M."""
    tenths = number * 10**decimals // size
    whole, fraction = divmod(tenths, 10**decimals)
    return f"{whole:,}.{fraction:0{decimals}d}".rstrip("0").rstrip(".")


@register.filter
def duration(milliseconds: int | None) -> str:
    if not isinstance(milliseconds, int):
        return "–"
    return f"{milliseconds} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.1f} s"


@register.filter
def usd(pico: int) -> str:
    """Dollars of picodollars, exact, with cents at least."""
    return exact_dollars(money.usd(pico))


@register.filter
def dollars(cents: int) -> str:
    """$1,234.50, and $10 without cents that say nothing."""
    return f"${cents // 100:,}.{cents % 100:02d}" if cents % 100 else f"${cents // 100:,}"


@register.filter
def per_million(pico_each: int) -> int:
    return pico_each * MICRO


@register.filter
def sells_for(pico: int) -> int:
    """Micro-credits of a cost in picodollars, rounded up."""
    return money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN).micro(pico)


@register.filter
def percent(part: int, whole: int) -> str:
    if not whole:
        return "–"
    return f"{100 * part / whole:.1f} %" if part else "0 %"


@register.filter
def share(part_of_one: float) -> str:
    """Cut off: what failed once was not up all the time."""
    return f"{math.floor(part_of_one * 1_000) / 10:g} %"


@register.filter
def negative(number: int) -> int:
    return -number


# --- With the exact figure on hover -----------------------------------------------------------------
#
# These filters write HTML, which is otherwise the business of templates/components. They are one line each and stand in
# every row of every table: as included templates they took half of a page's time.


@register.filter
def amount(micro: int) -> SafeString:
    return exactly(credits(micro), exact_micro(micro))


@register.filter
def movement(micro: int) -> SafeString:
    return exactly(signed_credits(micro), exact_micro(micro))


@register.filter
def token_count(number: int) -> SafeString:
    return exactly(tokens(number), f"{count(number)} tokens")


def exactly(shown: str, exact: str) -> SafeString:
    return format_html('<span class="number" title="{}">{}</span>', exact, shown)


@register.filter
def moment(at: datetime, now: datetime) -> SafeString:
    """By its distance; on hover by the viewer's clocks."""
    local = localtime(at)
    html = '<time class="number" datetime="{}" title="{}">{}</time>'
    return format_html(html, local.isoformat(), f"{local:%Y-%m-%d %H:%M:%S %Z}", ago(at, now))
