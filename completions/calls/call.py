"""One call while it runs, and what its end means in money. No I/O.

The conductor (gateway.py) and the relay fill a Call in; `ending` turns it into the one command that
closes its hold. Every way a call can end comes through there.
"""

import time
from typing import Any
from uuid import UUID

import msgspec

from accounts.principals import Principal
from billing.ledger import FailedAttempt, Receipt, Settle, Settled, Void
from billing.pricing import money
from completions.calls.bounds import estimated_usage
from completions.calls.idempotency import Claim
from completions.calls.limits import Permit
from completions.calls.limits import headers as limit_headers
from completions.chat.answer import Answer, Chunk, Reported
from completions.chat.request import Chat
from completions.chat.tokens import estimate_completion_tokens
from completions.dialects.openai_chat.answers import UsageView, usage_view
from completions.errors import GatewayError
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure

Attempt = dict[str, str | int]  # provider, outcome, milliseconds

PROVIDER_HEADER = "x-quantized-provider"
ATTEMPTS_HEADER = "x-quantized-attempts"
CANCELLED = "client_left"
PROVIDER_WORD_CHARS_MAX = 200
# OpenRouter knows a generation a little after it ended; Anthropic and plain servers have no look-up.
RECONCILED_KINDS = {"openrouter": 5}


class Call:
    """Mutable, and owned by one task. Times are monotonic seconds, `created` is Unix time."""

    def __init__(
        self,
        hold_id: UUID,
        principal: Principal,
        chat: Chat,
        routes: tuple[Route, ...],
        prompt_tokens_max: int,
        output_bound: int,
    ) -> None:
        self.hold_id = hold_id
        self.principal = principal
        self.chat = chat
        self.routes = routes
        self.route = routes[0]  # the one being asked, in the end the one that answered
        self.attempts: list[Attempt] = []
        self.failed: list[FailedAttempt] = []  # after they had begun: their providers may bill us
        self.permit: Permit | None = None  # of a key with rate limits
        self.claim: Claim | None = None  # of a request with an Idempotency-Key
        self.kept: list[bytes] = []  # of a stream with a claim: what was written so far
        self.prompt_tokens_max = prompt_tokens_max
        self.output_bound = output_bound
        self.created = int(time.time())
        self.started_s = self.attempt_started_s = time.monotonic()
        self.first_token_ms: int | None = None
        self.begun = False  # the provider has answered 200: from here on it may bill us
        self.cancelled = False
        self.failure: UpstreamFailure | None = None
        self.reported: Reported | None = None
        self.answer: Answer | None = None  # of a call that is not streamed
        self.provider_ref = ""
        self._provider_said: str | None = None  # of the reference: streams say it in every event
        self.system_fingerprint: str | None = None
        self.output_bytes = 0
        self.finish_reason = ""
        self.billed: money.Usage | None = None  # set by `ending`; None when nothing is charged

    @property
    def id(self) -> str:
        return f"gen-{self.hold_id.hex}"

    @property
    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.started_s) * 1000)

    def usage_view(self, settled: Settled) -> UsageView:
        """The usage as the client is told it: what the entry of this call took, and left."""
        assert self.billed is not None
        return usage_view(self.billed, credits_used=settled.charged, credits_remaining=settled.remaining)

    @property
    def outcome(self) -> str:
        """One word for the log, the receipt and the usage row's error code; "" for an answered call."""
        if self.failure is not None:
            return self.failure.error.code if self.failure.kind == "refused" else self.failure.kind
        return CANCELLED if self.cancelled else ""

    def headers(self) -> dict[str, str]:
        """What the answer's headers say: the receipt's id, who served, what was tried before, the key's limits."""
        name = self.route.provider.name
        tried = [f"{attempt['provider']}={attempt['outcome']}" for attempt in self.attempts]
        told = {"x-generation-id": self.id, PROVIDER_HEADER: name}
        if any(attempt["outcome"] != "ok" for attempt in self.attempts):
            is_served = self.failure is None and not tried[-1].endswith("=ok")
            told[ATTEMPTS_HEADER] = ", ".join([*tried, f"{name}=ok"] if is_served else tried)
        return told | (limit_headers(self.permit) if self.permit is not None else {})

    def error(self) -> GatewayError:
        """What the client of a failed call is told, if nothing was before."""
        assert self.failure is not None
        self.failure.error.call_headers = self.headers()
        return self.failure.error

    def turn_to(self, route: Route) -> None:
        """Ask this route next; of what an earlier one left, only its bill is to be heard of."""
        if self.begun:
            self.failed.append(FailedAttempt(self.route.provider.name, self.provider_ref, self.look_up_after_s))
        self.route = route
        self.attempt_started_s = time.monotonic()
        self.begun = False
        self.failure = self.reported = self.system_fingerprint = None
        self._provider_said = None
        self.provider_ref = self.finish_reason = ""
        self.output_bytes = 0

    @property
    def look_up_after_s(self) -> int | None:
        """How long after the call its provider can be asked for the bill; None if not at all."""
        if not self.begun or not self.provider_ref:
            return None
        return RECONCILED_KINDS.get(self.route.provider.kind)

    def attempted(self, route: Route, outcome: str) -> None:
        milliseconds = int((time.monotonic() - self.attempt_started_s) * 1000)
        self.attempts.append({"provider": route.provider.name, "outcome": outcome, "milliseconds": milliseconds})

    def begin(self, provider_ref: str | None) -> None:
        self.begun = True
        self.provider_ref = storable(provider_ref)

    def absorb_chunk(self, chunk: Chunk) -> None:
        """Remember what one event says about the call as a whole."""
        self.output_bytes += chunk.output_bytes
        if chunk.reported is not None:
            self.reported = chunk.reported
        if chunk.failure is not None:
            self.failure = chunk.failure
        if chunk.provider_ref != self._provider_said:
            self._provider_said = chunk.provider_ref
            self.provider_ref = storable(chunk.provider_ref) or self.provider_ref
        self.system_fingerprint = chunk.system_fingerprint or self.system_fingerprint
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self.finish_reason = storable(choice.finish_reason) or self.finish_reason
        if self.first_token_ms is None and chunk.choices:
            self.first_token_ms = self.elapsed_ms

    def absorb_answer(self, answer: Answer) -> None:
        self.answer = answer
        self.output_bytes = answer.output_bytes
        self.reported = answer.reported
        self.failure = answer.failure
        self.provider_ref = storable(answer.provider_ref) or self.provider_ref
        self.system_fingerprint = answer.system_fingerprint
        self.finish_reason = storable(answer.choices[0].finish_reason) if answer.choices else ""
        self.first_token_ms = self.elapsed_ms


