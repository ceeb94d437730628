"""What decides about money and callers is pure: it is imported, and tested, without Django and without a database."""

import ast
import os
import re
import subprocess
import sys

from tests.kit import CHECKOUT, TESTS
from tests.kit.rooms import MODULES, room_of

# Whatever decides, reads or writes words: no settings, no database, no framework. A room is all of its modules.
PURE_ROOMS = {
    "completions.errors",
    "completions.decoding",
    "completions.upstream",
    "completions.routes",
    "completions.ask",
    "completions.chat",
    "completions.providers",
    "completions.dialects",
    "sandbox",
}
PURE = {module for module in MODULES if room_of(module) in PURE_ROOMS} | {
    "accounts.callers",
    "accounts.keys",
    "accounts.tokens",
    "billing.ledger.batch",
    "billing.ledger.commands",
    "billing.ledger.kernel",
    "billing.ledger.queue",
    "billing.ledger.spool",
    "billing.notices.letter",
    "billing.pricing.classes",
    "billing.pricing.money",
    "common.addresses",
    "common.csv_cells",
    "common.histogram",
    "common.ids",
    "common.invariants",
    "common.numbers",
    "common.uuid7",
    "completions.calls.bounds",
    "completions.calls.buffer",
    "completions.calls.circuits",
    "completions.calls.failures",
    "completions.catalog.capabilities",
    "completions.catalog.file",
    "quantized.dashboard.charts",
    "quantized.operator.chart",
}
IMPURE = {"django", "rest_framework", "psycopg", "redis", "celery"}


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter, without settings, has loaded after importing these."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    program = f"import sys, {', '.join(sorted(modules))}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def test_decisions_need_neither_django_nor_a_database() -> None:
    loaded = loaded_by(*PURE)
    assert {"accounts", "billing", "completions", "msgspec"} <= loaded
    assert loaded & IMPURE == set()


def test_the_writer_of_a_server_process_needs_no_django() -> None:
    assert "django" not in loaded_by("billing.ledger.writer")


def test_what_says_that_it_is_pure_is() -> None:
    """Pure, as a word of its own with a capital, in the docstring."""
    claiming = {module for module, tree in MODULES.items() if re.search(r"\bPure\b", ast.get_docstring(tree) or "")}
    assert len(claiming) > 30
    assert claiming - PURE == set()


def test_the_tests_of_this_folder_need_no_django() -> None:
    """So that they run alone without settings (tests/conftest.py)."""
    names = [f"tests.pure.{path.stem}" for path in (TESTS / "pure").glob("test_*.py")]
    assert "django" not in loaded_by("pytest", *names)
