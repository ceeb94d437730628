"""The figures that all rooms share, and how figures are said: credits, dollars and plain decimals as text, exactly
unless the name says otherwise. Pure."""

from decimal import Decimal

MICRO = 10**6  # micro-credits in a credit
INTEGER_MAX, BIGINT_MAX = 2**31 - 1, 2**63 - 1  # what PostgreSQL's types of these names hold


def plain(value: Decimal) -> str:
    """Digits without exponent and without zeros at the end: 0.400000 → `0.4`, 1E+2 → `100`."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def typed_credits(micro: int) -> str:
    """Micro-credits as credits the way one types them into a field: 12500000 → `12.5`."""
    return plain(Decimal(micro) / MICRO)


def fixed_credits(micro: int) -> str:
    """Micro-credits as credits with all six decimals, for a program to read: -2400 → `-0.002400`."""
    whole, rest = divmod(abs(micro), MICRO)
    return f"{'-' if micro < 0 else ''}{whole}.{rest:06}"


def spelled_credits(micro: int) -> str:
    """Micro-credits for a letter: `1,234.5 credits`, without zeros that say nothing."""
    return "1 credit" if micro == MICRO else f"{grouped_credits(micro)} credits"


def grouped_credits(micro: int, decimals: int = 6) -> str:
    """Micro-credits as credits: `−1,234.5`. What is beyond these decimals is cut off, not rounded: nobody is shown a
    credit they do not have."""
    whole, rest = divmod(abs(micro), MICRO)
    fraction = f"{rest:06}"[:decimals].rstrip("0")
    return f"{'−' if micro < 0 else ''}{whole:,}{'.' if fraction else ''}{fraction}"


def dollars(usd: Decimal) -> str:
    """USD, exact, with cents at least: `−$1,234.50`, `$0.0000012`."""
    whole, _, decimals = f"{abs(usd):f}".partition(".")
    return f"{'−' if usd < 0 else ''}${int(whole):,}.{decimals.rstrip('0'):0<2}"


def rounded_dollars(usd: Decimal) -> str:
    """USD rounded to cents: `−$1,234.50`."""
    return f"{'−' if usd < 0 else ''}${abs(usd):,.2f}"
