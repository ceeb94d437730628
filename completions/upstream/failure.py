from typing import Literal

from msgspec import Struct

from completions import errors

FailureKind = Literal[
    "refused",  # the client's request: another route would refuse it too
    "provider_auth",  # our key, credits or permissions upstream: the operator's alert
    "unavailable",  # down, overloaded, too slow, or without this model
    "malformed_response",  # what came is no answer
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
    def is_provider_auth(self) -> bool:
        return self.kind == "provider_auth"


NOT_UNDERSTOOD = "The provider's answer could not be understood."
CUT_OFF = "The provider broke off its answer."


def malformed(detail: str) -> UpstreamFailure:
    return UpstreamFailure("malformed_response", errors.ProviderUnavailable(NOT_UNDERSTOOD), detail)


def cut_off() -> UpstreamFailure:
    return UpstreamFailure("unavailable", errors.ProviderUnavailable(CUT_OFF), "the stream ended early")
