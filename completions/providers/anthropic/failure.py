"""Anthropic's errors, by status or as an event of a stream → UpstreamFailure. Pure.

The body is `{"type": "error", "error": {"type", "message"}, "request_id"}`; an error in a stream has
no status, so its type stands for one. Request ids are our own account's and go nowhere.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from completions import errors
from completions.providers.words import CONTEXT_TEXT, RETRY_AFTER_S, RETRY_AFTER_S_MAX, seconds, told
from completions.upstream.failure import UpstreamFailure

_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_STATUS_UNSAID = 500
_REFUSALS = (400, 413, 422)
_OUR_ACCOUNT = (401, 402, 403)
# Spend limits and an empty balance come as 400, with nothing but words to tell them by.
_ACCOUNT_TEXT = re.compile(r"credit balance|(usage|spend(ing)?) limit|plans? (&|and) billing", re.IGNORECASE)
_CONTENT_TEXT = re.compile(r"content filtering policy", re.IGNORECASE)


class _Error(Struct, frozen=True):
    type: str = ""
    message: str = ""


class _Body(Struct, frozen=True):
    error: _Error = _Error()


_decoder = msgspec.json.Decoder(_Body)


def failure_of_response(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """An answer with a status that is not 200. Its body may be anything: 413 comes from the edge as HTML."""
    return _failure(status, _error(body), seconds(headers.get("retry-after")))


def failure_of_event(data: bytes) -> UpstreamFailure:
    """An `error` event, or an error inside a 200."""
    error = _error(data)
    return _failure(_STATUS_OF.get(error.type, _STATUS_UNSAID), error, None)


def _error(data: bytes) -> _Error:
    try:
        return _decoder.decode(data).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()


def _failure(status: int, error: _Error, retry_after_s: float | None) -> UpstreamFailure:
    detail = f"status {status} {error.type if error.type in _STATUS_OF else ''}".rstrip()
    retry_after_s = min(retry_after_s or RETRY_AFTER_S, RETRY_AFTER_S_MAX)
    unavailable = errors.ProviderUnavailable(retry_after_s=retry_after_s)
    if status in _OUR_ACCOUNT or _ACCOUNT_TEXT.search(error.message):
        return UpstreamFailure("provider_auth", unavailable, detail, status)
    if status in _REFUSALS:
        return UpstreamFailure("refused", _refusal(error.message), detail, status)
    return UpstreamFailure("unavailable", unavailable, detail, status)


def _refusal(message: str) -> errors.InvalidRequest:
    if _CONTENT_TEXT.search(message):
        return errors.ContentPolicy()
    if CONTEXT_TEXT.search(message):
        return errors.ContextLengthExceeded(told(message))
    return errors.InvalidRequest(told(message))
