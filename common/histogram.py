"""A histogram as plain numbers: what a process counts beside its work, at the price of a bisection."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """`counts[i]` observations were at most `bounds[i]` and above `bounds[i - 1]`; the last count has no upper bound.
    `total` is the sum of all that was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
