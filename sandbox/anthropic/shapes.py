"""What every part of a reply says: headers, ids, names."""

import secrets
import string
from typing import Any

import msgspec

from sandbox.exchange import Exchange
from sandbox.steps import Headers

MARK: Headers = ((b"x-quantized-sandbox", b"true"), (b"anthropic-organization-id", b"0b7c4f9e-sandbox"))
JSON: Headers = ((b"content-type", b"application/json"), *MARK)
EVENT_STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), *MARK)
ENCODER = msgspec.json.Encoder()

_ALPHABET = string.ascii_letters + string.digits
_ID_CHARS = 22
_NATIVE_FINISH = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
REFUSAL_DETAILS = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The request was declined by the sandbox's model.",
}


def new_id(kind: str) -> str:
    """`msg_01...`, `req_011C...`"""
    return f"{kind}_01{''.join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))}"


def request_id() -> Headers:
    return ((b"request-id", new_id("req").encode()),)


def stop_reason(x: Exchange) -> str:
    """A directive may name one that no brain has: `pause_turn`, `refusal` ..."""
    return _NATIVE_FINISH.get(x.finish, x.finish)


def stop(x: Exchange) -> dict[str, Any]:
    reason = stop_reason(x)
    details = REFUSAL_DETAILS if reason == "refusal" else None
    sequence = next(iter(x.question.stop), None) if reason == "stop_sequence" else None
    return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": details}


def call_id(call: str) -> str:
    return "toolu_01" + call.removeprefix("call_")
