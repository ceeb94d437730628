"""What was measured, for people and for machines: a dated table, a chart and the raw figures in benchmarks/results/."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from quantized.devstack.places import CHECKOUT

RESULTS = CHECKOUT / "benchmarks" / "results"
BUSY_LOAD = 0.5  # more runnable processes than that before we begin: the figures are not to be trusted


class Goal(NamedTuple):
    """A figure to reach, and what came out. `at_most`: smaller is better."""

    what: str
    goal: float
    measured: float
    unit: str = ""
    at_most: bool = True

    @property
    def is_reached(self) -> bool:
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal

    def row(self) -> list[str]:
        unit = f" {self.unit}".rstrip()
        relation = "at most" if self.at_most else "at least"
        verdict = "reached" if self.is_reached else f"missed by {abs(self.measured - self.goal):,.3g}{unit}"
        return [self.what, f"{relation} {self.goal:,.3g}{unit}", f"{figure(self.measured)}{unit}", verdict]


class Bar(NamedTuple):
    label: str
    value: float
    is_ours: bool


class Report:
    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.started_at = datetime.now(UTC)
        self._load = os.getloadavg()[0]
        self._parts = [f"# {title}\n", f"{self.started_at:%Y-%m-%d %H:%M} UTC. {machine()}\n"]
        if self._load > BUSY_LOAD:
            self.say(f"**The machine was busy (load {self._load:.1f} at the start): do not quote these figures.**")
        self._raw: dict[str, Any] = {"started_at": self.started_at, "machine": machine(), "load": self._load}

    def say(self, text: str) -> None:
        self._parts.append(f"{text}\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        self._parts.append("\n".join(lines) + "\n")

    def goals(self, goals: Sequence[Goal]) -> None:
        self.table(["goal", "wanted", "measured", ""], [goal.row() for goal in goals if goal.measured == goal.measured])
        self._raw["goals"] = [[*goal, goal.is_reached] for goal in goals]

    def raw(self, name: str, figures: object) -> None:
        self._raw[name] = figures

    def chart(self, title: str, bars: Sequence[Bar]) -> None:
        path = self._path("svg")
        path.write_text(bar_chart(title, bars))
        self._parts.append(f"![{title}]({path.name})\n")

    def finish(self) -> None:
        """Write the files, and print the table."""
        text = "\n".join(self._parts)
        self._path("md").write_text(text)
        self._path("json").write_bytes(msgspec.json.format(msgspec.json.encode(self._raw)))
        say(f"\n{text}\n{self._path('md').relative_to(CHECKOUT)}")

    def _path(self, suffix: str) -> Path:
        RESULTS.mkdir(exist_ok=True)
        return RESULTS / f"{self.started_at:%Y-%m-%d}-{self.name}.{suffix}"


def say(line: str) -> None:
    print(line, flush=True)


def figure(value: float) -> str:
    """Three digits that mean something; a dash for what was not measured."""
    if value != value:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds that have it."""
    names = {name: None for found in rounds for name in found}
    return {name: median(found[name] for found in rounds if name in found) for name in names}


def number(name: str, default: int) -> int:
    """An option, given as in `make bench ROUNDS=3`."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"{name} must be a whole number, 1 or above, not {text!r}")
    return int(text)


# --- the machine --------------------------------------------------------------------------------


def machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}. Loopback; nothing is pinned to a core."
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


# --- the chart ----------------------------------------------------------------------------------

LABEL_WIDTH, BAR_WIDTH, ROW_HEIGHT = 220, 420, 30


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    widest = max((bar.value for bar in bars), default=1.0)
    height = ROW_HEIGHT * (len(bars) + 1) + 10
    rows = [
        bar_row(bar, ROW_HEIGHT * (place + 1), BAR_WIDTH * bar.value / widest if widest else 0.0)
        for place, bar in enumerate(bars)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" font-family="sans-serif"'
            f' font-size="13" role="img" aria-label="{escape(title)}">',
            f'<rect width="760" height="{height}" fill="#fff"/>',
            f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def bar_row(bar: Bar, y: int, width: float) -> str:
    colour = "#2f6fdb" if bar.is_ours else "#b8bfca"
    return (
        f'<text x="{LABEL_WIDTH - 10}" y="{y + 19}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect x="{LABEL_WIDTH}" y="{y + 4}" width="{width:.1f}" height="22" fill="{colour}"/>'
        f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{y + 19}">{figure(bar.value)}</text>'
    )
