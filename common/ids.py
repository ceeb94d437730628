"""A call's public id: its hold's, as people see it in answers, receipts and pages. Pure."""

from uuid import UUID

GENERATION_PREFIX = "gen-"


def generation_id(hold_id: UUID) -> str:
    """`gen-` and the hold's 32 hexadecimal digits."""
    return GENERATION_PREFIX + hold_id.hex


def hold_id_of(text: str) -> UUID | None:
    """The hold that a generation id names; None for any other text."""
    hex_digits = text.removeprefix(GENERATION_PREFIX)
    if len(hex_digits) != 32 or hex_digits == text:
        return None
    try:
        return UUID(hex=hex_digits)
    except ValueError:
        return None
