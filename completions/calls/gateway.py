"""The conductor: who calls, which route, what it may cost, the provider, what it did cost.

    gateway.complete(principal, chat, provider)  → Completion     one JSON answer
    gateway.stream(principal, chat, provider)    → Events         bytes of server-sent events

Both reserve before a provider is reached and settle after; the work in between belongs to a detached
task, so that neither a client who leaves nor a slow one can keep a call from being closed. Errors
are the leaves of errors.py.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from accounts.principals import Principal
from billing.ledger import Held, LedgerUnavailable, Mark, Refused, Reserve, Settle, Settled, Void, Writer
from billing.pricing.money import CreditRate
from completions import errors, providers
from completions.calls import failures
from completions.calls.bounds import Dearest, cost_bound, likely_prompt_tokens, output_bound
from completions.calls.buffer import Events
from completions.calls.call import Call, ending
from completions.calls.circuits import Circuits
from completions.calls.idempotency import ANSWER_BYTES_MAX, Claim, Database, Idempotency, StoredAnswer
from completions.calls.limits import Limiter, Permit
from completions.calls.limits import headers as limit_headers
from completions.calls.metrics import CallMetrics
from completions.calls.relay import Relay
from completions.chat.request import Chat
from completions.chat.tokens import estimate_prompt_tokens
from completions.dialects.openai_chat.answers import StreamWriter, completion_bytes, usage_view
from completions.routes import Catalog, Route
from completions.upstream.client import Upstream, UpstreamAnswer
from completions.upstream.failure import UpstreamFailure
from completions.upstream.request import UpstreamRequest

logger = logging.getLogger("quantized.calls")

T = TypeVar("T")

RETRY_AFTER_S = 1
CLOSING_PATIENCE_S = 2.0  # at a stop, for calls that were cancelled


class Completion(NamedTuple):
    body: bytes
    call: Call


class Gateway:
    def __init__(
        self,
        writer: Writer,
        upstream: Upstream,
        database: Database,
        rate: CreditRate,
        *,
        output_floor_tokens: int,
        hold_life_s: float,
        call_max_s: float,
        drain_max_s: float,
        first_event_wait_s: float,
        keepalive_s: float,
        circuit_failures_max: int,
        circuit_open_s: float,
        redis_url: str,
        redis_timeout_s: float,
        processes: int,
    ) -> None:
        self.catalog = Catalog({})
        self.upstream = upstream
        self.rate = rate
        self.keepalive_s = keepalive_s
        self.call_max_s = call_max_s
        self.drain_max_s = drain_max_s
        self.circuits = Circuits(failures_max=circuit_failures_max, open_s=circuit_open_s)
        self.metrics = CallMetrics()
        self.idempotency = Idempotency(database, lease_s=hold_life_s)
        self._writer = writer
        self._limiter = Limiter.connect(
            redis_url, timeout_s=redis_timeout_s, call_life_s=hold_life_s, processes=processes
        )
        self._output_floor_tokens = output_floor_tokens
        self._hold_life_s = hold_life_s
        self._first_event_wait_s = first_event_wait_s
        self._running: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    # --- the two ways to answer -------------------------------------------------------------

    async def complete(
        self, principal: Principal, chat: Chat, provider: str | None, claim: Claim | None = None
    ) -> Completion:
        call = await self._open(principal, chat, provider, claim)
        return await asyncio.shield(self._detach(self._answer(call)))

    async def stream(
        self,
        principal: Principal,
        chat: Chat,
        provider: str | None,
        leaving: asyncio.Future[None],
        claim: Claim | None = None,
    ) -> Events:
        """Returns at the first real event, or after `first_event_wait_s`; a failure before is raised.
        `leaving` is done when the client has gone."""
        call = await self._open(principal, chat, provider, claim)
        relay = Relay(self, call)
        if leaving.done():  # while the ledger was asked: no provider need hear of it
            relay.events.is_abandoned = True
        relay.events.relay = running = self._detach(relay.run())
        self.metrics.stream_began()
        running.add_done_callback(lambda _: self.metrics.stream_ended())
        leaving.add_done_callback(lambda _: relay.events.leave())
        await relay.begun(self._first_event_wait_s)
        return relay.events

    async def replay(self, chat: Chat, stored: StoredAnswer) -> bytes:
        """An answer given before. Settling it again tells what it cost, and books it if a crash came in between."""
        settled = await self._writer.submit(stored.settle)
        if not isinstance(settled, Settled):
            raise errors.IdempotencyInProgress("The call of this Idempotency-Key has not been closed.")
        return replayed_answer(chat, stored, settled)

    async def drain(self, patience_s: float) -> None:
        """Let the running calls end; those that do not are cancelled, which settles them, and new ones are
        refused. A settlement that the database does not take at once is left to the writer, which spools it."""
        await self._all_ended(patience_s)
        self._is_closed = True
        self._cancel_running()
        await self._all_ended(CLOSING_PATIENCE_S)
        self._cancel_running()
        if self._running:
            await asyncio.wait(self._running)

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

    @property
    def running(self) -> int:
        """Calls that have not ended, also those whose clients have left."""
        return len(self._running)

    async def close_connections(self) -> None:
        await self._limiter.close()

    # --- before the provider ----------------------------------------------------------------

    async def _open(self, principal: Principal, chat: Chat, provider: str | None, claim: Claim | None) -> Call:
        """A call that may go to its provider; from here on its end closes it. A claim that comes to no call
        is free again, whatever the reason."""
        try:
            self._require_open()
            call = await self._held_call(principal, chat, provider)
        except BaseException:
            if claim is not None:
                await claim.drop()
            raise
        call.claim = claim
        return call

    async def _held_call(self, principal: Principal, chat: Chat, provider: str | None) -> Call:
        """Find the routes and commit the hold: without one there is no way to any provider. The hold
        covers the dearest of the routes that may come to serve the call."""
        routes = self._routes(principal, chat, provider)
        self._require_a_way(routes)
        estimate = estimate_prompt_tokens(chat)
        hold_id = new_hold_id()
        permit = await self._admit(principal, chat, estimate, hold_id)
        try:
            call = await self._hold(principal, chat, routes, estimate, hold_id)
        except BaseException:
            await self._give_back(permit, 0)
            raise
        call.permit = permit
        return call

    async def _admit(self, principal: Principal, chat: Chat, estimate: int, hold_id: UUID) -> Permit | None:
        """The key's rate limits; None for a caller without any."""
        if principal.rate_limits is None or principal.key_id is None:
            return None
        tokens = likely_prompt_tokens(estimate) + (chat.named_output_bound or 0)
        permit = await self._limiter.admit(principal.key_id, principal.rate_limits, tokens, hold_id.hex)
        if permit.verdict.refused_by is not None:
            raise rate_limited(permit)
        return permit

    async def _give_back(self, permit: Permit | None, tokens_used: int) -> None:
        if permit is not None:
            await self._limiter.release(permit, tokens_used)

    async def _hold(
        self, principal: Principal, chat: Chat, routes: tuple[Route, ...], estimate: int, hold_id: UUID
    ) -> Call:
        floor = max(self._output_floor_tokens, *(output_tokens_min(chat, route) for route in routes))
        tokens_max = min(output_bound(chat, route, estimate, floor) for route in routes)
        bound = Dearest(tuple(cost_bound(chat, route, min(estimate, route.context_length)) for route in routes))
        tokens_min = tokens_max if chat.named_output_bound is not None else min(tokens_max, floor)
        affordable = await self._reserve(principal, routes[0], hold_id, bound, tokens_min, tokens_max)
        return Call(hold_id, principal, chat, routes, estimate, affordable)

    def _routes(self, principal: Principal, chat: Chat, provider: str | None) -> tuple[Route, ...]:
        """The routes that can do what is asked, best first; the first one's refusal if none can."""
        routes = self.catalog.resolve(chat.model, provider)
        if principal.models is not None and chat.model not in principal.models:
            raise errors.ModelNotAllowed(chat.model)
        refusals = [(route, refusal(chat, route)) for route in routes]
        able = tuple(route for route, refused in refusals if refused is None)
        if not able and (refused := refusals[0][1]):
            raise refused
        return able

    def _require_open(self) -> None:
        if self._is_closed:
            raise errors.ServerStopping

    def _require_a_way(self, routes: tuple[Route, ...]) -> None:
        """Spare the ledger a hold when every provider is being left alone."""
        if not any(self.circuits.may_enter(route.provider.name) for route in routes):
            raise failures.of_open_circuits(self.circuits, routes).error

    async def _reserve(
        self, principal: Principal, route: Route, hold_id: UUID, bound: Dearest, tokens_min: int, tokens_max: int
    ) -> int:
        """Hold the bound's cost; the number of output tokens that the hold covers."""
        command = Reserve(
            wallet_id=principal.organization_id,
            hold_id=hold_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            model=route.model,
            price_id=route.price.id,
            provider=route.provider.name,
            amount=self.rate.micro(bound.pico(tokens_max)),
            floor=self.rate.micro(bound.pico(tokens_min)),
            life_s=self._hold_life_s,
            rate_id=self.rate.id,
        )
        try:
            outcome = await self._writer.submit(command)
        except LedgerUnavailable as error:
            raise errors.LedgerUnavailable(retry_after_s=RETRY_AFTER_S) from error
        if isinstance(outcome, Refused):
            raise self._refusal(outcome, bound, tokens_max)
        assert isinstance(outcome, Held)
        if outcome.amount == command.amount:
            return tokens_max
        return bound.affordable_tokens(self.rate.affordable_pico(outcome.amount), tokens_max)

    def _refusal(self, refused: Refused, bound: Dearest, tokens_max: int) -> errors.GatewayError:
        if refused.reason in ("credits", "key_limit"):
            available = max(0, refused.available)
            return errors.InsufficientCredits(
                limit_source=refused.reason,
                required_micro=refused.required,
                available_micro=available,
                affordable_output_tokens=bound.affordable_tokens(self.rate.affordable_pico(available), tokens_max),
            )
        return _AUTHORITY_LOST[refused.reason]()

    # --- the provider -----------------------------------------------------------------------

    async def _answer(self, call: Call) -> Completion:
        try:
            await self.attempt(call, self._ask, lambda: True)
        except asyncio.CancelledError:  # the server has to go
            call.failure = failures.of_shutdown()
        try:
            settled = await self.close(call)
        except asyncio.CancelledError:  # it cannot wait for the ledger: the settlement will be spooled
            call.failure = failures.of_shutdown()
        if call.failure is not None:
            raise call.error()
        assert settled is not None
        return Completion(whole_answer(call, settled), call)

    async def _ask(self, call: Call) -> UpstreamFailure | None:
        route, adapter = call.route, providers.adapter(call.route.provider.kind)
        async with self.upstream.open(route.provider.base_url, self.request(call)) as response:
            if response.status != 200:
                return await failures.of_status(adapter, response)
            self.begin(call, response)
            call.absorb_answer(adapter.answer(await response.body(), context_length=route.context_length))
            return call.failure

    async def attempt(
        self, call: Call, ask: Callable[[Call], Awaitable[UpstreamFailure | None]], may_turn: Callable[[], bool]
    ) -> None:
        """Ask one route after the other until one answers, for as long as a call may take. `may_turn` says whether
        the next one may be asked; `call.failure` is the last route's, if none answered."""
        try:
            async with asyncio.timeout(self.call_max_s):
                await self._attempt(call, ask, may_turn)
        except TimeoutError:
            call.failure = failures.of_call_too_long()

    async def _attempt(
        self, call: Call, ask: Callable[[Call], Awaitable[UpstreamFailure | None]], may_turn: Callable[[], bool]
    ) -> None:
        if self._is_closed:
            call.failure = failures.of_shutdown()
            return
        for route in call.routes:
            name = route.provider.name
            call.turn_to(route)
            if not self.circuits.enter(name):
                call.failure = failures.of_open_circuits(self.circuits, (route,))
                call.attempted(route, "circuit_open")
                continue
            try:
                call.failure = await ask(call)
            except asyncio.CancelledError:
                self.circuits.abandon(name)
                call.attempted(route, "cancelled")
                raise
            except Exception as error:
                call.failure = failures.of_exception(error)
            self._learn(name, call.failure)
            call.attempted(route, call.outcome or "ok")
            if call.failure is None or not call.failure.may_fail_over or not may_turn():
                return

    def _learn(self, provider: str, failure: UpstreamFailure | None) -> None:
        if failure is not None and failure.may_fail_over:
            self.circuits.fail(provider)
        else:
            self.circuits.succeed(provider)

    def request(self, call: Call) -> UpstreamRequest:
        return providers.adapter(call.route.provider.kind).request(
            call.chat,
            call.route,
            output_bound=call.output_bound,
            stream=call.chat.stream,
            secret=call.route.provider.secret,
        )

    def begin(self, call: Call, response: UpstreamAnswer) -> None:
        """The provider has begun to answer. What the sweeper needs is written with the next batch; nobody waits."""
        call.begin(response.header("x-generation-id"))
        self.circuits.answering(call.route.provider.name)
        self._writer.submit(
            Mark(
                wallet_id=call.principal.organization_id,
                hold_id=call.hold_id,
                provider=call.route.provider.name,
                provider_ref=call.provider_ref,
                failed=tuple(call.failed),
            )
        )

    # --- after the provider -----------------------------------------------------------------

    async def close(self, call: Call) -> Settled | None:
        """Settle or void, durably; None when nothing is charged. The command is queued before anything is
        awaited but the keeping of an answer that its client will ask for again."""
        command = ending(call, self.rate)
        is_kept = False
        try:
            is_kept = await self._keep(call, command)
        finally:
            booked = self._writer.submit(command)
        alert(call)
        try:
            outcome = await booked  # the writer books it too if this task is cancelled
        finally:
            # Before the client knows: its next call shall find the place free.
            await self._give_back(call.permit, call.billed.total_tokens if call.billed else 0)
        if not is_kept:  # the database was away; now that it has taken the settlement, it takes the answer too
            await self._keep(call, command)
        settled = outcome if isinstance(outcome, Settled) else None
        log(call, command, settled)
        self.metrics.ended(call, command, settled)
        return settled

    async def _keep(self, call: Call, command: Settle | Void) -> bool:
        """The answer of a request with an Idempotency-Key is stored before it is paid for; whether it was. Failing
        to store it must not keep it from being paid."""
        if call.claim is None:
            return True
        try:
            answer = stored_answer(call, command)
            await (call.claim.store(answer) if answer is not None else call.claim.drop())
        except Exception as error:
            errors.log_unexpected(error)
            return False
        return True

    def _detach(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of its own: it outlives its caller, and `drain` waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, errors.GatewayError):
            errors.log_unexpected(error)


