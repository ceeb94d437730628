"""Plays a reply's steps on the wire and says how it ended."""

import asyncio
import time
from collections.abc import Callable

from sandbox.calls import Call, State
from sandbox.steps import Data, Die, Dribble, End, Hang, Head, Reset, Step, Steps, Wait, Whole
from sandbox.wire import ClientLeft, Wire

YIELD_EVERY_STEPS = 64  # of a stream without delays, so that it cannot starve the other connections

Over = Callable[[State], None]


class Player:
    """`over` is called once, with the last byte still unsent: who has read the response finds the books closed."""

    def __init__(self, wire: Wire, call: Call, over: Over, *, drains: bool) -> None:
        self._wire = wire
        self._call = call
        self._over = over
        self._drains = drains  # the client's leaving changes nothing: all is produced and billed

    async def play(self, steps: Steps) -> None:
        try:
            for position, step in enumerate(steps, 1):
                if position % YIELD_EVERY_STEPS == 0:
                    await self._pause(0)
                await self._take(step)
                if isinstance(step, Die | Reset | Hang):
                    return
        except ClientLeft:
            self._over("cancelled")

    async def _take(self, step: Step) -> None:
        match step:
            case Wait(ms):
                await self._pause(ms)
            case Data(body, tokens):
                self._call.delivered_tokens += tokens
                await self._wire.data(body)
            case Head(status, headers):
                self._start(status)
                await self._wire.head(status, headers)
            case End(body):
                self._over("finished")
                await self._wire.end(body)
            case Whole():
                await self._whole(step)
            case Dribble(body, ms):
                self._start(200)
                await self._wire.dribble(body, ms)
            case Die(complete):
                self._over("finished" if complete else "failed")
                await self._wire.close()
            case Reset():
                self._over("failed")
                await self._wire.reset()
            case Hang():
                await self._wire.until_left()
                raise ClientLeft

    async def _whole(self, step: Whole) -> None:
        self._start(step.status)
        self._call.delivered_tokens += step.tokens
        if step.sent_bytes is None:
            self._over("finished" if step.status < 400 else "refused")
        await self._wire.whole(step)

    def _start(self, status: int) -> None:
        if self._call.started_at is None:
            self._call.started_at = time.time()
            self._call.status = status
            self._call.state = "started"

    async def _pause(self, ms: float) -> None:
        """A client that leaves ends a stream; a reply that drains takes its time all the same."""
        until = time.monotonic() + ms / 1000
        await self._wire.pause(ms)
        if self._wire.left_at is None:
            return
        if not self._drains:
            raise ClientLeft
        await asyncio.sleep(until - time.monotonic())
