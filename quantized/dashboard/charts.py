"""Stacked bars, one for each day, and a line with its projection, as numbers for templates/components. Pure.

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


# --- A line -----------------------------------------------------------------------------------------


class Point(msgspec.Struct, frozen=True):
    label: str
    value: int | None  # None: there was nothing to measure yet
    is_projected: bool
    x: float  # of its whole room
    width: float


class Line(msgspec.Struct, frozen=True):
    """`path` has a piece for every stretch of known values; gaps stay gaps. The projection begins at the last one."""

    points: Sequence[Point]
    path: str
    projection: str
    top: int
    bottom: int  # 0, or less where there was a debt
    zero_y: float

    @property
    def measured(self) -> list[Point]:
        """The newest first."""
        return [point for point in reversed(self.points) if not point.is_projected and point.value is not None]

    @property
    def middle(self) -> int:
        return (self.top + self.bottom) // 2

    @property
    def is_empty(self) -> bool:
        return not self.measured


def line(known: Sequence[tuple[str, int | None]], ahead: Sequence[tuple[str, int]] = ()) -> Line:
    """Values by day, and what is expected of the days ahead."""
    values = [value for _, value in (*known, *ahead) if value is not None]
    top, bottom = axis_top(max((0, *values))), -axis_top(-min(values)) if min((0, *values)) < 0 else 0
    room = WIDTH / max(len(known) + len(ahead), 1)
    rows = [*((label, value, False) for label, value in known), *((label, value, True) for label, value in ahead)]
    points = [
        Point(label, value, is_projected, _short(number * room), _short(room))
        for number, (label, value, is_projected) in enumerate(rows)
    ]

    def place(point: Point) -> str:
        value = point.value or 0
        return f"{_short(point.x + point.width / 2)} {_short(HEIGHT * (top - value) / (top - bottom))}"

    measured = [point for point in points if not point.is_projected]
    last = measured[-1:] if measured and measured[-1].value is not None else []
    expected = [*last, *points[len(measured) :]] if ahead and last else []
    path = "".join("M" + "L".join(map(place, stretch)) for stretch in stretches(measured))
    projection = "M" + "L".join(map(place, expected)) if expected else ""
    return Line(points, path, projection, top, bottom, _short(HEIGHT * top / (top - bottom)))


def stretches(points: Sequence[Point]) -> list[list[Point]]:
    """What is known without a gap between. One day alone is drawn too: a line to itself is a dot."""
    found: list[list[Point]] = []
    for number, point in enumerate(points):
        if point.value is None:
            continue
        if number and points[number - 1].value is not None:
            found[-1].append(point)
        else:
            found.append([point])
    return [[*stretch, stretch[0]] if len(stretch) == 1 else stretch for stretch in found]
