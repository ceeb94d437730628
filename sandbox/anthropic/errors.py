"""What Anthropic says when it does not answer: an HTTP status and `{"type": "error", ...}`, or an event."""

from typing import Any

from sandbox.anthropic import shapes
from sandbox.anthropic.shapes import ENCODER, JSON
from sandbox.conversation import Refusal
from sandbox.steps import Whole

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
SAYINGS = {
    400: "messages.0: the sandbox was told to refuse this",
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "model: claude-does-not-exist",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your account's rate limit. Please try again later.",
    500: "Internal server error",
    504: "The request timed out",
    529: "Overloaded",
}


def refused(refusal: Refusal) -> Whole:
    return error(refusal.status, refusal.message)


def error(status: int, message: str | None = None, retry_after_s: int | None = None) -> Whole:
    wait = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
    return Whole(status, (*JSON, *shapes.request_id(), *wait), ENCODER.encode(body(status, message)))


def body(status: int, message: str | None = None) -> dict[str, Any]:
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    told = {"type": kind, "message": SAYINGS.get(status, kind) if message is None else message}
    return {"type": "error", "error": told, "request_id": shapes.new_id("req")}
