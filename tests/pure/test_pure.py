"""What decides about money and callers is pure: it is imported, and tested, without Django and without a database."""

import os
import subprocess
import sys

from tests.kit import CHECKOUT

# Whatever decides, reads or writes words: no settings, no database, no framework.
PURE = (
    "accounts.callers",
    "billing.ledger.commands",
    "billing.ledger.kernel",
    "billing.ledger.batch",
    "billing.pricing.classes",
    "billing.pricing.money",
    "common.numbers",
    "common.invariants",
    "completions.ask",
    "completions.calls.bounds",
    "completions.calls.buffer",
    "completions.calls.circuits",
    "completions.chat.ask",
    "completions.chat.needs",
    "completions.decoding",
    "completions.dialects",
    "completions.errors",
    "completions.providers.fields",
    "completions.providers.kinds",
    "completions.routes",
    "completions.upstream.client",
    "sandbox.app",
)


def loaded_by(modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter, without settings, has loaded after importing these."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    program = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


def test_decisions_need_neither_django_nor_a_database() -> None:
    loaded = loaded_by(", ".join(PURE))
    assert {"accounts", "billing", "completions", "msgspec"} <= loaded
    assert loaded & {"django", "rest_framework", "psycopg", "redis", "celery"} == set()


def test_the_writer_of_a_server_process_needs_no_django() -> None:
    assert "django" not in loaded_by("billing.ledger.writer")
