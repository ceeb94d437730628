"""Rows that are tried again and again until something is known, each by one worker at a time.

Who claims a row counts the attempt and moves its due time behind the claim, in one statement; afterwards only a
statement that still finds that count may write. So a claim that ran out, or a row that was ended by somebody else,
changes nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import Model, QuerySet


def pause_s(pauses_s: Sequence[float], attempts: int) -> float | None:
    """How long to wait after the so many-th attempt, from 1; None: there is no further one."""
    return pauses_s[attempts - 1] if attempts <= len(pauses_s) else None


class Attempts(NamedTuple):
    """The two columns that a kind of row has for it, and the pauses after its first, second ... attempt."""

    due_field: str
    count_field: str
    pauses_s: Sequence[float]

    def pause_s(self, row: Model) -> float | None:
        return pause_s(self.pauses_s, getattr(row, self.count_field))

    def claimed(self, rows: QuerySet[Any], row: Model) -> QuerySet[Any]:
        """The row of `rows`, as long as it is as it was claimed."""
        return rows.filter(pk=row.pk, **{self.count_field: getattr(row, self.count_field)})

    def give_back(self, rows: QuerySet[Any], row: Model, due: Any) -> None:
        """As if the row had not been claimed, but due at another time."""
        self.claimed(rows, row).update(**{self.due_field: due, self.count_field: getattr(row, self.count_field) - 1})