def output_tokens_min(chat: Chat, route: Route) -> int:
    return providers.adapter(route.provider.kind).output_tokens_min(chat, route)


def refusal(chat: Chat, route: Route) -> errors.GatewayError | None:
    """Why a route cannot take this request; None if it can."""
    if fields := providers.adapter(route.provider.kind).unsupported(chat, route):
        return errors.UnsupportedParameter(route.provider.name, fields[0].field, chat.model, fields[0].why)
    named, limit = chat.named_output_bound, route.max_output_tokens
    if named is not None and named > limit:
        field = "max_completion_tokens" if chat.fields.max_completion_tokens is not None else "max_tokens"
        return errors.OutOfRange(f"'{field}' must be at most {limit} for '{chat.model}', not {named}.", param=field)
    return None


def rate_limited(permit: Permit) -> errors.RateLimited:
    limits, verdict = permit.limits, permit.verdict
    told = {
        "requests": f"more than {limits.requests_per_minute} requests per minute",
        "tokens": f"more than {limits.tokens_per_minute} tokens per minute",
        "concurrency": f"more than {limits.concurrency} calls at the same time",
    }
    message = f"This API key may not make {told[verdict.refused_by or 'requests']}."
    if limits.tokens_per_minute is not None and permit.tokens > limits.tokens_per_minute:
        message += f" This one alone may use {permit.tokens} tokens; ask for less."
        return errors.RateLimited(message, limits=limit_headers(permit))
    return errors.RateLimited(message, retry_after_s=verdict.retry_after_s, limits=limit_headers(permit))


