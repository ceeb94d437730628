"""Tests share by way of their kit: no test is a library of another, the kit knows no test, and the cast is one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import TESTS

KIT = TESTS / "kit"
CAST = {"alice", "bob", "charlie", "cast"}
MODULES = sorted(path for path in TESTS.rglob("*.py") if "node_modules" not in path.parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Full names: `from tests import kit` means tests.kit; relative ones keep their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def is_of_a_test(name: str) -> bool:
    """Wherever its file lies: tests.test_x, tests.books.test_x, .test_x."""
    first, *inside = name.split(".")
    return first in ("tests", "") and any(part.startswith("test_") for part in inside)


def is_fixture(function: ast.FunctionDef) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_no_test_is_imported() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line} imports {name}"
        for path in MODULES
        for line, name in imported(path)
        if is_of_a_test(name)
    ]
    assert found == []


def test_the_kit_stands_on_nothing_else_of_the_tests() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line} imports {name}"
        for path in KIT.rglob("*.py")
        for line, name in imported(path)
        if name.startswith(".") or (name.startswith("tests.") and not name.startswith("tests.kit."))
    ]
    assert found == []


def test_alice_bob_and_charlie_are_the_kits_everywhere() -> None:
    """A module may give them a past (its fixture takes the kit's), and nobody else their names."""
    found = [
        f"{path.relative_to(TESTS)}:{function.lineno} {function.name}"
        for path in MODULES
        if path.parent != KIT
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and function.name in CAST and is_fixture(function)
        if function.name not in [argument.arg for argument in function.args.args]
    ]
    assert found == []


@pytest.mark.parametrize(
    "name",
    ["tests.test_any.served", "tests.test_any", "tests.live.test_any.served", ".test_any.served"],
)
def test_a_test_is_known_by_its_name(name: str) -> None:
    assert is_of_a_test(name)


@pytest.mark.parametrize("name", ["tests.kit.books.do", "unittest.mock.test_x", "django.test.Client", "accounts.keys"])
def test_nothing_else_is_taken_for_one(name: str) -> None:
    assert not is_of_a_test(name)
