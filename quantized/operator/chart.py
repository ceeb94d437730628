"""Two bars for each day, revenue and cost, as numbers for the first page's drawing. Pure; the axis begins at zero."""

from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT = 1000.0, 160.0
GAP = 0.25  # of a day's room
STEPS = (1, 2, 2.5, 5, 10)


class Bar(msgspec.Struct, frozen=True):
    series: int
    x: float
    y: float
    width: float
    height: float


class Day(msgspec.Struct, frozen=True):
    label: str
    revenue_micro: int
    cost_micro: int
    x: float
    width: float
    bars: Sequence[Bar]


class Chart(msgspec.Struct, frozen=True):
    days: Sequence[Day]
    top_micro: int

    @property
    def is_empty(self) -> bool:
        return not any(day.revenue_micro or day.cost_micro for day in self.days)


def drawn(days: Sequence[tuple[str, int, int]]) -> Chart:
    """Of a label, revenue and cost for each day. A negative figure, of a day of corrections, has no bar."""
    top = ceiling(max((max(revenue, cost) for _, revenue, cost in days), default=0))
    room = WIDTH / max(1, len(days))
    placed = ((room * place, day) for place, day in enumerate(days))
    return Chart([day_of(x, room, top, *day) for x, day in placed], top)


def day_of(x: float, room: float, top: int, label: str, revenue: int, cost: int) -> Day:
    width = room * (1 - GAP) / 2
    first = x + room * GAP / 2
    bars = [bar(0, first, width, revenue / top), bar(1, first + width, width, cost / top)]
    return Day(label, revenue, cost, round(x, 2), round(room, 2), bars)


def bar(series: int, x: float, width: float, share: float) -> Bar:
    height = HEIGHT * max(0.0, share)
    return Bar(series, round(x, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2))


def ceiling(largest: int) -> int:
    """A round figure that the largest bar fits under; at least one."""
    size = 10 ** max(0, len(str(max(1, largest))) - 1)
    return next(int(step * size) for step in STEPS if step * size >= max(1, largest) or step == STEPS[-1])
