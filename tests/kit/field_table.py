"""The table of docs/providers.md: what becomes of every field at each kind of provider."""

from collections.abc import Iterable

from completions.chat.request import Fields
from completions.providers.record import ProviderKind


def field_table(kinds: Iterable[ProviderKind]) -> list[str]:
    """Its lines, with a column for each of the kinds in their order."""
    kinds = tuple(kinds)
    rows = ((f"`{name}`", *(str(kind.treatment[name]) for kind in kinds)) for name in Fields.__struct_fields__)
    head = f"| {' | '.join(('field', *(kind.label for kind in kinds)))} |"
    return [head, "|---" * (len(kinds) + 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
