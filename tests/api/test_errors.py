"""Every error's status, type, code and body, as docs/errors.md promises them, and the border where foreign exceptions
become ours."""

import inspect
import logging

import msgspec
import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFieldsSent
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions as drf

from accounts.callers import Forbidden, Unauthenticated
from common.postgres import DatabaseUnavailable
from completions import errors
from completions.api import border
from completions.dialects.openai_chat.answers import STREAM_FAILURE_EVENT

CONTRACT = [
    (errors.InvalidRequest("No."), 400, "invalid_request_error", "invalid_request"),
    (errors.InvalidJson("No."), 400, "invalid_request_error", "invalid_json"),
    (errors.MissingField("model"), 400, "invalid_request_error", "missing_field"),
    (errors.InvalidType("No."), 400, "invalid_request_error", "invalid_type"),
    (errors.OutOfRange("No."), 400, "invalid_request_error", "out_of_range"),
    (errors.UnknownField("n"), 400, "invalid_request_error", "unknown_field"),
    (errors.UnsupportedParameter("p", "seed"), 400, "invalid_request_error", "unsupported_parameter"),
    (errors.UnknownProvider("p"), 400, "invalid_request_error", "unknown_provider"),
    (errors.ContextLengthExceeded(), 400, "invalid_request_error", "context_length_exceeded"),
    (errors.ContentPolicy(), 400, "invalid_request_error", "content_policy"),
    (errors.InvalidCredentials("No."), 401, "authentication_error", "invalid_credentials"),
    (errors.SecondFactorRequired("No."), 401, "authentication_error", "second_factor_required"),
    (errors.InvalidCode("No."), 401, "authentication_error", "invalid_code"),
    (errors.InvalidApiKey("No."), 401, "authentication_error", "invalid_api_key"),
    (errors.ExpiredApiKey("No."), 401, "authentication_error", "expired_api_key"),
    (errors.RevokedApiKey("No."), 401, "authentication_error", "revoked_api_key"),
    (errors.InvalidToken("No."), 401, "authentication_error", "invalid_token"),
    (errors.ExpiredToken("No."), 401, "authentication_error", "expired_token"),
    (errors.ModelNotAllowed("m"), 403, "permission_error", "model_not_allowed"),
    (errors.OrganizationSuspended("No."), 403, "permission_error", "organization_suspended"),
    (errors.RoleForbidden("No."), 403, "permission_error", "role"),
    (errors.NotFound(), 404, "not_found_error", "not_found"),
    (errors.ModelNotFound("m"), 404, "not_found_error", "model_not_found"),
    (errors.MethodNotAllowed(), 405, "invalid_request_error", "method_not_allowed"),
    (errors.IdempotencyInProgress("No."), 409, "conflict_error", "idempotency_in_progress"),
    (errors.RequestTooLarge(10), 413, "invalid_request_error", "request_too_large"),
    (errors.RateLimited("No."), 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.InternalError(), 500, "api_error", "internal_error"),
    (errors.ProviderUnavailable(), 503, "provider_unavailable", "provider_unavailable"),
    (errors.LedgerUnavailable(), 503, "provider_unavailable", "service_unavailable"),
    (errors.ServerStopping(), 503, "provider_unavailable", "service_unavailable"),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), CONTRACT, ids=lambda value: type(value).__name__)
def test_leaf_has_the_contracts_status_type_and_code(
    error: errors.GatewayError, status: int, kind: str, code: str
) -> None:
    assert (error.status, error.type, error.code) == (status, kind, code)
    assert error.message.endswith((".", "?"))


def test_every_class_is_drawn_in_the_tree() -> None:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.GatewayError)]
    drawn = errors.__doc__ or ""
    assert [item.__name__ for item in classes if f" {item.__name__} " not in f"{drawn} ".replace("\n", " ")] == []


def test_body_has_exactly_four_keys() -> None:
    assert errors.error_bytes(errors.MissingField("model")) == (
        b'{"error":{"message":"Missing required field: \'model\'.","type":"invalid_request_error",'
        b'"param":"model","code":"missing_field"}}'
    )


def test_metadata_is_there_only_when_it_says_something() -> None:
    error = errors.InsufficientCredits(
        limit_source="credits", required_micro=2400, available_micro=1000, affordable_output_tokens=3
    )
    assert errors.error_body(error) == {
        "error": {
            "message": "This request may cost 2400 micro-credits, more than the credits left: 1000. "
            "Affordable output tokens: 3.",
            "type": "insufficient_credits",
            "param": None,
            "code": "insufficient_credits",
            "metadata": {
                "limit_source": "credits",
                "required": 2400,
                "available": 1000,
                "affordable_output_tokens": 3,
            },
        }
    }


