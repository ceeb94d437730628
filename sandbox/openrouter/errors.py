"""What OpenRouter says when it does not answer: an HTTP status and `{"error": ...}`."""

from typing import Any

from sandbox.conversation import Refusal
from sandbox.openrouter.shapes import ENCODER, JSON
from sandbox.steps import Whole

USER_ID = "user_2abcdefghijklmnopqrstuvwxyz"
WITHOUT_ACCOUNT = frozenset({401, 405})  # no key, no account to name

Metadata = dict[str, Any]

# What it says for a status, and the metadata that comes with it.
SAYINGS: dict[int, tuple[str, Metadata | None]] = {
    400: ("Provider returned error", {"raw": '{"error":{"message":"Bad request"}}', "provider_name": "OpenAI"}),
    401: ("User not found.", None),
    402: (
        "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only "
        "afford 27342.",
        {"provider_name": None},
    ),
    403: (
        "Your input was flagged",
        {"reasons": ["violence"], "flagged_input": "...", "provider_name": "OpenAI", "model_slug": "openai/gpt-4.1"},
    ),
    404: ("No endpoints found matching your data policy", None),
    408: ("Request timed out", {"error_type": "timeout"}),
    413: ("Request body is too large", {"error_type": "payload_too_large"}),
    422: ("Unprocessable request", {"error_type": "unprocessable"}),
    429: ("Provider returned error", {"raw": "upstream is temporarily rate-limited", "provider_name": "Google"}),
    500: ("Internal Server Error", None),
    502: ("Provider returned error", {"error_type": "provider_unavailable", "provider_code": "stream_closed"}),
    503: ("Provider is overloaded", {"error_type": "provider_overloaded"}),
    524: ("Provider timed out at the edge", {"error_type": "timeout"}),
    529: ("Provider is overloaded", {"error_type": "provider_overloaded"}),
}


def saying(status: int) -> tuple[str, Metadata | None]:
    return SAYINGS.get(status, ("Provider returned error", None))


def refused(refusal: Refusal) -> Whole:
    return error(refusal.status, refusal.message, refusal.metadata)


def error(status: int, message: str, metadata: Metadata | None = None, retry_after_s: int | None = None) -> Whole:
    wait = () if retry_after_s is None else ((b"retry-after", b"%d" % retry_after_s),)
    return Whole(status, (*JSON, *wait), ENCODER.encode(error_body(status, message, metadata)))


def error_body(code: int, message: str, metadata: Metadata | None) -> dict[str, Any]:
    told: dict[str, Any] = {"message": message, "code": code}
    if metadata is not None:
        told["metadata"] = metadata
    return {"error": told} if code in WITHOUT_ACCOUNT else {"error": told, "user_id": USER_ID}
