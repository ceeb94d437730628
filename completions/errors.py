"""Every error of the product, and how it leaves the house.

    GatewayError
    ├── InvalidRequest             400 invalid_request_error  invalid_request
    │   ├── InvalidJson            400                        invalid_json
    │   ├── MissingField           400                        missing_field
    │   ├── InvalidType            400                        invalid_type
    │   ├── OutOfRange             400                        out_of_range
    │   ├── UnknownField           400                        unknown_field
    │   ├── UnsupportedParameter   400                        unsupported_parameter
    │   ├── UnknownProvider        400                        unknown_provider
    │   ├── ContextLengthExceeded  400                        context_length_exceeded
    │   ├── ContentPolicy          400                        content_policy
    │   ├── InvalidHttp            400                        invalid_http
    │   ├── RequestTimeout         408                        request_timeout
    │   ├── IdempotencyKeyReused   400                        idempotency_key_reused
    │   ├── RequestTooLarge        413                        request_too_large
    │   ├── RequestHeadTooLarge    431                        request_head_too_large
    │   └── MethodNotAllowed       405                        method_not_allowed
    ├── AuthenticationFailed       401 authentication_error
    │   ├── InvalidCredentials     401                        invalid_credentials
    │   ├── SecondFactorRequired   401                        second_factor_required
    │   ├── InvalidCode            401                        invalid_code
    │   ├── InvalidApiKey          401                        invalid_api_key
    │   ├── ExpiredApiKey          401                        expired_api_key
    │   ├── RevokedApiKey          401                        revoked_api_key
    │   ├── InvalidToken           401                        invalid_token
    │   └── ExpiredToken           401                        expired_token
    ├── InsufficientCredits        402 insufficient_credits   insufficient_credits
    ├── PermissionFailed           403 permission_error
    │   ├── ModelNotAllowed        403                        model_not_allowed
    │   ├── OrganizationSuspended  403                        organization_suspended
    │   └── RoleForbidden          403                        role
    ├── NotFound                   404 not_found_error        not_found
    │   └── ModelNotFound          404                        model_not_found
    ├── IdempotencyInProgress      409 conflict_error         idempotency_in_progress
    ├── RateLimited                429 rate_limit_error       rate_limit_exceeded
    ├── Unavailable                503 provider_unavailable
    │   ├── ProviderUnavailable    503                        provider_unavailable
    │   ├── LedgerUnavailable      503                        service_unavailable
    │   └── ServerStopping         503                        service_unavailable
    └── InternalError              500 api_error              internal_error

Raise a leaf; `exception_handler` is the one place that turns it (or a foreign exception that
reached the view's edge) into HTTP. After the first byte of a stream it is `STREAM_FAILURE` instead.
"""

import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

logger = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


class GatewayError(Exception):
    """An answer that is not a completion. `retry_after_s` and `should_retry` become the headers
    the SDKs obey; a request that may have been charged must say `should_retry=False`."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        metadata: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.metadata = metadata
        self.retry_after_s = retry_after_s
        self.should_retry = should_retry
        self.call_headers: dict[str, str] = {}  # of the call that failed: its receipt's id, what was tried

    @property
    def headers(self) -> dict[str, str]:
        headers = dict(self.call_headers)
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers


# --- 400 and its kin --------------------------------------------------------------------------


class InvalidRequest(GatewayError):
    """The request was refused, by us or (in the provider's words, cleaned) by the upstream."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class MissingField(InvalidRequest):
    code = "missing_field"

    def __init__(self, param: str, hint: str = "", metadata: dict[str, Any] | None = None) -> None:
        message = f"Missing required field: '{param}'.{' ' if hint else ''}{hint}"
        super().__init__(message, param=param, metadata=metadata)


class InvalidType(InvalidRequest):
    code = "invalid_type"


class OutOfRange(InvalidRequest):
    code = "out_of_range"


class UnknownField(InvalidRequest):
    code = "unknown_field"

    def __init__(self, field: str, hint: str = "") -> None:
        super().__init__(f"Unknown field: '{field}'.{' ' if hint else ''}{hint}", param=field)


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"

    def __init__(self, provider: str, field: str, model: str = "", why: str = "") -> None:
        where = f" for model '{model}'" if model else ""
        reason = f": {why}" if why else ""
        super().__init__(f"Provider '{provider}' does not support '{field}'{where}{reason}.", param=field)


class UnknownProvider(InvalidRequest):
    code = "unknown_provider"

    def __init__(self, provider: str, known: Sequence[str] = ()) -> None:
        choices = f" Known for this model: {', '.join(known)}." if known else ""
        super().__init__(f"Unknown provider: '{provider}'.{choices}", param="X-Quantized-Provider")


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"

    def __init__(self, message: str = "The conversation is longer than the model's context.") -> None:
        super().__init__(message, param="messages")


class ContentPolicy(InvalidRequest):
    code = "content_policy"

    def __init__(self, message: str = "The provider refused the content of this request.") -> None:
        super().__init__(message, param="messages")


class InvalidHttp(InvalidRequest):
    code = "invalid_http"

    def __init__(self) -> None:
        super().__init__("This is not a valid HTTP request.")


class RequestTimeout(InvalidRequest):
    status = 408
    code = "request_timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The request did not arrive within {timeout_s:g} s.")


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class RequestHeadTooLarge(InvalidRequest):
    status = 431
    code = "request_head_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request's head is larger than {limit_bytes} bytes.")


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"

    def __init__(self) -> None:
        super().__init__("This HTTP method is not allowed here.")


