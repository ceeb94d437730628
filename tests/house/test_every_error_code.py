"""Every code of the error tree is produced over a socket by some test, and asserted by name."""

import ast

import pytest

from completions import errors
from tests.kit import TESTS

# What a test over a socket stands on: our server as a process.
SOCKET_MODULES = {"tests.kit.live", "tests.kit.calls"}


def leaves(kind: type[errors.GatewayError]) -> list[type[errors.GatewayError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return below or [kind]


def socket_tests() -> list[ast.Module]:
    modules = [ast.parse(path.read_text()) for path in TESTS.rglob("test_*.py")]
    return [module for module in modules if imported(module) & SOCKET_MODULES]


def imported(module: ast.Module) -> set[str | None]:
    return {node.module for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}


ASSERTED = {
    node.value
    for module in socket_tests()
    for node in ast.walk(module)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}


@pytest.mark.parametrize("leaf", leaves(errors.GatewayError), ids=lambda leaf: leaf.__name__)
def test_a_code_is_produced_over_a_socket(leaf: type[errors.GatewayError]):
    assert leaf.code in ASSERTED
