"""What every provider's adapter promises, and the structs that cross its border. Pure.

An adapter translates: a Chat and a Route into an upstream request, the upstream's answer into an
Answer, its events into Chunks, its failures into one of our errors. It knows no network, no
database, no settings. What comes back from an upstream is input: typed, bounded, never passed on raw.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, Protocol

import msgspec
from msgspec import Raw, Struct, field

from billing.money import Usage
from completions import errors
from completions.catalog import Route
from completions.needs import needs
from completions.schema import Chat

CONTEXT_TOKENS_MAX = 10_000_000  # no model's context is longer; who knows the route says so
ABSURD_FACTOR = 10


class UpstreamRequest(Struct, frozen=True):
    """A POST to `base_url + path`."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


FailureKind = Literal[
    "refused",  # the client's request: another route would refuse it too
    "our_account",  # our key, credits or permissions upstream: the operator's alert
    "unavailable",  # down, overloaded, too slow, or without this model
    "nonsense",  # an answer that is none
]


class UpstreamFailure(Struct, frozen=True):
    """Why there is no (whole) answer. `error` is what the client is told before the first byte; its
    message may quote the prompt (a provider's words), so it is never logged. `detail` is for the log."""

    kind: FailureKind
    error: errors.GatewayError
    detail: str
    status: int | None = None

    @property
    def may_fail_over(self) -> bool:
        """Whether another route of the model is worth a try."""
        return self.kind != "refused"

    @property
    def is_our_account(self) -> bool:
        return self.kind == "our_account"


class Reported(Struct, frozen=True):
    """What the provider says the call consumed. `usage` is None when it said nothing usable; `problem`
    is None, "malformed", "negative" or "absurd". `cost_usd` is what our account was charged, for comparison.
    `is_partial`: said at the start of an answer, its output is still to come."""

    usage: Usage | None = None
    cost_usd: Decimal | None = None
    problem: str | None = None
    is_partial: bool = False


class FunctionCall(Struct, frozen=True):
    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    id: str
    type: str
    function: FunctionCall


class Message(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The assistant's message as our client sees it. `content` and `refusal` are always there."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning: str | None = None
    reasoning_details: Raw | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    annotations: Raw | None = None
    images: Raw | None = None
    audio: Raw | None = None


class Choice(Struct, frozen=True):
    index: int
    message: Message
    finish_reason: str
    logprobs: Raw


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer. With a `failure` the choices hold what came before it, perhaps nothing."""

    choices: tuple[Choice, ...] = ()
    reported: Reported = Reported()
    failure: UpstreamFailure | None = None
    provider_ref: str | None = None
    system_fingerprint: str | None = None
    output_bytes: int = 0  # UTF-8 bytes of what the model wrote, for an estimate


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A fragment of a call: `index`, and id, type and name with the first fragment only."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta


class Delta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one event adds, never an empty string. The role is said by the writer of our stream alone, once."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Raw]] | None = None
    tool_calls: list[ToolCallDelta] | None = None
    annotations: list[dict[str, Raw]] | None = None
    images: list[dict[str, Raw]] | None = None
    audio: Raw | None = None


def no_logprobs() -> Raw:
    return Raw(b"null")


class ChoiceDelta(Struct, frozen=True):
    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: Raw = field(default_factory=no_logprobs)  # not as a value: a JSON schema could not hold it


class Chunk(Struct, frozen=True, kw_only=True):
    """What one upstream event means. All of it may be empty: then it only shows that the provider is at work."""

    choices: tuple[ChoiceDelta, ...] = ()
    reported: Reported | None = None
    failure: UpstreamFailure | None = None
    provider_ref: str | None = None
    system_fingerprint: str | None = None
    output_bytes: int = 0  # UTF-8 bytes of what the model wrote in this event


class StreamDecoder(Protocol):
    """One stream's memory. Feed it the data of every event, then `close` it when the body has ended."""

    finished: bool  # the stream has said that it is complete

    def event(self, data: bytes) -> Chunk | None:
        """None: nothing for anybody. After a Chunk with a failure, stop."""

    def close(self) -> Chunk | None:
        """What the end of the body means: a failure if it was cut off, else perhaps a missing finish_reason."""


class Unsupported(Struct, frozen=True):
    """A field, or a place in one, that a route cannot honour; `why` is for where the field's name does not say it."""

    field: str
    why: str = ""


class Untranslatable(Exception):
    """What a translation stops at: there is no word for it in the provider's language."""

    def __init__(self, field: str, why: str = "") -> None:
        super().__init__(field)
        self.unsupported = Unsupported(field, why)


class Adapter(Protocol):
    """A provider kind. Stateless: one instance serves every call."""

    def unsupported(self, chat: Chat, route: Route) -> list[Unsupported]:
        """The fields this route cannot honour; empty when it can take the request."""

    def output_tokens_min(self, chat: Chat, route: Route) -> int:
        """The least output bound with which the provider takes the request; 1 for most."""

    def request(
        self, chat: Chat, route: Route, *, output_bound: int | None, stream: bool, secret: str
    ) -> UpstreamRequest:
        """The upstream request. Call `unsupported` first: this one drops nothing that asks for something."""

    def answer(self, body: bytes, *, context_length: int = CONTEXT_TOKENS_MAX) -> Answer:
        """The meaning of a 200's whole body. Never raises: nonsense is a failure too."""

    def decoder(self, *, context_length: int = CONTEXT_TOKENS_MAX) -> StreamDecoder: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """The meaning of any other status. Header names in lower case; the body may be cut."""


def unsupported_by(chat: Chat, route: Route) -> list[Unsupported]:
    """The fields that need a capability the route does not have."""
    fields = dict.fromkeys(field for capability, field in needs(chat) if capability not in route.capabilities)
    return [Unsupported(field) for field in fields]


def problem_of(usage: Usage, context_length: int) -> str | None:
    """What cannot be true about figures that came from outside."""
    numbers = msgspec.structs.astuple(usage)
    if min(numbers) < 0:
        return "negative"
    return "absurd" if max(numbers) > context_length * ABSURD_FACTOR else None


def message_bytes(message: Message) -> int:
    """UTF-8 bytes of what the model wrote."""
    texts = [message.content, message.reasoning, message.refusal]
    for call in message.tool_calls or ():
        texts += [call.function.name, call.function.arguments]
    return sum(_utf8_bytes(text) for text in texts)


def delta_bytes(delta: Delta) -> int:
    size = _utf8_bytes(delta.content) + _utf8_bytes(delta.reasoning) + _utf8_bytes(delta.refusal)
    for call in delta.tool_calls or ():
        size += _utf8_bytes(call.function.name) + _utf8_bytes(call.function.arguments)
    return size


def _utf8_bytes(text: str | None) -> int:
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode())


NONSENSE = "The provider's answer could not be understood."
CUT_OFF = "The provider broke off its answer."


def nonsense(detail: str) -> UpstreamFailure:
    return UpstreamFailure("nonsense", errors.ProviderUnavailable(NONSENSE), detail)


def cut_off() -> UpstreamFailure:
    return UpstreamFailure("unavailable", errors.ProviderUnavailable(CUT_OFF), "the stream ended early")
