"""Stacked bars, one for each day, as numbers for templates/components/chart.html. Pure.

The picture is SVG made here: it needs no script, prints, follows dark mode, and stands under the strict
Content-Security-Policy. Its axis begins at zero; the table under it says the same in figures.
"""

from collections.abc import Mapping, Sequence

import msgspec

WIDTH, HEIGHT = 1000, 200  # of the drawing, which is stretched to its place
GAP = 0.28  # of a day's room
SERIES_MAX = 6
OTHERS = "other"
STEPS = (10, 15, 20, 25, 30, 40, 50, 60, 80, 100)  # tenths


class Bar(msgspec.Struct, frozen=True):
    """One part of a day's stack."""

    series: int  # its colour
    x: float
    y: float
    width: float
    height: float


class Day(msgspec.Struct, frozen=True):
    label: str
    total: int
    cells: Sequence[tuple[str, int]]  # the shown series, in the legend's order
    bars: Sequence[Bar]
    x: float  # of its whole room
    width: float

    @property
    def parts(self) -> list[tuple[str, int]]:
        """What there was."""
        return [(name, amount) for name, amount in self.cells if amount]


class Series(msgspec.Struct, frozen=True):
    """A line of the legend."""

    number: int
    name: str
    total: int
    is_shown: bool


class Chart(msgspec.Struct, frozen=True):
    days: Sequence[Day]
    series: Sequence[Series]
    top: int  # of the axis
    total: int

    @property
    def newest(self) -> list[Day]:
        """The newest day first, as in every table."""
        return list(reversed(self.days))

    @property
    def half(self) -> int:
        return self.top // 2

    @property
    def is_empty(self) -> bool:
        return not any(day.total for day in self.days)

    @property
    def middle(self) -> str:
        return self.days[len(self.days) // 2].label if self.days else ""


def stacked(labels: Sequence[str], amounts: Mapping[tuple[int, str], int], only: str = "") -> Chart:
    """Amounts by day (its number) and name. The dearest names have a colour each, the others one together.

    `only`: the one name that is drawn; the legend keeps all of them.
    """
    named = gathered(amounts)
    totals: dict[str, int] = {}
    for (_, name), amount in named.items():
        totals[name] = totals.get(name, 0) + amount
    names = sorted(totals, key=lambda name: (name == OTHERS, -totals[name], name))
    only = only if only in names else ""
    shown = [name for name in names if only in ("", name)]
    columns = [[(name, named.get((day, name), 0)) for name in shown] for day in range(len(labels))]
    top = axis_top(max((height_of(column) for column in columns), default=0))
    numbers = {name: SERIES_MAX if name == OTHERS else number for number, name in enumerate(names)}
    series = [Series(numbers[name], name, totals[name], name in shown) for name in names]
    days = [day_of(number, label, columns[number], numbers, top, len(labels)) for number, label in enumerate(labels)]
    return Chart(days, series, top, sum(day.total for day in days))


def gathered(amounts: Mapping[tuple[int, str], int]) -> dict[tuple[int, str], int]:
    totals: dict[str, int] = {}
    for (_, name), amount in amounts.items():
        totals[name] = totals.get(name, 0) + amount
    own = set(sorted(totals, key=lambda name: (-totals[name], name))[:SERIES_MAX])
    found: dict[tuple[int, str], int] = {}
    for (day, name), amount in amounts.items():
        at = (day, name if name in own else OTHERS)
        found[at] = found.get(at, 0) + amount
    return found


def day_of(
    number: int, label: str, column: Sequence[tuple[str, int]], numbers: Mapping[str, int], top: int, days: int
) -> Day:
    room = WIDTH / days
    width = room * (1 - GAP)
    bars, y = [], float(HEIGHT)
    for name, amount in column:
        height = HEIGHT * max(amount, 0) / top
        if height:
            y -= height
            bars.append(
                Bar(numbers[name], _short(number * room + room * GAP / 2), _short(y), _short(width), _short(height))
            )
    return Day(label, sum(amount for _, amount in column), column, bars, _short(number * room), _short(room))


def height_of(column: Sequence[tuple[str, int]]) -> int:
    """What is drawn: a day that gave back more than it took has no height."""
    return sum(max(amount, 0) for _, amount in column)


def axis_top(most: int) -> int:
    """The next round figure, such as 25 or 400."""
    size = 1
    while size * 10 < most:
        size *= 10
    return next((step * size // 10 for step in STEPS if step * size >= 10 * most), size) if most > 0 else 1


def _short(number: float) -> float:
    return round(number, 2)
