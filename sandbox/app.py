"""The sandbox as an ASGI application: OpenRouter under /api/v1, Anthropic under /v1, controls under /_sandbox.

/api/v1/chat/completions   POST          the answer, whole or streamed
/api/v1/generation?id=     GET           what a call cost, some time after its end
/api/v1/models             GET           no key needed, like OpenRouter's
/api/v1/key, /credits      GET
/api/v1/activity?date=     GET           what a day that is over cost by model, for a management key
/v1/messages               POST          the answer, whole or streamed
/v1/messages/count_tokens  POST
/v1/models, /v1/models/id  GET           what each model can
/v1/organizations/usage_report/messages, /v1/organizations/cost_report
                           GET           the days' counts and costs, for an admin's key
/_sandbox/calls            GET           the newest calls and the counters
/_sandbox/default          GET, POST     the process-wide directive, {"directive": "..."}
/_sandbox/reset            POST          forget all calls, back to the directive of the start
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

import msgspec

from sandbox import bill, brain, directives, faults
from sandbox.anthropic import reports
from sandbox.anthropic.dialect import Anthropic
from sandbox.calls import Call, Journal, State
from sandbox.cards import ANY_MODEL, Card
from sandbox.conversation import Refusal
from sandbox.dialect import Asked, Dialect
from sandbox.directives import BadDirective, Directive
from sandbox.exchange import Exchange
from sandbox.openrouter import errors, side
from sandbox.openrouter.dialect import OpenRouter
from sandbox.openrouter.shapes import ENCODER, JSON
from sandbox.player import Player
from sandbox.steps import Whole
from sandbox.wire import ClientLeft, Message, Receive, Send, Wire

BODY_BYTES_MAX = 64 * 1024 * 1024
CALLS_SHOWN_MAX = 1000
OPENROUTER: Dialect = OpenRouter()


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """`cards` and `claudes` (Anthropic's own) None: every model is served at the price of `ANY_MODEL`.
    `keep`: calls hold headers and bodies."""

    cards: dict[str, Card] | None = None
    claudes: dict[str, Card] | None = None
    default: str = ""
    keep: bool = False


Handler = Callable[["Sandbox", Message, Wire], Awaitable[None]]


def make_app(config: Config | None = None) -> "Sandbox":
    return Sandbox(config or Config())


class Sandbox:
    """Everything it remembers is in `journal`; `default` is the directive of calls that bring none."""

    def __init__(self, config: Config) -> None:
        directives.parse(config.default)
        self.config = config
        self.default = config.default
        self.journal = Journal(keep=config.keep)
        self.anthropic = Anthropic()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the sandbox speaks HTTP, not {scope['type']}")
        wire = Wire(scope, receive, send)
        try:
            await self._route(scope, wire)
        except Refusal as refusal:
            await wire.whole(OPENROUTER.refused(refusal))
        except ClientLeft:
            return  # before its body was read: there is nobody to answer and nothing to record
        finally:
            wire.release()

    async def _route(self, scope: Message, wire: Wire) -> None:
        methods = _ROUTES.get("/v1/models" if scope["path"].startswith("/v1/models/") else scope["path"])
        if methods is None:
            raise Refusal(404, "Not Found")
        handler = methods.get(scope["method"])
        if handler is None:
            await wire.whole(_wrong_method(methods))
            return
        await handler(self, scope, wire)

    # --- Answers ----------------------------------------------------------------------------

    async def answer(self, scope: Message, wire: Wire, *, dialect: Dialect) -> None:
        headers = _headers(scope)
        call = self._received(dialect, scope, headers)
        try:
            body = await wire.body(BODY_BYTES_MAX)
            exchange = self._answered(dialect, call, headers, body)
        except Refusal as refusal:
            call.status, call.refusal = refusal.status, refusal.message
            self.journal.close(call, "refused")
            await wire.whole(dialect.refused(refusal))
            return
        except ClientLeft:
            call.disconnected_at = wire.left_at
            self.journal.close(call, "cancelled")
            return
        await self._play(dialect, call, exchange, wire)

    def _received(self, dialect: Dialect, scope: Message, headers: dict[str, str]) -> Call:
        now = time.time()
        call = Call(id=dialect.new_id(now), path=scope["path"], received_at=now, header_names=sorted(headers))
        if self.journal.keep:
            call.kept_headers = headers
        self.journal.open(call)
        return call

    def _answered(self, dialect: Dialect, call: Call, headers: dict[str, str], body: bytes) -> Exchange:
        """From bytes to the answer; everything a provider refuses is refused on the way."""
        call.body_bytes, call.body_sha256 = len(body), sha256(body).hexdigest()
        call.kept_body = body if self.journal.keep else None
        dialect.authorize(headers)
        asked = dialect.decode(headers, body)
        call.model, call.max_tokens, call.user = asked.model, asked.bound, asked.user or ""
        call.fields = sorted(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))
        directive = self._directive(asked)
        card = self._card(dialect, asked.model)
        question = asked.question(card)
        answer = brain.answer(question, card.max_output_tokens, directive)
        cost = bill.of(question, answer, directive, card)
        return Exchange(call.id, int(call.received_at), question, answer, directive, card, cost)

    def _directive(self, asked: Asked) -> Directive:
        try:
            return directives.of(self.default, asked.metadata, asked.user)
        except BadDirective as error:
            raise Refusal(400, f"Sandbox directive: {error}") from error

    def _card(self, dialect: Dialect, model: str) -> Card:
        cards = {"openrouter": self.config.cards, "anthropic": self.config.claudes}[dialect.kind]
        if cards is None:
            return ANY_MODEL
        if model not in cards:
            raise dialect.unknown_model(model)
        return cards[model]

    async def _play(self, dialect: Dialect, call: Call, x: Exchange, wire: Wire) -> None:
        def over(state: State) -> None:
            call.disconnected_at = wire.left_at
            call.bill = _billed(x, call, state)
            call.finish_reason, call.native_finish_reason = _finish(dialect, x, state)
            self.journal.close(call, state)

        _note(dialect, call, x)
        fault = x.directive.damage
        drains = fault is None and (not x.question.stream or x.directive.cancel == "drain")
        await Player(wire, call, over, drains=drains).play(faults.damaged(dialect.steps(x), fault))

    # --- Anthropic --------------------------------------------------------------------------

    async def messages(self, scope: Message, wire: Wire) -> None:
        await self.answer(scope, wire, dialect=self.anthropic)

    async def count_tokens(self, scope: Message, wire: Wire) -> None:
        async def counted(headers: dict[str, str]) -> dict[str, Any]:
            return self.anthropic.count_tokens(headers, await wire.body(BODY_BYTES_MAX))

        await self._beside(scope, wire, counted)

    async def claudes(self, scope: Message, wire: Wire) -> None:
        async def listed(_: dict[str, str]) -> dict[str, Any]:
            return self.anthropic.models(scope["path"].removeprefix("/v1/models").removeprefix("/"))

        await self._beside(scope, wire, listed)

    async def usage_report(self, scope: Message, wire: Wire) -> None:
        await self._reported(scope, wire, reports.usage_report)

    async def cost_report(self, scope: Message, wire: Wire) -> None:
        await self._reported(scope, wire, partial(reports.cost_report, card_of=partial(self._card, self.anthropic)))

    async def _reported(self, scope: Message, wire: Wire, report: Callable[[str, list[Call]], dict[str, Any]]) -> None:
        try:
            reports.authorize(_headers(scope))
            await wire.whole(_json(report(scope["query_string"].decode(), self.journal.calls)))
        except Refusal as refusal:
            await wire.whole(self.anthropic.refused(refusal))

    async def _beside(
        self, scope: Message, wire: Wire, told: Callable[[dict[str, str]], Awaitable[dict[str, Any]]]
    ) -> None:
        headers = _headers(scope)
        try:
            self.anthropic.authorize(headers)
            await wire.whole(_json(await told(headers)))
        except Refusal as refusal:
            await wire.whole(self.anthropic.refused(refusal))

    # --- OpenRouter's side endpoints --------------------------------------------------------

    async def generation(self, scope: Message, wire: Wire) -> None:
        OPENROUTER.authorize(_headers(scope))
        wanted = parse_qs(scope["query_string"].decode()).get("id", [""])[0]
        call = self.journal.find(wanted)
        if call is None:
            raise Refusal(404, f"Generation {wanted} not found")
        await wire.whole(_json(side.generation(call)))

    async def activity(self, scope: Message, wire: Wire) -> None:
        headers = _headers(scope)
        OPENROUTER.authorize(headers)
        if not headers.get("authorization", "").startswith(side.MANAGEMENT_PREFIX):
            raise Refusal(403, "Only management keys can fetch activity for an account")
        wanted = parse_qs(scope["query_string"].decode()).get("date", [""])[0]
        await wire.whole(_json(side.activity(self.journal.calls, wanted)))

    async def models(self, _: Message, wire: Wire) -> None:
        await wire.whole(_json(side.models((self.config.cards or {}).values())))

    async def key(self, scope: Message, wire: Wire) -> None:
        OPENROUTER.authorize(_headers(scope))
        await wire.whole(_json(side.key(self.journal.usage_usd)))

    async def account(self, scope: Message, wire: Wire) -> None:
        OPENROUTER.authorize(_headers(scope))
        await wire.whole(_json(side.account(self.journal.usage_usd)))

    # --- Controls ---------------------------------------------------------------------------

    async def calls(self, _: Message, wire: Wire) -> None:
        shown = [call.view() for call in self.journal.calls[-CALLS_SHOWN_MAX:]]
        await wire.whole(_json({"counters": self.journal.counters(), "calls": shown}))

    async def reset(self, _: Message, wire: Wire) -> None:
        self.journal.reset()
        self.default = self.config.default
        await wire.whole(_json({"directive": self.default}))

    async def show_default(self, _: Message, wire: Wire) -> None:
        await wire.whole(_json({"directive": self.default}))

    async def set_default(self, _: Message, wire: Wire) -> None:
        try:
            given = msgspec.json.decode(await wire.body(BODY_BYTES_MAX), type=_Default)
            directives.parse(given.directive)
        except (msgspec.MsgspecError, BadDirective) as error:
            raise Refusal(400, f"Sandbox directive: {error}") from error
        self.default = given.directive
        await wire.whole(_json({"directive": self.default}))


class _Default(msgspec.Struct):
    directive: str


_ROUTES: dict[str, dict[str, Handler]] = {
    "/api/v1/chat/completions": {"POST": partial(Sandbox.answer, dialect=OPENROUTER)},
    "/api/v1/generation": {"GET": Sandbox.generation},
    "/api/v1/models": {"GET": Sandbox.models},
    "/api/v1/activity": {"GET": Sandbox.activity},
    "/api/v1/key": {"GET": Sandbox.key},
    "/api/v1/credits": {"GET": Sandbox.account},
    "/v1/messages": {"POST": Sandbox.messages},
    "/v1/messages/count_tokens": {"POST": Sandbox.count_tokens},
    "/v1/models": {"GET": Sandbox.claudes},
    "/v1/organizations/usage_report/messages": {"GET": Sandbox.usage_report},
    "/v1/organizations/cost_report": {"GET": Sandbox.cost_report},
    "/_sandbox/calls": {"GET": Sandbox.calls},
    "/_sandbox/reset": {"POST": Sandbox.reset},
    "/_sandbox/default": {"GET": Sandbox.show_default, "POST": Sandbox.set_default},
}


def _headers(scope: Message) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _note(dialect: Dialect, call: Call, x: Exchange) -> None:
    """What is known of the call before its reply."""
    call.model, call.provider, call.stream = x.model, dialect.provider(x), x.question.stream
    call.fault = x.directive.fault or ""
    call.billed_usd, call.generation_ms = x.directive.billed, x.directive.generation_ms


def _finish(dialect: Dialect, x: Exchange, state: State) -> tuple[str | None, str | None]:
    """The finish reasons of a receipt: none for what was broken off, `error` for what failed at the provider."""
    fault = x.directive.damage
    if fault and fault.bills == "free":
        return "error", None
    return (x.finish, dialect.native_finish(x)) if state == "finished" else (None, None)


def _billed(x: Exchange, call: Call, state: State) -> bill.Bill:
    fault = x.directive.damage
    how = fault.bills if fault else "delivered" if state == "cancelled" else "full"
    if how == "full":
        return x.bill
    if how == "nothing":
        return bill.NOTHING
    hidden = 0 if x.question.reasoning_shown else len(x.answer.reasoning)
    delivered = bill.of_delivered(x.question, call.delivered_tokens + hidden, x.directive, x.card)
    return bill.free(delivered) if how == "free" else delivered


def _json(value: Any) -> Whole:
    return Whole(200, JSON, ENCODER.encode(value))


def _wrong_method(methods: dict[str, Handler]) -> Whole:
    refused = errors.error(405, "Method Not Allowed")
    allow = (b"allow", ", ".join(sorted(methods)).encode())
    return msgspec.structs.replace(refused, headers=(*refused.headers, allow))
