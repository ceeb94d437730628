"""One call while it runs: what was asked, where it is, what came back. No I/O.

Holds (holds.py) make it, attempts (attempts.py) fill it in, settlement (settlement.py) closes it.
"""

import time
from uuid import UUID

from accounts.callers import Principal
from billing.ledger.commands import Attempt, FailedAttempt
from billing.pricing import money
from common.ids import generation_id
from completions.ask import Ask, Progress, Reported
from completions.calls.idempotency import Claim
from completions.calls.limits import Admission
from completions.providers.kinds import KINDS
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure

CLIENT_DISCONNECTED = "client_disconnected"
OK = "ok"
PROVIDER_WORD_CHARS_MAX = 200


class Call:
    """Mutable, and owned by one task. Times are monotonic seconds, `created` is Unix time."""

    def __init__(
        self,
        hold_id: UUID,
        principal: Principal,
        ask: Ask,
        routes: tuple[Route, ...],
        rate: money.CreditRate,
        output_bound: int,
    ) -> None:
        self.hold_id = hold_id
        self.id = generation_id(hold_id)
        self.principal = principal
        self.ask = ask
        self.routes = routes
        self.route = routes[0]  # the one being asked, in the end the one that answered
        self.rate = rate
        self.output_bound = output_bound  # tokens
        self.attempts: list[Attempt] = []
        self.failed: list[FailedAttempt] = []  # attempts that failed after a 200: their providers may bill us
        self.admission: Admission | None = None  # None without rate limits
        self.claim: Claim | None = None  # None without an Idempotency-Key
        self.written: list[
            bytes
        ] = []  # the answer writer's pieces; kept for a whole answer, and for a call with a claim
        self.created = int(time.time())
        self.started_s = self.attempt_started_s = time.monotonic()
        self.first_token_ms: int | None = None
        self.begun = False  # the provider has answered 200: from here on it may bill us
        self.cancelled = False
        self.failure: UpstreamFailure | None = None
        self.reported: Reported | None = None
        self.provider_ref = ""
        self._raw_provider_ref: str | None = (
            None  # unchecked: every event of a stream repeats it, and only a new one is looked at
        )
        self.system_fingerprint: str | None = None
        self.output_bytes = 0
        self.finish_reason = ""
        self.billed: money.Usage | None = None  # set by settlement; None when nothing is charged

    @property
    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.started_s) * 1000)

    @property
    def outcome(self) -> str:
        """One word for the log, the receipt and the usage row's error code; "" for an answered call."""
        if self.failure is not None:
            return self.failure.error.code if self.failure.kind == "refused" else self.failure.kind
        return CLIENT_DISCONNECTED if self.cancelled else ""

    @property
    def look_up_after_s(self) -> int | None:
        """How long after the call its provider can be asked for the bill; None if not at all."""
        if not self.begun or not self.provider_ref:
            return None
        lookup = KINDS[self.route.provider.kind].lookup
        return lookup.after_s if lookup else None

    # --- what happens to it -----------------------------------------------------------------

    def turn_to(self, route: Route) -> None:
        """Ask this route next. Nothing is left of an earlier route's answer but what its provider may bill us for."""
        if self.begun:
            self.failed.append(FailedAttempt(self.route.provider.name, self.provider_ref, self.look_up_after_s))
        self.route = route
        self.attempt_started_s = time.monotonic()
        self.begun = False
        self.failure = self.reported = self.system_fingerprint = None
        self._raw_provider_ref = None
        self.provider_ref = self.finish_reason = ""
        self.output_bytes = 0

    def begin(self, provider_ref: str | None) -> None:
        """The provider has answered 200."""
        self.begun = True
        self.provider_ref = storable(provider_ref)

    def absorb(self, progress: Progress) -> None:
        """Remember what one piece of the answer says about the call as a whole."""
        self.output_bytes += progress.output_bytes
        if progress.reported is not None:
            self.reported = progress.reported
        if progress.failure is not None:
            self.failure = progress.failure
        if progress.provider_ref != self._raw_provider_ref:
            self._raw_provider_ref = progress.provider_ref
            self.provider_ref = storable(progress.provider_ref) or self.provider_ref
        self.system_fingerprint = progress.system_fingerprint or self.system_fingerprint
        if progress.finish_reason is not None:
            self.finish_reason = storable(progress.finish_reason) or self.finish_reason
        if self.first_token_ms is None and progress.has_output:
            self.first_token_ms = self.elapsed_ms

    def attempted(self, outcome: str) -> None:
        """The end of an attempt at the current route."""
        milliseconds = int((time.monotonic() - self.attempt_started_s) * 1000)
        self.attempts.append(Attempt(self.route.provider.name, outcome, milliseconds))


def storable(text: str | None) -> str:
    """A provider's word as the books can hold it, printable and of at most PROVIDER_WORD_CHARS_MAX characters: a
    settlement must not fail for a NUL in an id."""
    return "".join(filter(str.isprintable, text or ""))[:PROVIDER_WORD_CHARS_MAX]
