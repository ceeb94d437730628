"""Draws the rooms as the code has them into docs/architecture.md: `make drawing`, or python -m tests.kit.drawing."""

import ast
from functools import cache

from tests.kit import CHECKOUT
from tests.kit.rooms import DOORS, FLOORS, MODULES, rooms_below

PAGE = CHECKOUT / "docs" / "architecture.md"
START = "<!-- Drawn from the code by `make drawing`; a test compares. -->"
END = "<!-- End of the drawing. -->"


@cache
def reached(room: str) -> frozenset[str]:
    """All rooms below it, by whatever way."""
    below = BELOW[room]
    return below.union(*map(reached, below)) if below else frozenset()


BELOW = {room: frozenset(below) for room, below in rooms_below().items()}


def floors() -> str:
    """A line for each room, from the top down, with an arrow to what it imports but for what those import anyway."""
    lines = []
    for room in reversed(FLOORS):
        nearest = BELOW[room] - {far for near in BELOW[room] for far in reached(near)}
        names = ", ".join(other for other in reversed(FLOORS) if other in nearest)
        lines.append(f"{room:<27}→ {names}" if names else room)
    return "\n".join(lines)


def rooms() -> str:
    """What each room is about, in the first sentence of its own words, and its doors."""
    lines = ["| room | about | doors |", "|---|---|---|"]
    for room in reversed(FLOORS):
        about = (ast.get_docstring(MODULES[room]) or "").partition("\n\n")[0].replace("\n", " ")
        doors = " ".join(f"`{door}`" if door != "." else "itself" for door in DOORS[room])
        lines.append(f"| `{room}` | {about.removesuffix(' Pure.')} | {doors} |")
    return "\n".join(lines)


def drawn_anew(page: str) -> str:
    """The page with the drawing that the code has now. Raises ValueError for a page without a place for it."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page has no place for the drawing, between {START!r} and {END!r}")
    return f"{before}{START}\n\n```\n{floors()}\n```\n\n{rooms()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(drawn_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
