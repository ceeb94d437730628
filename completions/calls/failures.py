"""What goes wrong on the way to a provider and back, as one of the translators' failures."""

from collections.abc import Iterable

from completions import errors
from completions.ask import Translator
from completions.calls.circuits import Circuits
from completions.routes import Route
from completions.upstream.client import UpstreamAnswer
from completions.upstream.connection import UpstreamError
from completions.upstream.failure import UpstreamFailure

_UNREACHED = {
    "connect": "The model's provider could not be reached.",
    "timeout": "The model's provider took too long to answer.",
    "broken": "The model's provider broke off its answer.",
    "too_large": "The model's provider sent more than can be an answer.",
}


async def of_status(translator: Translator, response: UpstreamAnswer) -> UpstreamFailure:
    """A provider's answer that is not a 200."""
    headers = {name: value for name in ("retry-after", "content-type") if (value := response.header(name))}
    return translator.failure(response.status, headers, await response.error_body())


def of_exception(error: Exception) -> UpstreamFailure:
    """An exception on the way there and back; one that is not the provider's is our own bug, and logged."""
    if isinstance(error, UpstreamError):
        return UpstreamFailure("unavailable", errors.ProviderUnavailable(_UNREACHED[error.kind]), error.kind)
    errors.log_unexpected(error)
    return UpstreamFailure("malformed_response", errors.InternalError(), type(error).__name__)


def of_open_circuits(circuits: Circuits, routes: Iterable[Route]) -> UpstreamFailure:
    """All of these providers have failed too often lately to be asked right now."""
    retry_after_s = min(circuits.retry_after_s(route.provider.name) for route in routes)
    message = "The model's provider has been failing and is left alone for a moment."
    error = errors.ProviderUnavailable(message, retry_after_s=retry_after_s)
    return UpstreamFailure("unavailable", error, "the circuit is open")


def of_call_too_long() -> UpstreamFailure:
    message = "The model's provider took longer than a call may."
    return UpstreamFailure("unavailable", errors.ProviderUnavailable(message), "the call took too long")


def of_shutdown() -> UpstreamFailure:
    return UpstreamFailure("unavailable", errors.ServerStopping(), "shutdown")
