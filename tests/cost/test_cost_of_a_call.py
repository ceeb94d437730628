"""What a call costs our process, in numbers that are the same on every machine.

A call goes through the lean lane of the front door, in memory: the provider and the database's wire are played, all
between is ours. Counted are Python's function calls (a coroutine's resumption is one) and bytecode instructions, of
our code, Django and every library. A figure above its bound is work that was added to every call: look where with
`make profile`, take it out, or say why it is worth it and raise the bound. An improvement fails nothing: a figure far
below its bound is told in the log (`pytest -rP`), and whoever made it lowers the bound.
"""

import asyncio
import concurrent.futures
import gc
import logging
import selectors
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import _pytest
import pytest
from django.db import connection

from benchmarks.contenders import BODY, STREAM_BODY
from benchmarks.upstream import ANSWER
from billing.ledger.batch import Batch, Statement
from billing.ledger.commands import AnyCommand, Held, Outcome, Settled
from quantized import asgi
from tests.kit import MODEL, world
from tests.kit.tenants import Tenant
from tests.kit.world import CLAUDE, World, claude_stream, in_world, openrouter_stream

logger = logging.getLogger(__name__)

# About five in a hundred above what it was when it was last looked at.
CALLS_MAX, INSTRUCTIONS_MAX = 382, 8_110
RELAYED_CALLS_MAX, RELAYED_INSTRUCTIONS_MAX = 43, 785
TRANSLATED_CALLS_MAX, TRANSLATED_INSTRUCTIONS_MAX = 48, 828
PAIR_CALLS_MAX, PAIR_INSTRUCTIONS_MAX = 64, 1_530

NAMED = 15  # of the functions that a failure names
DJANGOS_OBJECTS_MIN = 50_000
# The event loop's own work, pytest's handler of what is logged, and what is played.
NOT_OURS = (
    *(str(Path(module.__file__ or "").parent) for module in (asyncio, _pytest)),
    *(selectors.__file__, world.__file__, __file__),
)


# --- counting -----------------------------------------------------------------------------------