def stored_answer(call: Call, command: Settle | Void) -> StoredAnswer | None:
    """What a retry shall get; None for a call that failed, or an answer too large to keep."""
    body = b"".join(call.kept) if call.chat.stream else msgspec.json.encode(call.answer.choices if call.answer else ())
    if call.failure is not None or not isinstance(command, Settle) or len(body) > ANSWER_BYTES_MAX:
        return None
    return StoredAnswer(
        provider=call.route.provider.name,
        model=call.route.model,
        created=call.created,
        system_fingerprint=call.system_fingerprint,
        streamed=call.chat.stream,
        body=body,
        settle=command,
    )


def replayed_answer(chat: Chat, stored: StoredAnswer, settled: Settled) -> bytes:
    usage = usage_view(stored.settle.receipt.usage, credits_used=settled.charged, credits_remaining=settled.remaining)
    id = f"gen-{stored.settle.hold_id.hex}"
    if stored.streamed:
        writer = StreamWriter(
            id=id,
            model=stored.model,
            created=stored.created,
            include_usage=chat.include_usage,
            system_fingerprint=stored.system_fingerprint,
        )
        return stored.body + writer.end(usage)
    return completion_bytes(
        id=id,
        model=stored.model,
        choices=msgspec.Raw(stored.body),
        usage=usage,
        created=stored.created,
        system_fingerprint=stored.system_fingerprint,
    )


