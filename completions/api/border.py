from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions as drf

from accounts.callers import Forbidden, TooManyAttempts, Unauthenticated
from common.postgres import DatabaseUnavailable
from completions.dialects import OPENAI_CHAT
from completions.dialects.base import Dialect
from completions.errors import (
    AuthenticationFailed,
    ExpiredApiKey,
    ExpiredToken,
    GatewayError,
    InternalError,
    InvalidApiKey,
    InvalidCode,
    InvalidCredentials,
    InvalidJson,
    InvalidRequest,
    InvalidToken,
    LedgerUnavailable,
    MethodNotAllowed,
    NotFound,
    OrganizationSuspended,
    PermissionFailed,
    RateLimited,
    RequestTooLarge,
    RevokedApiKey,
    RoleForbidden,
    SecondFactorRequired,
    log_unexpected,
)


def exception_handler(exc: Exception, context: dict[str, Any] | None = None) -> HttpResponse:
    """DRF's EXCEPTION_HANDLER, and the lean lane's: any exception → one of ours → HTTP, in its view's dialect."""
    dialect: Dialect = getattr((context or {}).get("view"), "dialect", OPENAI_CHAT)
    return error_response(translate(exc), dialect)


def error_response(error: GatewayError, dialect: Dialect = OPENAI_CHAT) -> HttpResponse:
    body = dialect.error(error)
    return HttpResponse(body, status=error.status, content_type="application/json", headers=error.headers)


def translate(exc: Exception) -> GatewayError:
    """The border: foreign exceptions become ours, the most specific match wins."""
    if isinstance(exc, GatewayError):
        return exc
    if isinstance(exc, Unauthenticated):
        return _AUTHENTICATION[exc.code](str(exc))
    if isinstance(exc, Forbidden):
        return _PERMISSION[exc.code](str(exc))
    if isinstance(exc, TooManyAttempts):
        return RateLimited(str(exc), retry_after_s=exc.retry_after_s)
    if isinstance(exc, drf.Throttled):
        return RateLimited("Too many requests.", retry_after_s=getattr(exc, "wait", None) or 1)
    if isinstance(exc, RequestDataTooBig):
        return RequestTooLarge(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    for foreign, ours in _BORDER:
        if isinstance(exc, foreign):
            return ours()
    log_unexpected(exc)
    return InternalError()


_AUTHENTICATION: dict[str, type[AuthenticationFailed]] = {
    leaf.code: leaf
    for leaf in (
        InvalidCredentials,
        SecondFactorRequired,
        InvalidCode,
        InvalidApiKey,
        ExpiredApiKey,
        RevokedApiKey,
        InvalidToken,
        ExpiredToken,
    )
}
_PERMISSION: dict[str, type[PermissionFailed]] = {leaf.code: leaf for leaf in (OrganizationSuspended, RoleForbidden)}

_NO_KEY = "No API key was given: send 'Authorization: Bearer <api-key>'."

# Messages of foreign exceptions are not passed on: DRF's ParseError quotes the JSON parser's, which may quote a prompt.
_BORDER: tuple[tuple[type[Exception], Callable[[], GatewayError]], ...] = (
    (Http404, NotFound),
    (OperationalError, LedgerUnavailable),
    (InterfaceError, LedgerUnavailable),
    (DatabaseUnavailable, LedgerUnavailable),
    (drf.NotFound, NotFound),
    (drf.MethodNotAllowed, MethodNotAllowed),
    (drf.ParseError, partial(InvalidJson, "The request body is not valid JSON.")),
    (drf.NotAuthenticated, partial(InvalidApiKey, _NO_KEY)),
    (drf.AuthenticationFailed, partial(InvalidApiKey, _NO_KEY)),
    (drf.PermissionDenied, partial(RoleForbidden, "Your role does not allow this.")),
    (PermissionDenied, partial(RoleForbidden, "Your role does not allow this.")),
    (SuspiciousOperation, partial(InvalidRequest, "This request cannot be understood.")),
)
