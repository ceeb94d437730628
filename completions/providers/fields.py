"""What becomes of a field of a request at a kind of provider: words for the column of docs/providers.md. Pure.

A field is forwarded (the client's own bytes, or the same value), translated (said in the provider's
words), or refused by its name. None is dropped: a value that asks for nothing is accepted everywhere.
Whether one model honours a field is its route's business (capabilities and rules).
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from completions.chat.request import Fields

Outcome = Literal["forwarded", "translated", "refused"]

NAMES = Fields.__struct_fields__  # in the order of the table


class Treatment(Struct, frozen=True):
    outcome: Outcome
    note: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.note}" if self.note else self.outcome


FORWARDED = Treatment("forwarded")
AS_INTEGER = Treatment("forwarded", "as an integer")
CAPABLE = Treatment("forwarded", "where the route has the capability")
REFUSED = Treatment("refused")
ROUTED = Treatment("translated", "the route's name for it")


def translated(note: str) -> Treatment:
    return Treatment("translated", note)


def column(given: Mapping[str, Treatment], *, others: Treatment) -> dict[str, Treatment]:
    """A kind's column: what is given, the others alike, in the order of the table."""
    return {name: given.get(name, others) for name in NAMES}


def refused(treatment: Mapping[str, Treatment]) -> frozenset[str]:
    """The fields that no route of the kind takes, whenever they ask for something."""
    return frozenset(name for name, one in treatment.items() if one.outcome == "refused")