def storable(text: str | None) -> str:
    """A provider's word as the books can hold it: a settlement must not fail for a NUL in an id."""
    return "".join(filter(str.isprintable, text or ""))[:PROVIDER_WORD_CHARS_MAX]


def billed_usage(call: Call) -> tuple[money.Usage, bool] | None:
    """The usage to charge and whether it is an estimate; None when nothing is to be paid.

    Nothing is charged for a call that failed without output (without any answer delivered, if it
    was not streamed), nor for one whose client left before the provider began to answer. A reported
    zero is zero; missing or absurd figures become an estimate of what was delivered, and so does the
    output of a provider that had only told the prompt's side yet.
    """
    delivered = call.output_bytes if call.chat.stream else 0
    if (call.failure is not None and not delivered) or not call.begun:
        return None
    # Never beyond what the hold covers: the provider was told the bound.
    estimate = min(estimate_completion_tokens(call.output_bytes), call.output_bound)
    if call.reported is None or call.reported.usage is None:
        return estimated_usage(min(call.prompt_tokens_max, call.route.context_length), estimate), True
    if call.reported.is_partial:
        so_far = max(call.reported.usage.completion_tokens, estimate)
        return msgspec.structs.replace(call.reported.usage, completion_tokens=so_far), True
    return call.reported.usage, False


def ending(call: Call, rate: money.CreditRate) -> Settle | Void:
    """The command that closes the call's hold, with its receipt."""
    billed = billed_usage(call)
    usage, estimated = billed or (money.Usage(), False)
    call.billed = usage if billed else None
    cost_pico = money.cost_pico(usage, call.route.price) if billed else 0
    settled: dict[str, Any] = {
        "wallet_id": call.principal.organization_id,
        "hold_id": call.hold_id,
        "key_id": call.principal.key_id,
        "receipt": _receipt(call, usage, cost_pico, estimated),
    }
    return Settle(actual=rate.micro(cost_pico), **settled) if billed else Void(**settled)


def _receipt(call: Call, usage: money.Usage, cost_pico: int, estimated: bool) -> Receipt:
    """Also of a call that is not charged: what had begun to answer may be billed to us, and is looked up."""
    provider = call.route.provider
    due_s = call.look_up_after_s
    latency_ms = call.elapsed_ms
    return Receipt(
        model=call.route.model,
        provider=provider.name,
        price_id=call.route.price.id,
        provider_ref=call.provider_ref,
        usage=usage,
        cost_pico=cost_pico,
        reported_cost_usd=call.reported.cost_usd if call.reported else None,
        streamed=call.chat.stream,
        cancelled=call.cancelled,
        estimated=estimated,
        finish_reason=call.finish_reason,
        error_code=call.outcome,
        attempts=tuple(call.attempts),
        failed=tuple(call.failed),
        first_token_ms=call.first_token_ms,
        latency_ms=latency_ms,
        reconciliation="none" if due_s is None else "pending",
        reconcile_after_s=due_s,
    )
