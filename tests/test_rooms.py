"""The house's rule for imports, read from the code: one way, through the doors, at the top of the file."""

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
# Each room may import those after it, and none before.
ROOMS = ("quantized", "completions", "billing", "accounts")
# What a room shows to the others; the rest of it is its own business.
DOORS = {
    "accounts": {"accounts.services", "accounts.principals", "accounts.models", "accounts.management.output"},
    "billing": {"billing.ledger", "billing.services", "billing.money", "billing.models"},
    "completions": {"completions.gateway"},
}


def sources(room: str) -> list[Path]:
    return sorted(path for path in (CHECKOUT / room).rglob("*.py") if "migrations" not in path.parts)


def imports(tree: ast.AST) -> list[str]:
    """Full names of the modules: `from billing import money` means billing.money."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_never_imports_one_that_stands_on_it(room: str) -> None:
    above = ROOMS[: ROOMS.index(room)]
    wrong = [
        f"{path.relative_to(CHECKOUT)} imports {name}"
        for path in sources(room)
        for name in imports(ast.parse(path.read_text()))
        if name.split(".")[0] in (*above, "tests")
    ]
    assert wrong == []
