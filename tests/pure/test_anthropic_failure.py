"""What Anthropic's errors mean: for the client, for the next route, for the operator."""

import msgspec
import pytest

from completions import errors
from completions.upstream.failure import UpstreamFailure
from tests.kit.claude_routes import recording
from tests.kit.translators import adapter


def failure(status: int, body: bytes = b"", **headers: str) -> UpstreamFailure:
    return adapter("anthropic").failure(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, body
    )


def said(kind: str, message: str) -> bytes:
    error = {"type": kind, "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": "req_011CSAMPLE"})


@pytest.mark.parametrize(
    ("status", "kind", "meaning"),
    [
        (401, "authentication_error", "provider_auth"),
        (402, "billing_error", "provider_auth"),
        (403, "permission_error", "provider_auth"),
        (404, "not_found_error", "unavailable"),
        (409, "conflict_error", "unavailable"),
        (429, "rate_limit_error", "unavailable"),
        (500, "api_error", "unavailable"),
        (504, "timeout_error", "unavailable"),
        (529, "overloaded_error", "unavailable"),
    ],
)
def test_what_is_not_the_clients_fault_is_a_503_and_may_fall_over(status: int, kind: str, meaning: str) -> None:
    found = failure(status, said(kind, "Something about req_011CSAMPLE."))
    assert (found.kind, found.status, found.may_fail_over) == (meaning, status, True)
    assert found.is_provider_auth is (meaning == "provider_auth")
    assert (found.error.status, found.error.code) == (503, "provider_unavailable")
    assert found.detail == f"status {status} {kind}"
    assert "req_" not in found.error.message


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_told_in_cleaned_words_and_goes_nowhere_else(status: int) -> None:
    found = failure(status, said("invalid_request_error", "tools.0: too odd (req_011CSAMPLExyz)\nreally"))
    assert (found.kind, found.may_fail_over, found.error.status) == ("refused", False, 400)
    assert found.error.message == "The provider refused the request: tools.0: too odd ([…]) really"


def test_the_samples() -> None:
    refused = failure(400, recording("anthropic_refused.json"))
    assert refused.error.message == (
        'The provider refused the request: tool_choice: type "tool" and "any" are not supported for this model.'
    )
    assert failure(404, recording("anthropic_unknown_model.json")).kind == "unavailable"
    assert failure(529, recording("anthropic_overloaded.json")).kind == "unavailable"


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
        "This organization has reached its spend limit.",
    ],
)
def test_our_own_limits_come_as_a_400_and_are_ours(message: str) -> None:
    found = failure(400, said("invalid_request_error", message))
    assert (found.kind, found.error.status) == ("provider_auth", 503)
    assert found.error.message != message


@pytest.mark.parametrize(
    ("message", "leaf"),
    [
        ("prompt is too long: 200251 tokens > 200000 maximum", errors.ContextLengthExceeded),
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", errors.ContextLengthExceeded),
        ("Output blocked by content filtering policy", errors.ContentPolicy),
        ("messages.0.content: text content blocks must be non-empty", errors.InvalidRequest),
        ("", errors.InvalidRequest),
    ],
)
def test_refusals_we_have_a_code_for(message: str, leaf: type[errors.GatewayError]) -> None:
    assert type(failure(400, said("invalid_request_error", message)).error) is leaf


def test_when_to_try_again_is_told() -> None:
    assert failure(429, said("rate_limit_error", "x"), retry_after="12").error.headers == {"retry-after": "12"}
    assert failure(429, said("rate_limit_error", "x")).error.headers == {"retry-after": "1"}
    assert failure(529, b"", retry_after="86400").error.headers == {"retry-after": "3600"}


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error":"text"}', b'{"error":{"type":1}}', b"\xff", b"[" * 5000]
)
def test_bodies_of_any_kind_are_no_exception(body: bytes) -> None:
    assert failure(413, body).error.message == "The provider refused the request."
    assert failure(502, body).detail == "status 502"


def test_a_type_that_is_none_of_theirs_is_not_logged() -> None:
    assert failure(500, said("what the user said", "x")).detail == "status 500"
