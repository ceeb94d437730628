import re
from typing import Any

MESSAGE_CHARS_MAX = 500
RETRY_AFTER_S_MAX = 3600.0
RETRY_AFTER_S = 1.0
CONTEXT_TEXT = re.compile(
    r"context.{0,12}(length|window|size|limit)|maximum context|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)

_REDACTED = "[…]"
_IDS = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{6,}"  # keys
    r"|\b(?:user|org|proj|req|request|acct|account|key|gen|chatcmpl|cmpl|resp|msg|file|ws|sess|session|cus|batch|run)"
    r"[-_](?=[\w-]*[0-9A-Z])[\w-]{6,}"  # user_2abC…, org-…, req_…, gen-179…; not user_location
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?=\w*[0-9])\w{24,}\b"  # long codes
    r"|[\w.+-]+@[\w-]+\.[\w.]+"  # mail addresses
)


def told(message: str) -> str:
    cleaned = cleaned_message(message)
    return f"The provider refused the request: {cleaned}" if cleaned else "The provider refused the request."


def cleaned_message(message: str) -> str:
    """A provider's words without our ids, on one line, not too long."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in message[: MESSAGE_CHARS_MAX * 2]).split())
    redacted = _IDS.sub(_REDACTED, one_line)
    return redacted if len(redacted) <= MESSAGE_CHARS_MAX else redacted[: MESSAGE_CHARS_MAX - 1] + "…"


def seconds(value: Any) -> float | None:
    """Of a Retry-After: its date form says nothing without a clock, and providers send numbers."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 < seconds < float("inf") else None
