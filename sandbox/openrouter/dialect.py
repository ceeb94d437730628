"""OpenRouter's door: what `sandbox/dialect.py` asks of a wire format."""

import secrets
import string

from sandbox.conversation import Refusal
from sandbox.exchange import Exchange
from sandbox.openrouter import errors, replies, request, shapes
from sandbox.steps import Steps, Whole

INVALID_KEY = "invalid"
_ALPHABET = string.ascii_letters + string.digits
_ID_CHARS = 20


class OpenRouter:
    kind = "openrouter"

    def new_id(self, now: float) -> str:
        return f"gen-{int(now)}-{''.join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))}"

    def authorize(self, headers: dict[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "No auth credentials found")
        if key.strip() == INVALID_KEY:
            raise Refusal(401, "User not found.")

    def decode(self, headers: dict[str, str], body: bytes) -> request.Request:
        media_type = headers.get("content-type", "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            raise Refusal(400, "Content-Type must be application/json", {"error_type": "invalid_request"})
        return request.decode(body)

    def unknown_model(self, model: str) -> Refusal:
        return Refusal(400, f"{model} is not a valid model ID", {"error_type": "invalid_request"})

    def refused(self, refusal: Refusal) -> Whole:
        return errors.refused(refusal)

    def steps(self, x: Exchange) -> Steps:
        return replies.steps(x)

    def provider(self, x: Exchange) -> str:
        return shapes.provider(x)

    def native_finish(self, x: Exchange) -> str:
        return shapes.native_finish(x)
