"""The house's rules for imports, read from the code: one way, through the doors, at the top of the file.

The order of the rooms and their doors are in tests/kit/rooms.py, their drawing is in docs/architecture.md. Every listed
door is used by somebody, so that the list cannot grow beyond what is needed.
"""

import ast
import graphlib
import re
from collections.abc import Iterator

import pytest

from tests.kit import CHECKOUT, drawing
from tests.kit.rooms import (
    DOORS,
    FLOORS,
    MODULES,
    SOURCES,
    arrows,
    door_of,
    entries,
    imported,
    room_of,
)

# A server of its own, which could as well be somebody else's: nothing but a command of ours may start it.
ALONE = ("sandbox",)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# What imports a module, or finds a table's class, by a name that no reader of imports sees.
IMPORTERS = {"import_module", "__import__", "import_string", "get_model"}
TABLES = {"accounts", "billing", "completions"}  # apps with tables, whose names begin with the app's
APPS = ("common", "accounts", "billing", "completions", "quantized")


def is_above(room: str, other: str) -> bool:
    return room != other and FLOORS.index(room) >= FLOORS.index(other)


def test_every_import_leads_down() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module, line, name in arrows()
        if name not in MODULES or is_above(room_of(name), room_of(module))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for type checkers only either."""
    graph = {
        module: {name for _, name in imported(tree) if name in MODULES} - {module} for module, tree in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def test_rooms_are_entered_by_their_doors() -> None:
    wrong = [
        f"{arrow.module}:{arrow.line} imports {arrow.imported}, which is no door of {room_of(arrow.imported)}"
        for arrow in entries()
        if arrow.imported in MODULES and door_of(arrow) not in DOORS[room_of(arrow.imported)]
    ]
    assert wrong == []


def test_every_door_is_used_from_outside() -> None:
    used = {(room_of(arrow.imported), door_of(arrow)) for arrow in entries() if arrow.imported in MODULES}
    assert {(room, door) for room, doors in DOORS.items() for door in doors} - used == set()


def test_another_apps_tables_are_taken_from_its_face() -> None:
    wrong = [
        f"{module}:{line} imports {name}; take it from {name.split('.')[0]}.models"
        for module, line, name in arrows()
        if name.split(".")[0] != module.split(".")[0] and name.endswith(".models") and name.count(".") > 1
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ALONE)
def test_a_server_of_its_own_needs_nothing_of_ours(room: str) -> None:
    found = {room_of(name) for module, _, name in arrows() if room_of(module) == room} - {room}
    assert found == set()


@pytest.mark.parametrize("root", SOURCES)
def test_nothing_is_imported_inside_a_function(root: str) -> None:
    found = [
        f"{module}:{line} imports {name}"
        for module, tree in MODULES.items()
        if module.split(".")[0] == root
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for line, name in imported(function)
    ]
    assert found == []


# --- Arrows that no import shows ------------------------------------------------------------------


def test_nothing_is_imported_by_a_computed_name() -> None:
    found = [
        f"{module}:{node.lineno} calls {name}"
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))) in IMPORTERS
    ]
    assert found == []


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings that the code uses; what stands alone is for readers."""
    for_readers = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in for_readers:
            yield node.lineno, node.value


def test_no_string_leads_up() -> None:
    """Neither a module by its name, nor a model by its app's, nor a table in a statement."""
    wrong = []
    for module, tree in MODULES.items():
        floor = APPS.index(module.split(".")[0]) if module.split(".")[0] in APPS else len(APPS)
        for line, text in texts(tree):
            for app, dot, rest in re.findall(rf"\b({'|'.join(APPS)})([._])([A-Za-z]\w*)", text):
                is_ours = app in TABLES if dot == "_" else f"{app}.{rest}" in MODULES or rest[0].isupper()
                if is_ours and APPS.index(app) > floor:
                    wrong.append(f"{module}:{line} names {app}{dot}{rest}")
    assert wrong == []


# --- The drawing ----------------------------------------------------------------------------------


def test_the_page_shows_the_rooms_as_they_are() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page == drawing.drawn_anew(page), "docs/architecture.md is older than the code: run `make drawing`"
