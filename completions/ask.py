"""All that the pipeline knows of a call: what is asked, the most it may consume, and what comes back. Pure.

    Ask         what a client wants, in no dialect's words; the dialects make it (dialects/)
    Demand      the most that it may consume, before anybody has counted
    Translator  one kind of provider x one operation: an Ask → an upstream request, its answer → Progress (providers/)
    Progress    what one piece of an answer means for the call, with a payload for the dialect's writer alone

Dialects and providers never meet: both stand on this page.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, Protocol

from msgspec import Struct

from billing.pricing.money import Usage
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure
from completions.upstream.request import UpstreamRequest

Operation = Literal["chat", "embeddings"]


class Demand(Struct, frozen=True, kw_only=True):
    """The most a call may consume. Tokens are upper estimates; a Demand never says less than a provider may count."""

    prompt_tokens_max: int
    output_tokens: int | None = None  # the bound the client named; None: it named none
    output_field: str = ""  # how the client calls that bound
    has_output: bool = True  # False: nothing is held for output (embeddings)
    may_write_cache: bool = False
    units: Mapping[str, int] = {}  # what is counted beside tokens, by the name of its count: {"web_searches": 10}


class Ask(Struct, frozen=True):
    """One validated request. `endpoint` is the path it came to: books, metrics and Idempotency-Keys keep it."""

    operation: Operation
    endpoint: str
    model: str
    stream: bool
    body: bytes  # the client's own
    demand: Demand
    content: Any  # what translators and writers of this operation read: a Chat


class Reported(Struct, frozen=True):
    """What the provider says the call consumed. `usage` is None when it said nothing usable; `problem`
    is None, "malformed", "negative" or "absurd". `cost_usd` is what our account was charged, for comparison.
    `is_partial`: said at the start of an answer, its output is still to come."""

    usage: Usage | None = None
    cost_usd: Decimal | None = None
    problem: str | None = None
    is_partial: bool = False


class Progress(Struct, frozen=True, kw_only=True):
    """What one piece of an answer means: an event of a stream, or a whole body. All of it may be empty: then it only
    shows that the provider is at work. With a `failure` it is the last, and holds what came before."""

    payload: Any = ()  # for the dialect's writer: choices, deltas of choices
    has_output: bool = False  # the model has said something: the clock of the first token stops
    output_bytes: int = 0  # UTF-8 bytes of what the model wrote, for an estimate
    finish_reason: str | None = None
    reported: Reported | None = None
    failure: UpstreamFailure | None = None
    provider_ref: str | None = None
    system_fingerprint: str | None = None


class Unsupported(Struct, frozen=True):
    """A field, or a place in one, that a route cannot honour; `why` is for where the field's name does not say it."""

    field: str
    why: str = ""


class Reader(Protocol):
    """One answer, whole or streamed. Feed it the body as it comes, then `close` it at the body's end."""

    finished: bool  # the answer has said that it is complete: what still comes is nothing

    def feed(self, data: bytes) -> Iterable[Progress]:
        """Never raises for what a provider sends: what is malformed is a failure. After a Progress with one, stop."""

    def close(self) -> Progress | None:
        """What the end of the body means: a failure if it was cut off; of a whole answer, all of it."""


class Translator(Protocol):
    """One kind of provider x one operation. Stateless: one instance serves every call."""

    def unsupported(self, ask: Ask, route: Route) -> list[Unsupported]:
        """The fields this route cannot honour; empty when it can take the request."""

    def output_tokens_min(self, ask: Ask, route: Route) -> int:
        """The least output bound, in tokens, with which the provider takes the request; 1 for most."""

    def request(self, ask: Ask, route: Route, output_bound: int | None) -> UpstreamRequest:
        """The upstream request. Call `unsupported` first: this one drops nothing that asks for something."""

    def reader(self, ask: Ask, route: Route, *, streamed: bool) -> Reader:
        """For a 200; `streamed` says what came: events, or a whole body."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """The meaning of any other status. Header names in lower case; the body may be cut."""