class Count:
    """Calls and instructions while `counting()`, of this thread; by function."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.instructions: Counter[str] = Counter()
        self._names: dict[CodeType, str | None] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        name = self._name(frame.f_code)
        if name is None:
            return None
        self.calls[name] += 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._within

    def _within(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            self.instructions[self._names[frame.f_code] or ""] += 1
        return self._within

    def _name(self, code: CodeType) -> str | None:
        if code not in self._names:
            place = Path(code.co_filename)
            is_counted = not code.co_filename.startswith(NOT_OURS)
            self._names[code] = f"{place.parent.name}/{place.name} {code.co_qualname}" if is_counted else None
        return self._names[code]

    def of_one(self, count: int) -> tuple[float, float]:
        return self.calls.total() / count, self.instructions.total() / count


def assert_within(what: str, count: Count, of: int, calls_max: int, instructions_max: int) -> None:
    calls, instructions = count.of_one(of)
    said = (
        f"{what} takes {calls:.0f} calls (bound {calls_max}) and {instructions:.0f} instructions ({instructions_max})"
    )
    most = "\n".join(f"  {found / of:8.1f}  {name}" for name, found in count.instructions.most_common(NAMED))
    message = f"{said}. Most instructions are in\n{most}"
    assert calls <= calls_max, message
    assert instructions <= instructions_max, message
    if calls < 0.8 * calls_max or instructions < 0.8 * instructions_max:
        logger.info("%s: the bounds may come down", said)


class PlayedRuntime:
    async def start(self) -> None: ...
    async def close(self) -> None: ...


# --- a call that is not streamed ----------------------------------------------------------------


async def whole_calls(world: World, count: int) -> None:
    for _ in range(count):
        assert ANSWER.encode() in await world.call(BODY)


def test_a_call_takes_so_many_calls_and_instructions() -> None:
    async def work(world: World) -> Count:
        await whole_calls(world, 3)  # what is made once has been made
        count = Count()
        with count.counting():
            await whole_calls(world, 10)
        return count

    assert_within("A call that is not streamed", in_world(work), 10, CALLS_MAX, INSTRUCTIONS_MAX)


def test_a_call_goes_to_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[Any] = []

    def submit(_executor: Any, function: Any, *_: Any, **__: Any) -> Any:
        hops.append(function)
        raise AssertionError(f"{function} was sent to a thread")

    async def work(world: World) -> None:
        monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", submit)
        await whole_calls(world, 2)
        world.upstream.streams(openrouter_stream(3))
        assert b"[DONE]" in await world.call(STREAM_BODY)

    in_world(work)
    assert hops == []


def test_a_full_collection_passes_over_what_was_there_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "Runtime", PlayedRuntime)
    frozen: list[int] = []

    async def receive() -> dict[str, Any]:
        return {}

    async def send(_message: Any) -> None:
        frozen.append(gc.get_freeze_count())

    try:
        asyncio.run(asgi.lifespan({"type": "lifespan", "state": {}}, receive, send))
    finally:
        gc.unfreeze()
    assert min(frozen) > DJANGOS_OBJECTS_MIN


# --- a chunk of a stream ------------------------------------------------------------------------


SHORT, LONG = 10, 60


@pytest.mark.parametrize(
    ("model", "stream", "calls_max", "instructions_max"),
    [
        (MODEL, openrouter_stream, RELAYED_CALLS_MAX, RELAYED_INSTRUCTIONS_MAX),
        (CLAUDE, claude_stream, TRANSLATED_CALLS_MAX, TRANSLATED_INSTRUCTIONS_MAX),
    ],
    ids=["passed through", "translated"],
)
def test_a_chunk_takes_so_many_calls_and_instructions(
    model: str, stream: Callable[[int], list[bytes]], calls_max: int, instructions_max: int
) -> None:
    body = STREAM_BODY.replace(MODEL.encode(), model.encode())

    async def counted(world: World, chunks: int) -> Count:
        world.upstream.streams(stream(chunks))
        count = Count()
        with count.counting():
            answered = await world.call(body)
        assert answered.count(b'" capital"') == chunks
        assert answered.endswith(b"data: [DONE]\n\n")
        return count

    async def work(world: World) -> Count:
        await counted(world, SHORT)
        short, long = await counted(world, SHORT), await counted(world, LONG)
        long.calls.subtract(short.calls)
        long.instructions.subtract(short.instructions)
        return long

    assert_within("A chunk", in_world(work), LONG - SHORT, calls_max, instructions_max)


# --- a hold and its settlement ------------------------------------------------------------------

PAIRS = 32


def batch(count: Count, commands: Sequence[AnyCommand]) -> list[Outcome]:
    """One batch on Django's connection; counted is what decides and encodes, not what executes."""
    with connection.cursor() as cursor:
        with count.counting():
            decided = Batch(commands)
            reads = decided.reads()
        rows = [executed(cursor, statement) for statement in reads]
        with count.counting():
            outcomes = decided.decide(rows)
            writes = decided.writes()
        for statement in writes:
            cursor.execute(statement.sql, statement.params)
    return outcomes


def executed(cursor: Any, statement: Statement) -> list[Any]:
    cursor.execute(statement.sql, statement.params)
    return cursor.fetchall()


@pytest.mark.django_db
def test_a_pair_takes_so_many_calls_and_instructions() -> None:
    alice = Tenant(1_000_000)
    key = alice.key(limit_micro=10**9, limit_period="day")
    batch(Count(), [alice.reserve(1, key=key)])
    count = Count()
    holds = [alice.reserve(10, key=key) for _ in range(PAIRS)]
    assert batch(count, holds) == [Held(10)] * PAIRS
    settlements = [alice.settle(hold.hold_id, 3, key=key) for hold in holds]
    assert all(isinstance(outcome, Settled) for outcome in batch(count, settlements))
    assert_within("A hold and its settlement", count, PAIRS, PAIR_CALLS_MAX, PAIR_INSTRUCTIONS_MAX)
