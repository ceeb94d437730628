"""At the provider: ask one route after the other until one answers, and pass its answer on.

run → route after route, circuits and fail-over → ask one: request → upstream → reader → Progress → call and sink
"""

import asyncio
from contextlib import suppress

from billing.ledger.commands import Mark
from billing.ledger.writer import Writer
from completions.ask import Translator
from completions.calls import failures
from completions.calls.call import OK, Call
from completions.calls.circuits import Circuits
from completions.calls.sinks import Sink
from completions.providers.kinds import KINDS
from completions.upstream.client import ANSWER_BYTES_MAX, Upstream, UpstreamAnswer
from completions.upstream.connection import UpstreamError
from completions.upstream.failure import UpstreamFailure, malformed

# An upstream that has said [DONE] usually ends its body at once; waiting for that keeps the connection.
BODY_END_WAIT_S = 0.05


class Attempts:
    """`call_max_s`: as long as all attempts of one call may take together."""

    def __init__(self, upstream: Upstream, circuits: Circuits, writer: Writer, *, call_max_s: float) -> None:
        self._upstream = upstream
        self._circuits = circuits
        self._writer = writer
        self._call_max_s = call_max_s
        self._is_closed = False

    def close(self) -> None:
        """The server is stopping: no provider is asked any more."""
        self._is_closed = True

    async def run(self, call: Call, sink: Sink) -> None:
        """Never raises: how it went is in `call`. Whatever ends a call early ends it here: the time that it may take, a
        client who left, the server's end."""
        try:
            if self._is_closed:
                call.failure = failures.of_shutdown()
            elif not sink.is_wanted:  # the client left before any provider was asked
                call.cancelled = True
            else:
                async with asyncio.timeout(self._call_max_s):
                    await self._fail_over(call, sink)
        except TimeoutError:
            call.failure = failures.of_call_too_long()
        except asyncio.CancelledError:
            # A client who leaves, or the server's end. An answer that is still wanted is cancelled by the latter alone.
            call.cancelled = not sink.is_wanted
            call.failure = None if call.cancelled else failures.of_shutdown()
        sink.shield()

    async def _fail_over(self, call: Call, sink: Sink) -> None:
        """`call.failure` is the last route's, if none answered. Another one is asked only for somebody, and before a
        word of this one was passed on."""
        for route in call.routes:
            name = route.provider.name
            call.turn_to(route)
            if not self._circuits.acquire(name):
                call.failure = failures.of_open_circuits(self._circuits, (route,))
                call.attempted("circuit_open")
                continue
            try:
                call.failure = await self._ask(call, sink)
            except asyncio.CancelledError:
                self._circuits.release(name)
                call.attempted("cancelled")
                raise
            except Exception as error:
                call.failure = failures.of_exception(error)
            if call.failure is not None and call.failure.may_fail_over:
                self._circuits.record_failure(name)
            else:
                self._circuits.record_success(name)
            call.attempted(call.outcome or OK)
            if call.failure is None or not call.failure.may_fail_over or sink.is_open or not sink.is_wanted:
                return

    async def _ask(self, call: Call, sink: Sink) -> UpstreamFailure | None:
        """One route's whole answer; the failure that ended it, if one did."""
        ask, route = call.ask, call.route
        kind = KINDS[route.provider.kind]
        translator = kind.translators[ask.operation]
        request = translator.request(ask, route, call.output_bound)
        async with self._upstream.open(route.provider.base_url, request) as response:
            if response.status != 200:
                return await failures.of_status(translator, response)
            if ask.stream and response.media_type != kind.stream_media_type:
                return await not_a_stream(translator, call, response)
            self._begin(call, response.header(kind.call_id_header) if kind.call_id_header else None)
            reader = translator.reader(ask, route, streamed=ask.stream)
            async for data in response.chunks(None if ask.stream else ANSWER_BYTES_MAX):
                for progress in reader.feed(data):
                    call.absorb(progress)
                    if progress.payload:
                        sink.put(progress)
                    if progress.failure is not None:
                        return progress.failure
                if reader.finished:
                    await end_of_body(response)
                    break
                if sink.is_full:
                    await sink.room()
            last = reader.close()
            if last is None:
                return None
            call.absorb(last)
            if last.payload:
                sink.put(last)
            return last.failure

    def _begin(self, call: Call, provider_ref: str | None) -> None:
        """The provider has begun to answer. What the sweeper needs is written with the next batch; nobody waits."""
        call.begin(provider_ref)
        self._circuits.record_start(call.route.provider.name)
        self._writer.submit(
            Mark(
                wallet_id=call.principal.organization_id,
                hold_id=call.hold_id,
                provider=call.route.provider.name,
                provider_ref=call.provider_ref,
                failed=tuple(call.failed),
            )
        )


async def not_a_stream(translator: Translator, call: Call, response: UpstreamAnswer) -> UpstreamFailure:
    """A 200 with a whole body where a stream was asked for: an error in disguise, or no answer at all."""
    reader = translator.reader(call.ask, call.route, streamed=False)
    reader.feed(await response.body())
    answer = reader.close()
    return (answer and answer.failure) or malformed("a stream was asked for, a whole answer came")


async def end_of_body(response: UpstreamAnswer) -> None:
    with suppress(TimeoutError, UpstreamError):
        async with asyncio.timeout(BODY_END_WAIT_S):
            async for _ in response.chunks():
                pass
