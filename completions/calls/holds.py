"""Before a provider: find the routes, keep the rate limits, and commit the hold. Without one there is no way to any.

`open` is the only door to a Call, and a Call the only ticket to a provider.
"""

from collections.abc import Callable
from uuid import UUID

from accounts.callers import Principal
from billing.ledger.commands import Held, Refused, Reserve
from billing.ledger.writer import LedgerUnavailable, Writer
from billing.pricing.money import CreditRate
from common.uuid7 import uuid7
from completions import errors
from completions.ask import Ask
from completions.calls import failures
from completions.calls.bounds import MaxCostBound, cost_bound, likely_prompt_tokens, output_bound
from completions.calls.call import Call
from completions.calls.circuits import Circuits
from completions.calls.idempotency import Claim
from completions.calls.limits import Admission, Limiter, rate_limited
from completions.providers import kinds
from completions.routes import Catalog, Route

RETRY_AFTER_S = 1

_AUTHORITY_LOST: dict[str, Callable[[], errors.GatewayError]] = {
    "organization_suspended": lambda: errors.OrganizationSuspended("This organization is suspended."),
    "revoked_api_key": lambda: errors.RevokedApiKey("This API key has been revoked."),
    "expired_api_key": lambda: errors.ExpiredApiKey("This API key has expired."),
    "no_wallet": errors.InternalError,
}


class Terms:
    """What can be asked and what a credit is worth, in force for this process. Whoever loads the catalog puts it here;
    a call keeps what it began with."""

    def __init__(self, rate: CreditRate) -> None:
        self.catalog = Catalog({})
        self.rate = rate


class Holds:
    """`output_floor_tokens`: the least output bound that is worth a call whose client named none. `hold_life_s`: after
    that long an open hold is the sweeper's."""

    def __init__(
        self,
        terms: Terms,
        circuits: Circuits,
        limiter: Limiter,
        writer: Writer,
        *,
        output_floor_tokens: int,
        hold_life_s: float,
    ) -> None:
        self._terms = terms
        self._circuits = circuits
        self._limiter = limiter
        self._writer = writer
        self._output_floor_tokens = output_floor_tokens
        self._hold_life_s = hold_life_s

    async def open(self, principal: Principal, ask: Ask, provider: str | None, claim: Claim | None) -> Call:
        """A call that may go to its provider; from here on its end closes it. The hold covers the dearest of the routes
        that may come to serve the call. A claim that comes to no call is free again, whatever the reason.

        Raises ModelNotFound, UnknownProvider, ModelNotAllowed, UnsupportedParameter, OutOfRange, ProviderUnavailable,
        RateLimited, InsufficientCredits, LedgerUnavailable, and what the books say of a key that was revoked meanwhile.
        """
        try:
            routes = self._routes(principal, ask, provider)
            if not any(self._circuits.allows(route.provider.name) for route in routes):
                # Before the hold: the ledger need not hear of a call that nobody can answer.
                raise failures.of_open_circuits(self._circuits, routes).error
            hold_id = uuid7()
            admission = await self._admit(principal, ask, hold_id)
            try:
                call = await self._reserve(principal, ask, routes, hold_id)
            except BaseException:
                if admission is not None:
                    await self._limiter.release(admission, 0)
                raise
        except BaseException:
            if claim is not None:
                await claim.drop()
            raise
        call.admission, call.claim = admission, claim
        return call

    def _routes(self, principal: Principal, ask: Ask, provider: str | None) -> tuple[Route, ...]:
        """The routes that can do what is asked, best first; the first one's refusal if none can."""
        routes = self._terms.catalog.resolve(ask.model, provider)
        if principal.models is not None and ask.model not in principal.models:
            raise errors.ModelNotAllowed(ask.model)
        refusals = [(route, refusal(ask, route)) for route in routes]
        able = tuple(route for route, refused in refusals if refused is None)
        if not able and (refused := refusals[0][1]):
            raise refused
        return able

    async def _admit(self, principal: Principal, ask: Ask, hold_id: UUID) -> Admission | None:
        """The key's rate limits; None for a caller without any."""
        if principal.rate_limits is None or principal.key_id is None:
            return None
        tokens = likely_prompt_tokens(ask.demand.prompt_tokens_max) + (ask.demand.output_tokens or 0)
        admission = await self._limiter.admit(principal.key_id, principal.rate_limits, tokens, hold_id.hex)
        if admission.decision.refused_by is not None:
            raise rate_limited(admission)
        return admission

    async def _reserve(self, principal: Principal, ask: Ask, routes: tuple[Route, ...], hold_id: UUID) -> Call:
        """Hold the most that the call may cost; where the balance covers less, lower the output bound to what it does,
        if the client named none."""
        demand, rate = ask.demand, self._terms.rate
        floor = self._output_floor_tokens
        for route in routes:
            translator = kinds.KINDS[route.provider.kind].translators[ask.operation]
            floor = max(floor, translator.output_tokens_min(ask, route))
        tokens_max = min([output_bound(demand, route, floor) for route in routes])
        tokens_min = tokens_max if demand.output_tokens is not None else min(tokens_max, floor)
        bound = MaxCostBound(tuple([cost_bound(demand, route) for route in routes]))
        command = Reserve(
            wallet_id=principal.organization_id,
            hold_id=hold_id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            model=routes[0].model,
            price_id=routes[0].price.id,
            provider=routes[0].provider.name,
            amount=rate.micro(bound.pico(tokens_max)),
            floor=rate.micro(bound.pico(tokens_min)),
            life_s=self._hold_life_s,
            rate_id=rate.id,
            endpoint=ask.endpoint,
        )
        try:
            outcome = await self._writer.submit(command)
        except LedgerUnavailable as error:
            raise errors.LedgerUnavailable(retry_after_s=RETRY_AFTER_S) from error
        if isinstance(outcome, Refused):
            raise refused_by_books(outcome, bound, tokens_max, rate)
        assert isinstance(outcome, Held)
        if outcome.amount < command.amount:
            tokens_max = bound.affordable_tokens(rate.affordable_pico(outcome.amount), tokens_max)
        return Call(hold_id, principal, ask, routes, rate, tokens_max)


def refusal(ask: Ask, route: Route) -> errors.GatewayError | None:
    """Why a route cannot take this request; None if it can."""
    if fields := kinds.translator(route.provider.kind, ask.operation).unsupported(ask, route):
        return errors.UnsupportedParameter(route.provider.name, fields[0].field, ask.model, fields[0].why)
    named, field, limit = ask.demand.output_tokens, ask.demand.output_field, route.max_output_tokens
    if named is not None and named > limit:
        return errors.OutOfRange(f"'{field}' must be at most {limit} for '{ask.model}', not {named}.", param=field)
    return None


def refused_by_books(refused: Refused, bound: MaxCostBound, tokens_max: int, rate: CreditRate) -> errors.GatewayError:
    if refused.reason not in ("credits", "key_limit"):
        return _AUTHORITY_LOST[refused.reason]()
    available = max(0, refused.available)
    return errors.InsufficientCredits(
        limit_source=refused.reason,
        required_micro=refused.required,
        available_micro=available,
        affordable_output_tokens=bound.affordable_tokens(rate.affordable_pico(available), tokens_max),
    )
