"""The story of a call: open, run, close.

    serve(principal, ask, provider, claim, sink)    the hold, then a task of its own: the provider, the settlement

The task is detached: neither a client who leaves nor a slow one can keep a call from being closed. Whether an answer is
waited for or read along is the sink's business (sinks.py); what is asked and in whose words, the dialect's. Errors are
the leaves of errors.py.
"""

import asyncio
import time
from typing import Any

from accounts.callers import Principal
from billing.ledger.commands import Settled
from billing.ledger.writer import Writer
from common.ids import generation_id
from completions import errors
from completions.ask import Ask
from completions.calls import failures
from completions.calls.attempts import Attempts
from completions.calls.call import Call
from completions.calls.circuits import Circuits
from completions.calls.holds import Holds, Terms
from completions.calls.idempotency import Claim, Database, Idempotency, StoredAnswer
from completions.calls.limits import Limiter
from completions.calls.metrics import CallMetrics
from completions.calls.settlement import Settlement
from completions.calls.sinks import Sink, StreamTimes
from completions.dialects.base import Charge, Dialect, Head
from completions.upstream.client import Upstream

CLOSING_PATIENCE_S = 2.0  # at a stop, for calls that were cancelled


class Gateway:
    """What every call of the process shares: `hold_life_s`, `call_max_s` and `stream_times` are in seconds. Others read
    `circuits`, `terms` and `metrics`."""

    def __init__(
        self,
        writer: Writer,
        upstream: Upstream,
        database: Database,
        limiter: Limiter,
        terms: Terms,
        circuits: Circuits,
        *,
        output_floor_tokens: int,
        hold_life_s: float,
        call_max_s: float,
        stream_times: StreamTimes,
    ) -> None:
        self.terms = terms
        self.stream_times = stream_times
        self.circuits = circuits
        self.metrics = CallMetrics()
        self.idempotency = Idempotency(database, lease_s=hold_life_s)
        self._writer = writer
        self._limiter = limiter
        self._holds = Holds(
            terms, circuits, limiter, writer, output_floor_tokens=output_floor_tokens, hold_life_s=hold_life_s
        )
        self._attempts = Attempts(upstream, circuits, writer, call_max_s=call_max_s)
        self._settlement = Settlement(writer, limiter, self.metrics)
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def serve(
        self, principal: Principal, ask: Ask, provider: str | None, claim: Claim | None, sink: Sink
    ) -> None:
        """Returns when the sink has something to answer with. `provider` is the forced one, if any; `claim`, that of a
        request with an Idempotency-Key, is used up. Raises the leaf of errors.py that refuses the request, or that
        ended it before the answer's first byte."""
        if self._is_closed:
            if claim is not None:
                await claim.drop()
            raise errors.ServerStopping
        call = await self._holds.open(principal, ask, provider, claim)
        task = asyncio.create_task(self._carry(call, sink))
        self._running.add(task)
        task.add_done_callback(self._finished)
        sink.begin(call, task)
        await sink.opened()

    async def _carry(self, call: Call, sink: Sink) -> None:
        """It outlives its caller, and `drain` waits for it."""
        self.metrics.open_streams += call.ask.stream
        try:
            await self._attempts.run(call, sink)
            settled = await self._settlement.close(call)
            try:
                sink.end(settled)
            except Exception as error:  # a fault of a writer of ours: its client must not wait for ever
                call.failure = failures.of_exception(error)
                sink.end(None)
        finally:
            self.metrics.open_streams -= call.ask.stream

    async def replay(self, dialect: Dialect, ask: Ask, stored: StoredAnswer) -> tuple[bytes, str]:
        """An answer given before, and its media type. Settling it again tells what it cost, and books it if a crash
        came in between."""
        settled = await self._writer.submit(stored.settle)
        if not isinstance(settled, Settled):
            raise errors.IdempotencyInProgress("The call of this Idempotency-Key has not been closed.")
        head = Head(generation_id(stored.settle.hold_id), stored.model, stored.created, stored.system_fingerprint)
        charge = Charge(stored.settle.receipt.usage, settled.charged, settled.remaining)
        writer = dialect.writer(ask, head, stored.body)
        return writer.end(charge), writer.media_type

    # --- the end of the process -------------------------------------------------------------

    async def drain(self, patience_s: float) -> None:
        """Let the running calls end; those that do not are cancelled, which settles them, and new ones are
        refused. A settlement that the database does not take at once is left to the writer, which spools it."""
        await self._all_ended(patience_s)
        self._is_closed = True
        self._attempts.close()
        self._cancel_running()
        await self._all_ended(CLOSING_PATIENCE_S)
        self._cancel_running()
        if self._running:
            await asyncio.wait(self._running)

    @property
    def running(self) -> int:
        """Calls that have not ended, also those whose clients have left."""
        return len(self._running)

    async def close_connections(self) -> None:
        await self._limiter.close()

    async def _all_ended(self, patience_s: float) -> None:
        """Those too that begin meanwhile: their clients had sent them before they could know."""
        deadline_s = time.monotonic() + patience_s
        while self._running and (left_s := deadline_s - time.monotonic()) > 0:
            await asyncio.wait(self._running, timeout=left_s)

    def _cancel_running(self) -> None:
        """After what is due already: a task cancelled before its first step would never close its call."""
        loop = asyncio.get_running_loop()
        for task in self._running:
            loop.call_soon(task.cancel)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            errors.log_unexpected(error)
