"""What the books promise, as SQL that finds where they break it; and how the keys of entries are spelled.

Each package states the invariants of its own rows, beside the code that writes them; billing/oversight/verifier.py
joins them to one statement. That statement has parameters, so a percent sign is written twice.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Invariant(NamedTuple):
    """`violations` is a SELECT without its first word: two texts, whose books break it and the figures that disagree,
    and FROM where. It may read the names that the verifier gives to what a run looks at (`seen_entry`, `seen_hold`,
    ...) and those of its package's sources."""

    name: str
    violations: str


class EntryKey(NamedTuple):
    """Idempotency keys of entries, `<prefix>:<part>:<part>`, spelled alike in Python and in SQL."""

    prefix: str

    def of(self, *parts: object) -> str:
        return ":".join((self.prefix, *map(str, parts)))

    def sql(self, *columns: str) -> str:
        """The same of columns, in a statement with parameters."""
        return f"format('{self.prefix}{':%%s' * len(columns)}', {', '.join(columns)})"


def union(invariants: Iterable[Invariant]) -> str:
    """Every violation of them: invariant, subject, detail."""
    quoted = [(invariant.name.replace("'", "''"), invariant.violations) for invariant in invariants]
    return "\nUNION ALL\n".join(f"SELECT '{name}', {violations}" for name, violations in quoted)
