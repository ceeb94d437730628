"""What the tests share: one cast, servers, books, catalogs, played worlds.

A test imports from here, never from another test, and asks here where the checkout lies: tests move between folders.
"""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
MODEL = "openai/gpt-4.1-mini"  # what is asked where it does not matter which
