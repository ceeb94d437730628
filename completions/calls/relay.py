"""The relay: owns one stream's upstream, hold and settlement, from the first byte to the last credit.

It runs as a task of its own and writes into a bounded buffer (`Events`) from which the response
reads. A client who is slow stops the reading upstream; a client who leaves cancels the task, which
closes the upstream at once and settles what was used. Money is never settled by the response: under
ASGI its generator may never be closed.

The stream follows wire.md A.4 and A.5: the role once, usage in a last chunk with `choices: []` if
asked for, then [DONE]. A failure after the first byte is one error event and the end.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from billing.ledger import Settled
from completions import providers
from completions.calls import failures
from completions.calls.buffer import Events
from completions.calls.call import Call
from completions.chat.answer import Chunk
from completions.dialects.openai_chat.answers import StreamWriter
from completions.errors import STREAM_FAILURE_EVENT
from completions.providers.base import Adapter, StreamDecoder
from completions.upstream.client import UpstreamAnswer
from completions.upstream.connection import UpstreamError
from completions.upstream.failure import UpstreamFailure, nonsense
from completions.upstream.sse import SSEDecoder

if TYPE_CHECKING:
    from completions.calls.gateway import Gateway
# An upstream that has said [DONE] usually ends its body at once; waiting for that keeps the connection.
BODY_END_WAIT_S = 0.05


class Relay:
    def __init__(self, gateway: "Gateway", call: Call) -> None:
        self._gateway = gateway
        self._call = call
        self.events = Events(call, gateway.keepalive_s, gateway.drain_max_s)
        self._writer = StreamWriter(
            id=call.id, model=call.route.model, created=call.created, include_usage=call.chat.include_usage
        )
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def begun(self, patience_s: float) -> None:
        """Wait for the first real event; raises what failed before it. After `patience_s` the answer's
        headers have to go, and what fails then is told in the stream."""
        done, _ = await asyncio.wait([self._begun], timeout=patience_s)
        if done:
            self._begun.result()
        else:
            self._begin_writing()

    async def run(self) -> None:
        call = self._call
        try:
            if self.events.is_wanted:
                await self._gateway.attempt(call, self._pump, self._may_turn)
            else:  # left before the provider was asked
                call.cancelled = True
        except asyncio.CancelledError:
            # What is still wanted is cancelled by the server's end alone.
            call.cancelled = not self.events.is_wanted
            call.failure = None if call.cancelled else failures.of_shutdown()
        self.events.let_end()
        settled = None
        try:
            settled = await self._gateway.close(call)
        except asyncio.CancelledError:  # the server cannot wait for the ledger: the settlement will be spooled
            call.failure = failures.of_shutdown()
        except Exception as error:
            call.failure = failures.of_exception(error)
        self._finish(settled)

    def _may_turn(self) -> bool:
        """To another route: only for somebody, and before a word of this one was passed on."""
        return self.events.is_wanted and not self._begun.done()

    async def _pump(self, call: Call) -> UpstreamFailure | None:
        """Relay the whole stream; the failure that ended it, if one did."""
        adapter = providers.adapter(call.route.provider.kind)
        async with self._gateway.upstream.open(call.route.provider.base_url, self._gateway.request(call)) as response:
            if response.status != 200:
                return await failures.of_status(adapter, response)
            if not response.is_event_stream:
                return await self._not_a_stream(adapter, response)
            self._gateway.begin(call, response)
            decoder = adapter.decoder(context_length=call.route.context_length)
            return await self._relay(response, decoder)

    async def _relay(self, response: UpstreamAnswer, decoder: StreamDecoder) -> UpstreamFailure | None:
        sse = SSEDecoder()
        async for data in response.chunks():
            for event in sse.feed(data):
                if (chunk := decoder.event(event)) is not None and (failure := self._forward(chunk)):
                    return failure
            if decoder.finished:
                await end_of_body(response)
                break
            if self.events.is_full:
                await self.events.room()
        last = decoder.close()
        return self._forward(last) if last is not None else None

    def _forward(self, chunk: Chunk) -> UpstreamFailure | None:
        self._call.absorb_chunk(chunk)
        if chunk.choices:
            self._begin_writing()
            self._write(self._writer.events(chunk))
        return chunk.failure

    def _write(self, events: bytes) -> None:
        self.events.put(events)
        if self._call.claim is not None:
            self._call.kept.append(events)

    def _begin_writing(self) -> None:
        """The first bytes of the answer: from here on a failure is an event."""
        if not self._begun.done():
            self._begun.set_result(None)

    def _finish(self, settled: Settled | None) -> None:
        """The last words: the error, or the usage if asked for and [DONE]; nothing to a client who left."""
        call = self._call
        if call.failure is not None and not self._begun.done():
            self._begun.set_exception(call.error())
        elif call.failure is not None:
            self.events.put(STREAM_FAILURE_EVENT)
        elif settled is not None and not call.cancelled:
            self._begin_writing()
            self.events.put(self._writer.end(call.usage_view(settled)))
        elif not self._begun.done():
            self._begun.set_result(None)
        self.events.end()

    async def _not_a_stream(self, adapter: Adapter, response: UpstreamAnswer) -> UpstreamFailure:
        """A 200 with a JSON body where events were asked for: an error in disguise, or nonsense."""
        answer = adapter.answer(await response.body())
        return answer.failure or nonsense("a stream was asked for, a whole answer came")


async def end_of_body(response: UpstreamAnswer) -> None:
    with suppress(TimeoutError, UpstreamError):
        async with asyncio.timeout(BODY_END_WAIT_S):
            async for _ in response.chunks():
                pass
