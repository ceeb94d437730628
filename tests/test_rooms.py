"""The house's rules for imports, read from the code: one way, through the doors, at the top of the file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
# Each room stands on those after it, and may import them; never the other way round.
ROOMS = ("quantized", "completions", "billing", "accounts")
# What a room shows to those that stand on it; everything else is its own business.
DOORS = {
    "completions": {
        "api_auth",
        "api_models",
        "api_usage",
        "catalog",
        "errors",
        "gateway",
        "metrics",
        "models",
        "price_changes",
        "probe",
        "servers",
        "upstream",
        "views",
    },
    "billing": {
        "alerts",
        "browse",
        "charges",
        "drift",
        "heartbeats",
        "ledger",
        "lookups",
        "losses",
        "lots",
        "models",
        "money",
        "monthly",
        "notice_models",
        "notices",
        "operations",
        "outbound",
        "overview",
        "partitions",
        "payments",
        "rates",
        "reports",
        "services",
        "statement_files",
        "sweeper",
        "tally",
        "usage_overview",
        "usage_report",
        "vouchers",
        "webhooks",
    },
    "accounts": {
        "adapters",
        "addresses",
        "audit",
        "current",
        "keys",
        "management",
        "models",
        "principals",
        "sealing",
        "services",
        "sessions",
        "sign_ups",
        "signing_keys",
        "team",
        "throttle",
    },
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def sources(room: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((CHECKOUT / room).rglob("*.py")):
        if "migrations" not in path.parts:
            yield str(path.relative_to(CHECKOUT)), ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Full names: `from billing import money` means billing.money."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_one_that_stands_on_it(room: str) -> None:
    forbidden = {*ROOMS[: ROOMS.index(room)], "tests", ""}  # "" is a relative import
    found = [
        f"{path}:{line} imports {name}"
        for path, tree in sources(room)
        for line, name in imported(tree)
        if name.split(".")[0] in forbidden
    ]
    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_other_rooms_are_entered_by_their_doors(room: str) -> None:
    found = [
        f"{path}:{line} imports {name}"
        for path, tree in sources(room)
        for line, name in imported(tree)
        for other, *inside in [name.split(".")]
        if other != room and other in DOORS and inside[:1] and inside[0] not in DOORS[other]
    ]
    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_imported_inside_a_function(room: str) -> None:
    found = [
        f"{path}:{line} imports {name}"
        for path, tree in sources(room)
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for line, name in imported(function)
    ]
    assert found == []
