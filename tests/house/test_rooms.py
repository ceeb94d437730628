"""The house's rules for imports, read from the code: one way, through the doors, at the top of the file.

A room is an app, or a package inside `billing` and `completions`. FLOORS is their order: a room imports rooms that are
listed before it, and no other, also for type checkers only. DOORS are the modules that a room shows to others; each is
used by somebody, so that the list cannot grow beyond what is needed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import CHECKOUT

FLOORS = (
    "common",
    "accounts",
    "billing.pricing",
    "billing.ledger",
    "billing.usage",
    "billing.credits",
    "billing.notices",
    "billing.payments",
    "billing.reconciliation",
    "billing.statements",
    "billing.delivery",
    "billing.oversight",
    "billing",  # the app's own face: models, tasks, commands
    "completions.errors",
    "completions.decoding",
    "completions.upstream",
    "completions.routes",
    "completions.ask",
    "completions.chat",
    "completions.providers",
    "completions.dialects",
    "completions.calls",
    "completions.catalog",
    "completions.reconciliation",
    "completions.api",
    "completions",  # the app's own face
    "sandbox",
    "quantized",
)
# A server of its own, which could as well be somebody else's: nothing but a command of ours may start it.
ALONE = {"sandbox": {"billing.pricing"}}
SOURCES = ("common", "accounts", "billing", "completions", "sandbox", "quantized")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for root in SOURCES:
        for path in sorted((CHECKOUT / root).rglob("*.py")):
            if "migrations" not in path.parts:
                yield module_of(path), ast.parse(path.read_text())


MODULES = dict(sources())


def room_of(module: str) -> str:
    """The longest listed name that it begins with."""
    parts = module.split(".")
    return next(room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in FLOORS)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The modules of ours that are imported: `from billing.pricing import money` means billing.pricing.money."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}"
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in MODULES else base


def arrows() -> Iterator[tuple[str, int, str]]:
    """(module, line, imported module) for every import that leads from one room to another."""
    for module, tree in MODULES.items():
        for line, name in imported(tree):
            if name.startswith(".") or name.split(".")[0] in (*SOURCES, "tests", "benchmarks"):
                yield module, line, name


def test_every_import_leads_down() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module, line, name in arrows()
        if name not in MODULES
        or (room_of(name) != room_of(module) and FLOORS.index(room_of(name)) >= FLOORS.index(room_of(module)))
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ALONE)
def test_a_server_of_its_own_needs_nothing_of_ours(room: str) -> None:
    found = {room_of(name) for module, _, name in arrows() if room_of(module) == room} - {room}
    assert found <= ALONE[room]


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
