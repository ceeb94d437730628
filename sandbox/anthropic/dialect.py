"""Anthropic's door: what `sandbox/dialect.py` asks of a wire format."""

from typing import Any

import msgspec

from sandbox.anthropic import errors, replies, rules, shapes, side
from sandbox.anthropic.cache import PromptCache
from sandbox.anthropic.generations import MODELS, Generation
from sandbox.anthropic.question import ClaudeQuestion, cache_marks, prompt_tokens, question
from sandbox.anthropic.request import VERSIONS, Body, decode_asked, decode_body
from sandbox.cards import Card
from sandbox.conversation import Refusal
from sandbox.exchange import Exchange
from sandbox.steps import Steps, Whole

INVALID_KEY = "invalid"


class AskedOfClaude:
    """A request that this model takes."""

    def __init__(self, body: Body, version: str, cache: PromptCache) -> None:
        self.model = body.model
        self.user = body.metadata.user_id
        self.metadata = None
        self.bound = body.max_tokens
        self._body = body
        self._version = version
        self._cache = cache

    def question(self, _card: Card) -> ClaudeQuestion:
        generation = generation_of(self.model)
        rules.check(self._body, generation, self._version)
        asked = question(self._body, generation)
        cached = self._cache.pass_through(cache_marks(self._body), generation.cache_tokens_min)
        return msgspec.structs.replace(
            asked,
            cached_tokens=cached.read,
            cache_write_5m_tokens=cached.written_5m,
            cache_write_1h_tokens=cached.written_1h,
        )


class Anthropic:
    """One per sandbox: it remembers what prompts are cached."""

    kind = "anthropic"

    def __init__(self) -> None:
        self._cache = PromptCache()

    def new_id(self, _now: float) -> str:
        return shapes.new_id("msg")

    def authorize(self, headers: dict[str, str]) -> None:
        key, bearer = headers.get("x-api-key", ""), headers.get("authorization", "")
        if key and bearer:
            raise Refusal(401, "only one of x-api-key and authorization may be sent")
        if not key and not bearer:
            raise Refusal(401, "x-api-key header is required")
        if INVALID_KEY in (key, bearer.removeprefix("Bearer ")):
            raise Refusal(401, "invalid x-api-key")

    def decode(self, headers: dict[str, str], body: bytes) -> AskedOfClaude:
        check_headers(headers)
        return AskedOfClaude(decode_body(body), headers["anthropic-version"], self._cache)

    def unknown_model(self, model: str) -> Refusal:
        return _unknown(model)

    def refused(self, refusal: Refusal) -> Whole:
        return errors.refused(refusal)

    def steps(self, x: Exchange) -> Steps:
        return replies.steps(x)

    def provider(self, _x: Exchange) -> str:
        return "Anthropic"

    def native_finish(self, x: Exchange) -> str:
        return shapes.stop_reason(x)

    # --- beside the answers -------------------------------------------------------------------

    def count_tokens(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        check_headers(headers)
        asked = decode_asked(body)
        rules.check_asked(asked, generation_of(asked.model))
        return {"input_tokens": prompt_tokens(asked)}

    def models(self, wanted: str) -> dict[str, Any]:
        """All of them, or the one that is named."""
        return side.model(wanted, generation_of(wanted)) if wanted else side.models()


def check_headers(headers: dict[str, str]) -> None:
    version = headers.get("anthropic-version", "")
    if not version:
        raise Refusal(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise Refusal(400, f"anthropic-version: {version!r} is not a valid version")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, "Content-Type must be application/json")


def generation_of(model: str) -> Generation:
    if model not in MODELS:
        raise _unknown(model)
    return MODELS[model]


def _unknown(model: str) -> Refusal:
    return Refusal(404, f"model: {model}")
