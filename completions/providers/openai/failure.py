"""Errors of OpenAI-compatible providers, by status, body or event → UpstreamFailure. Pure.

Bodies come in many layouts: `error` as object, string or absent; `code` as number
or word; OpenRouter's `metadata.error_type`, `availability`, or both keys right under `error`. They
carry ids of our own account, so only a cleaned message of a refusal ever goes on to the client.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from completions import errors
from completions.providers.words import CONTEXT_TEXT, RETRY_AFTER_S, RETRY_AFTER_S_MAX, seconds, told
from completions.upstream.failure import UpstreamFailure

# OpenRouter's stable words for what an event or a 200's body says without a status.
_STATUS_OF = {
    "context_length_exceeded": 400,
    "max_tokens_exceeded": 400,
    "token_limit_exceeded": 400,
    "string_too_long": 400,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "content_policy_violation": 400,
    "refusal": 400,
    "invalid_image": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "unsupported_image_format": 400,
    "image_download_failed": 400,
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "image_not_found": 404,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
}
_REFUSALS = (400, 412, 413, 422)
_OUR_ACCOUNT = (401, 402, 403)

_CONTENT_WORDS = {"content_policy_violation", "content_filter", "refusal", "moderation_blocked"}
_CONTEXT_WORDS = {"context_length_exceeded", "token_limit_exceeded", "string_too_long"}
_MODEL_WORDS = {"model_not_found", "wrong_endpoint", "no_endpoints", "model_deprecated", "model_unavailable_upstream"}
_ACCOUNT_WORDS = {"invalid_api_key", "insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_MODEL_TEXT = re.compile(r"is not a valid model id|model .{0,80}(does not exist|not found)", re.IGNORECASE)
_WORD = re.compile(r"[a-z][a-z0-9_]{1,63}\Z")
_PARAM = re.compile(r"[A-Za-z][\w.\[\]-]{0,99}\Z")


class _Said(Struct, frozen=True, kw_only=True):
    """What an error's JSON says, whatever its layout."""

    code: int | None
    words: frozenset[str]
    message: str
    param: str | None
    is_moderation: bool
    retry_after_s: float | None


def failure_of_response(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """An answer with a status that is not 200."""
    said = _read(_json(body))
    return _failure(status, said, seconds(headers.get("retry-after")) or said.retry_after_s)


def failure_of_error(error: bytes) -> UpstreamFailure:
    """The JSON of an error inside a 200: of an event, of a choice, or of the body."""
    said = _read(_json(error))
    known = (_STATUS_OF[word] for word in sorted(said.words) if word in _STATUS_OF)
    return _failure(said.code or next(known, 502), said, said.retry_after_s)


def _failure(status: int, said: _Said, retry_after_s: float | None) -> UpstreamFailure:
    detail = f"status {status} {' '.join(sorted(said.words))}".rstrip()
    retry_after_s = min(retry_after_s or RETRY_AFTER_S, RETRY_AFTER_S_MAX)
    unavailable = errors.ProviderUnavailable(retry_after_s=retry_after_s)
    if said.is_moderation or (status in (*_REFUSALS, 403) and said.words & _CONTENT_WORDS):
        return UpstreamFailure("refused", errors.ContentPolicy(), detail, status)
    if status in _OUR_ACCOUNT or said.words & _ACCOUNT_WORDS:
        return UpstreamFailure("provider_auth", unavailable, detail, status)
    if status in _REFUSALS and not _is_about_our_model(said):
        return UpstreamFailure("refused", _refusal(said), detail, status)
    return UpstreamFailure("unavailable", unavailable, detail, status)


def _is_about_our_model(said: _Said) -> bool:
    """The client asked for a model of our catalog: if the upstream does not know it, that is our trouble."""
    return bool(said.words & _MODEL_WORDS) or _MODEL_TEXT.search(said.message) is not None


def _refusal(said: _Said) -> errors.InvalidRequest:
    if said.words & _CONTEXT_WORDS or CONTEXT_TEXT.search(said.message):
        return errors.ContextLengthExceeded(told(said.message))
    return errors.InvalidRequest(told(said.message), param=said.param)


# --- Reading --------------------------------------------------------------------------------------


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # an HTML page of some proxy: the status is all we know


def _read(value: Any) -> _Said:
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's compatible endpoint wraps its errors in an array
    outer = value if isinstance(value, dict) else {"message": value}
    inner = outer.get("error")
    error = inner if isinstance(inner, dict) else {**outer, "message": inner or outer.get("message")}
    metadata, availability = _object(error, "metadata"), _object(error, "availability")
    return _Said(
        code=_status(error.get("code")) or _status(error.get("http_status")) or _status(error.get("status")),
        words=_words(error, metadata, availability),
        message=_message(error, metadata, outer),
        param=_param(error.get("param")),
        is_moderation=any(key in metadata for key in ("flagged_input", "reasons", "patterns")),
        retry_after_s=seconds(availability.get("retry_after")) or seconds(metadata.get("retry_after")),
    )


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _status(code: Any) -> int | None:
    text = str(code)
    return int(text) if text.isascii() and text.isdecimal() and 400 <= int(text[:4]) <= 599 else None


def _words(error: dict[str, Any], metadata: dict[str, Any], availability: dict[str, Any]) -> frozenset[str]:
    candidates = (
        *(error.get(key) for key in ("code", "type", "error_type")),
        *(metadata.get(key) for key in ("error_type", "provider_code")),
        availability.get("code"),
    )
    return frozenset(word for word in candidates if isinstance(word, str) and _WORD.match(word))


def _message(error: dict[str, Any], metadata: dict[str, Any], outer: dict[str, Any]) -> str:
    """OpenRouter's "Provider returned error" says nothing: the useful text is in `metadata.raw`."""
    for candidate in (_raw_message(metadata.get("raw")), error.get("message"), outer.get("detail")):
        if isinstance(candidate, str) and candidate:
            return candidate
    return ""


def _raw_message(raw: Any) -> Any:
    """A string, a JSON string, or an object."""
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        raw = _json(raw.encode(errors="replace")) or raw
    if not isinstance(raw, dict):
        return raw
    return _object(raw, "error").get("message") or raw.get("message")


def _param(param: Any) -> str | None:
    return param if isinstance(param, str) and _PARAM.match(param) else None