# --- 401 to 409 -------------------------------------------------------------------------------


class AuthenticationFailed(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "www-authenticate": "Bearer"}


class InvalidCredentials(AuthenticationFailed):
    code = "invalid_credentials"


class SecondFactorRequired(AuthenticationFailed):
    code = "second_factor_required"


class InvalidCode(AuthenticationFailed):
    code = "invalid_code"


class InvalidApiKey(AuthenticationFailed):
    pass


class ExpiredApiKey(AuthenticationFailed):
    code = "expired_api_key"


class RevokedApiKey(AuthenticationFailed):
    code = "revoked_api_key"


class InvalidToken(AuthenticationFailed):
    code = "invalid_token"


class ExpiredToken(AuthenticationFailed):
    code = "expired_token"


class InsufficientCredits(GatewayError):
    """Amounts in micro-credits; `limit_source` is `credits` (the wallet) or `key_limit` (this key)."""

    status = 402
    type = "insufficient_credits"
    code = "insufficient_credits"

    def __init__(
        self, *, limit_source: str, required_micro: int, available_micro: int, affordable_output_tokens: int
    ) -> None:
        limit = "the credits left" if limit_source == "credits" else "what is left of this key's limit"
        message = (
            f"This request may cost {required_micro} micro-credits, more than {limit}: {available_micro}. "
            f"Affordable output tokens: {affordable_output_tokens}."
        )
        metadata = {
            "limit_source": limit_source,
            "required": required_micro,
            "available": available_micro,
            "affordable_output_tokens": affordable_output_tokens,
        }
        super().__init__(message, metadata=metadata)


class PermissionFailed(GatewayError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class ModelNotAllowed(PermissionFailed):
    code = "model_not_allowed"

    def __init__(self, model: str) -> None:
        super().__init__(f"This API key may not use the model '{model}'.", param="model")


class OrganizationSuspended(PermissionFailed):
    code = "organization_suspended"


class RoleForbidden(PermissionFailed):
    code = "role"


class NotFound(GatewayError):
    status = 404
    type = "not_found_error"
    code = "not_found"

    def __init__(self, message: str = "Not found.", *, param: str | None = None) -> None:
        super().__init__(message, param=param)


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model: str, suggestions: Sequence[str] = ()) -> None:
        nearest = f" Did you mean {' or '.join(repr(s) for s in suggestions)}?" if suggestions else ""
        super().__init__(f"The model '{model}' does not exist.{nearest}", param="model")


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used with another request; a new request needs a new key.",
            param="Idempotency-Key",
        )


class IdempotencyInProgress(GatewayError):
    status = 409
    type = "conflict_error"
    code = "idempotency_in_progress"


# --- 429 and 5xx ------------------------------------------------------------------------------


class RateLimited(GatewayError):
    """`limits` are the x-ratelimit-* headers that tell how the caller stands."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, limits: Mapping[str, str] | None = None
    ) -> None:
        # Without a time to wait for, waiting does not help.
        super().__init__(message, retry_after_s=retry_after_s, should_retry=None if retry_after_s else False)
        self.limits = limits or {}

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **self.limits}


class Unavailable(GatewayError):
    """Nothing the client did, and worth another try a little later."""

    status = 503
    type = "provider_unavailable"
    code = "provider_unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1, should_retry: bool | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)


class ProviderUnavailable(Unavailable):
    def __init__(
        self,
        message: str = "The model's provider is unavailable.",
        *,
        retry_after_s: float = 1,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)


class ServerStopping(Unavailable):
    """This server ends before it could answer; the next one can be asked at once."""

    code = "service_unavailable"

    def __init__(self) -> None:
        super().__init__("The server is shutting down.", retry_after_s=1)


class LedgerUnavailable(Unavailable):
    """The database is down or its queue is full: no provider was called, nothing was charged."""

    code = "service_unavailable"

    def __init__(
        self,
        message: str = "The service is unavailable. Nothing was charged.",
        *,
        retry_after_s: float = 1,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, should_retry=should_retry)


class InternalError(GatewayError):
    def __init__(self, message: str = "Something failed on our side.") -> None:
        super().__init__(message)


# --- The way out ------------------------------------------------------------------------------


def error_body(error: GatewayError) -> dict[str, Any]:
    """The body of every error: {"error": {"message", "type", "param", "code"}}, and "metadata" where a leaf has
    some."""
    inner: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    if error.metadata is not None:
        inner["metadata"] = error.metadata
    return {"error": inner}


def error_bytes(error: GatewayError) -> bytes:
    return _encoder.encode(error_body(error))


def log_unexpected(exc: BaseException) -> None:
    """Only the class and the places in our code: the text of a foreign exception may quote a prompt."""
    frames = "".join(traceback.format_tb(exc.__traceback__))
    logger.error("unexpected %s.%s\n%s", type(exc).__module__, type(exc).__qualname__, frames)