def test_key_limit_is_named() -> None:
    error = errors.InsufficientCredits(
        limit_source="key_limit", required_micro=2, available_micro=1, affordable_output_tokens=0
    )
    assert "this key's limit: 1" in error.message


def test_suggestions_and_choices_are_told() -> None:
    assert errors.UnknownField("temprature", "Did you mean 'temperature'?").message == (
        "Unknown field: 'temprature'. Did you mean 'temperature'?"
    )
    assert errors.ModelNotFound("a/b", ["a/c", "a/d"]).message == (
        "The model 'a/b' does not exist. Did you mean 'a/c' or 'a/d'?"
    )
    assert errors.UnknownProvider("x", ["anthropic", "openrouter"]).message == (
        "Unknown provider: 'x'. Known for this model: anthropic, openrouter."
    )
    assert errors.UnsupportedParameter("vllm", "reasoning.summary", "a/b").message == (
        "Provider 'vllm' does not support 'reasoning.summary' for model 'a/b'."
    )


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    assert errors.RateLimited("Slow down.", retry_after_s=2.1).headers == {"retry-after": "3"}
    assert errors.ProviderUnavailable(retry_after_s=0).headers == {"retry-after": "1"}
    assert errors.ProviderUnavailable().headers == {"retry-after": "1"}


def test_a_request_that_may_have_been_charged_says_do_not_retry() -> None:
    error = errors.ProviderUnavailable(should_retry=False)
    assert error.headers == {"retry-after": "1", "x-should-retry": "false"}
    assert errors.InvalidJson("No.").headers == {}


def test_stream_failure_is_one_event() -> None:
    assert STREAM_FAILURE_EVENT == (
        b'data: {"error":{"message":"The upstream provider failed while answering.","type":"upstream_error",'
        b'"param":null,"code":"provider_error"}}\n\n'
    )


def answered(exc: Exception) -> tuple[int, str, str]:
    response = border.exception_handler(exc, {})
    assert response["content-type"] == "application/json"
    error = msgspec.json.decode(response.content)["error"]
    return response.status_code, error["type"], error["code"]


@pytest.mark.parametrize(
    "code", ["invalid_api_key", "expired_api_key", "revoked_api_key", "invalid_token", "expired_token"]
)
def test_unauthenticated_keeps_its_code_and_words(code: str) -> None:
    response = border.exception_handler(Unauthenticated(code, "Because."), {})
    assert response.status_code == 401
    assert response["www-authenticate"] == "Bearer"
    assert msgspec.json.decode(response.content)["error"]["message"] == "Because."
    assert answered(Unauthenticated(code, "Because.")) == (401, "authentication_error", code)


def test_suspended_organization_is_forbidden() -> None:
    suspended = Forbidden("organization_suspended", "Suspended.")
    assert answered(suspended) == (403, "permission_error", "organization_suspended")


def test_frameworks_exceptions_become_ours() -> None:
    assert answered(Http404("secret")) == (404, "not_found_error", "not_found")
    assert answered(drf.NotFound()) == (404, "not_found_error", "not_found")
    assert answered(drf.MethodNotAllowed("PUT")) == (405, "invalid_request_error", "method_not_allowed")
    assert answered(drf.ParseError("at 'my prompt'")) == (400, "invalid_request_error", "invalid_json")
    assert answered(drf.NotAuthenticated()) == (401, "authentication_error", "invalid_api_key")
    assert answered(drf.AuthenticationFailed()) == (401, "authentication_error", "invalid_api_key")
    assert answered(drf.PermissionDenied()) == (403, "permission_error", "role")
    assert answered(PermissionDenied()) == (403, "permission_error", "role")
    assert answered(OperationalError("secret")) == (503, "provider_unavailable", "service_unavailable")
    assert answered(DatabaseUnavailable("secret")) == (503, "provider_unavailable", "service_unavailable")
    assert answered(RequestDataTooBig()) == (413, "invalid_request_error", "request_too_large")
    assert answered(TooManyFieldsSent("secret")) == (400, "invalid_request_error", "invalid_request")


def test_throttled_tells_when_to_come_back() -> None:
    response = border.exception_handler(drf.Throttled(wait=11.2), {})
    assert (response.status_code, response["retry-after"]) == (429, "12")


def test_anything_else_is_a_500_logged_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert answered(ValueError("the prompt was: my secret")) == (500, "api_error", "internal_error")
    assert "builtins.ValueError" in caplog.text
    assert "my secret" not in caplog.text


def test_where_the_unexpected_happened_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    try:
        inspect.getsource(int)
    except TypeError as exc:
        border.exception_handler(exc, {})
    assert "test_errors.py" in caplog.text
