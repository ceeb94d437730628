"""A call leaves nothing behind that only the garbage collector finds: what nobody refers to any more is free at once.

Objects that refer to each other in a circle would make it run, and look at everything young, while nobody is served.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.server import ServerState

from benchmarks.contenders import BODY, STREAM_BODY
from quantized.protocol import Protocol
from tests.kit.transport import Client
from tests.kit.world import SETTLING_TURNS, World, in_world, openrouter_stream

CALLS = 10


def connected(world: World) -> tuple[Protocol, Client]:
    config = uvicorn.Config(world.application, access_log=False, log_config=None)
    config.load()
    client = Client()
    protocol = Protocol(config=config, server_state=ServerState(), app_state={"runtime": world.runtime})
    protocol.connection_made(client)
    return protocol, client


async def ask(world: World, protocol: Protocol, body: bytes) -> None:
    lines = f"host: a\r\nauthorization: Bearer {world.key}\r\ncontent-length: {len(body)}"
    protocol.data_received(b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n\r\n%b" % (lines.encode(), body))
    await asyncio.wait(protocol.tasks)
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)


@contextmanager
def uncollected(found: Counter[str]) -> Iterator[None]:
    """What became garbage meanwhile, by its type."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found.update(type(thing).__qualname__ for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def garbage_of(body: bytes, *, streams: bool) -> Counter[str]:
    async def work(world: World) -> Counter[str]:
        if streams:
            world.upstream.streams(openrouter_stream(3))
        protocol, client = connected(world)
        found: Counter[str] = Counter()
        await ask(world, protocol, body)
        with uncollected(found):
            for _ in range(CALLS):
                await ask(world, protocol, body)
            world.forget()
        assert sum(written.startswith(b"HTTP/1.1 200 OK") for written in client.writes) == CALLS + 1
        protocol.connection_lost(None)
        return found

    return in_world(work)


def test_a_whole_answer_leaves_nothing_to_the_collector() -> None:
    assert garbage_of(BODY, streams=False) == {}


def test_a_stream_leaves_nothing_to_the_collector() -> None:
    assert garbage_of(STREAM_BODY, streams=True) == {}


def test_it_would_be_found() -> None:
    found: Counter[str] = Counter()
    with uncollected(found):
        ring: list[object] = []
        ring.append(ring)
        del ring
    assert found == {"list": 1}