def whole_answer(call: Call, settled: Settled) -> bytes:
    assert call.answer is not None
    return completion_bytes(
        id=call.id,
        model=call.route.model,
        choices=call.answer.choices,
        usage=call.usage_view(settled),
        created=call.created,
        system_fingerprint=call.system_fingerprint,
    )


def new_hold_id() -> UUID:
    """A UUIDv7: unique without asking the database, and in the order of time for its indexes."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return UUID(int=value)


_AUTHORITY_LOST: dict[str, Any] = {
    "organization_suspended": lambda: errors.OrganizationSuspended("This organization is suspended."),
    "revoked_api_key": lambda: errors.RevokedApiKey("This API key has been revoked."),
    "expired_api_key": lambda: errors.ExpiredApiKey("This API key has expired."),
    "no_wallet": errors.InternalError,
}


def alert(call: Call) -> None:
    """What the operator has to know at once; never the words of a provider, which may quote a prompt."""
    failure, reported = call.failure, call.reported
    if failure is not None and failure.is_our_account:
        logger.error("our account at %s is refused: %s (status %s)", call.route.provider.name, call.id, failure.status)
    if reported is not None and reported.problem is not None:
        logger.error("%s reported %s usage for %s", call.route.provider.name, reported.problem, call.id)


def log(call: Call, command: Any, settled: Settled | None) -> None:
    """One line per call: whose, where, how much, how long, how it ended."""
    usage = command.receipt.usage
    logger.info(
        "%s organization=%s model=%s provider=%s prompt=%d completion=%d micro=%d first_ms=%s ms=%d outcome=%s%s",
        call.id,
        call.principal.organization_id,
        call.route.model,
        call.route.provider.name,
        usage.prompt_tokens,
        usage.completion_tokens,
        settled.charged if settled else 0,
        call.first_token_ms,
        call.elapsed_ms,
        call.outcome or "ok",
        f" loss={command.actual - settled.charged}"
        if settled and isinstance(command, Settle) and command.actual > settled.charged
        else "",
    )
