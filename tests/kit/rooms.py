"""The rooms of the house: their order, their doors, and what the code imports. Read from the code, without loading it.

A room is an app, or a package or module inside `billing` and `completions`. The list that a page draws
(tests/kit/drawing.py) and the rules that a test holds (tests/house/test_rooms.py) are this one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.kit import CHECKOUT

SOURCES = ("common", "accounts", "billing", "completions", "sandbox", "quantized")

# From the ground up: a room imports rooms that are listed before it, and no other. Behind each name are its doors: the
# modules that others may import, `.` for the room's own module or __init__, `*` for all of them. An app's own face (its
# models, tasks and commands) is of the family and enters any room of its app; nobody enters a room for its tables from
# another app.
_ROOMS = {
    "common": "*",
    "accounts": "adapters audit callers current keys models principals services sessions sign_ups signing_keys tasks"
    " team throttle",
    "billing.pricing": "classes models money",
    "billing.ledger": "balances commands invariants journal kernel models rates spool wire writer",
    "billing.usage": "browse figures invariants models overview partitions receipts report rollups",
    "billing.credits": "accounts lots operations vouchers",
    "billing.notices": "alerts kinds letter models outbox webhook_http webhooks",
    "billing.payments": "account auto_top_up checkout stripe_api webhooks",
    "billing.reconciliation": "abandoned_holds drift extra_charges losses models",
    "billing.statements": "files monthly",
    "billing.delivery": "",
    "billing.oversight": "heartbeats standing",
    "billing": "models tasks",
    "completions.errors": ".",
    "completions.decoding": ".",
    "completions.upstream": "client connection failure request sse",
    "completions.routes": ".",
    "completions.ask": ".",
    "completions.chat": "answer ask needs request tokens",
    "completions.providers": "kinds openrouter.kind record",
    "completions.dialects": ". base openai_chat.answers openai_chat.schema",
    "completions.calls": "circuits gateway headers holds idempotency limits metrics processes sinks",
    "completions.catalog": "capabilities loader models price_changes probe secrets",
    "completions.reconciliation": "",
    "completions.api": "auth base border calls usage",
    "completions": "models tasks",
    "sandbox": "app cards directives server",
    "quantized": "",
}
FLOORS = tuple(_ROOMS)
FACES = ("billing", "completions")  # apps whose packages are rooms


class Arrow(NamedTuple):
    module: str
    line: int
    imported: str


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for root in SOURCES:
        for path in sorted((CHECKOUT / root).rglob("*.py")):
            if "migrations" not in path.parts:
                yield module_of(path), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(sources())


def room_of(module: str) -> str:
    """The longest listed name that it begins with."""
    parts = module.split(".")
    return next(room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in _ROOMS)


def _doors(room: str) -> tuple[str, ...]:
    if _ROOMS[room] != "*":
        return tuple(_ROOMS[room].split())
    return tuple(module.removeprefix(f"{room}.") for module in MODULES if module.startswith(f"{room}."))


DOORS = {room: _doors(room) for room in FLOORS}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The modules that are imported anywhere in it, also for type checkers only, with their lines: `from
    billing.pricing import money` means billing.pricing.money."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{'.' * node.level}{node.module or ''}"
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in MODULES else base


def arrows() -> Iterator[Arrow]:
    """Every import of ours, and of what lies beside the product: tests, benchmarks, relative names."""
    for module, tree in MODULES.items():
        for line, name in imported(tree):
            if name.startswith(".") or name.split(".")[0] in (*SOURCES, "tests", "benchmarks"):
                yield Arrow(module, line, name)


def entries() -> Iterator[Arrow]:
    """The imports that lead into another room, but for those of an app's own face."""
    for arrow in arrows():
        here, there = room_of(arrow.module), room_of(arrow.imported)
        if here != there and not (here in FACES and there.startswith(f"{here}.")):
            yield arrow


def door_of(arrow: Arrow) -> str:
    """The imported module by its name in its room."""
    return arrow.imported.removeprefix(room_of(arrow.imported)).removeprefix(".") or "."


def rooms_below() -> dict[str, set[str]]:
    """Room → the rooms that it imports."""
    below: dict[str, set[str]] = {room: set() for room in FLOORS}
    for arrow in arrows():
        below[room_of(arrow.module)].add(room_of(arrow.imported))
    return {room: found - {room} for room, found in below.items()}
