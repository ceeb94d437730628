"""Upstream errors → ours: whose trouble it is, whether another route may help, and nothing of our account in it."""

import json
from typing import Any

import pytest

from completions import errors
from completions.providers.words import cleaned_message
from completions.upstream.failure import UpstreamFailure
from tests.kit import openrouter_recordings as recordings
from tests.kit.translators import adapter


def failure(status: int, body: Any = b"", **headers: str) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return adapter("openrouter").failure(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, raw
    )


def error(message: str = "x", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}, "user_id": "user_2aBcDeFgHiJ"}


def test_recorded_rate_limit_waits_as_long_as_it_was_told() -> None:
    found = failure(429, recordings.RATE_LIMITED, retry_after="12")
    assert (found.kind, found.may_fail_over, found.is_provider_auth) == ("unavailable", True, False)
    assert (found.error.status, found.error.headers) == (503, {"retry-after": "12"})
    assert found.error.message == "The model's provider is unavailable."
    assert found.detail == "status 429"


def test_recorded_lack_of_our_credits_is_the_operators_alert() -> None:
    found = failure(402, recordings.NO_CREDITS)
    assert (found.kind, found.may_fail_over, found.is_provider_auth) == ("provider_auth", True, True)
    assert (found.error.status, found.error.code) == (503, "provider_unavailable")
    assert "credits" not in found.error.message


@pytest.mark.parametrize("status", [401, 402, 403])
def test_our_accounts_trouble_is_a_503(status: int) -> None:
    found = failure(status, error("No auth credentials found", code=status))
    assert (found.is_provider_auth, found.error.status) == (True, 503)


@pytest.mark.parametrize("status", [301, 404, 405, 408, 409, 418, 429, 500, 502, 503, 504, 524, 529])
def test_everything_else_is_unavailable_and_another_route_may_help(status: int) -> None:
    for body in (b"", b"<html>", error(code=status)):
        found = failure(status, body)
        assert (found.kind, found.may_fail_over, found.error.status) == ("unavailable", True, 503)
        assert found.error.headers == {"retry-after": "1"}


@pytest.mark.parametrize("status", [400, 412, 413, 422])
def test_refusals_are_the_clients_400_and_no_other_route_is_tried(status: int) -> None:
    found = failure(status, error("'top_k' is not supported", param="top_k"))
    assert (found.kind, found.may_fail_over) == ("refused", False)
    assert (found.error.status, found.error.code, found.error.param) == (400, "invalid_request", "top_k")
    assert found.error.message == "The provider refused the request: 'top_k' is not supported"


def test_refusal_without_words() -> None:
    for body in (b"", b"<html><body>400</body></html>", {}, error("")):
        assert failure(400, body).error.message == "The provider refused the request."


@pytest.mark.parametrize(
    "body",
    [
        error("x", code="context_length_exceeded"),
        error("x", metadata={"error_type": "context_length_exceeded"}),
        {"error": {"error_type": "token_limit_exceeded", "http_status": 400}},
        error("This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens."),
        error("prompt is too long: 210000 tokens > 200000 maximum"),
        error("Provider returned error", metadata={"raw": '{"error":{"message":"exceeds the context window"}}'}),
        {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400},
        {"detail": "too many tokens"},
    ],
)
def test_too_long_is_said_so(body: Any) -> None:
    found = failure(400, body)
    assert isinstance(found.error, errors.ContextLengthExceeded)
    assert (found.error.param, found.kind) == ("messages", "refused")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error("x", metadata={"reasons": ["violence"], "flagged_input": "my secret prompt"})),
        (403, error("x", metadata={"patterns": ["secret"]})),
        (400, error("x", code="content_policy_violation")),
        (400, error("x", code="content_filter")),
        (403, error("x", metadata={"error_type": "refusal"})),
    ],
)
def test_moderation_is_content_policy_without_the_flagged_words(status: int, body: Any) -> None:
    found = failure(status, body)
    assert isinstance(found.error, errors.ContentPolicy)
    assert found.error.message == "The provider refused the content of this request."
    assert found.kind == "refused"


@pytest.mark.parametrize(
    "body",
    [
        error("openai/gpt-9 is not a valid model ID", code=400),
        error("x", availability={"code": "model_not_found"}),
        error("The model `x` does not exist", code="model_not_found"),
        error("model 'llama9' not found, try pulling it first"),
    ],
)
def test_model_unknown_upstream_is_not_the_clients_fault(body: Any) -> None:
    found = failure(400, body)
    assert (found.kind, found.may_fail_over, found.error.status) == ("unavailable", True, 503)


@pytest.mark.parametrize(("status", "code"), [(429, "insufficient_quota"), (400, "invalid_api_key")])
def test_our_account_by_its_word(status: int, code: str) -> None:
    assert failure(status, error(code=code)).is_provider_auth


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after": "2.2"}, b"", "3"),
        ({"retry_after": "0"}, b"", "1"),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", "1"),
        ({"retry_after": "nan"}, b"", "1"),
        ({"retry_after": "-5"}, b"", "1"),
        ({"retry_after": "1e9"}, b"", "3600"),
        ({}, error(availability={"retry_after": 30}), "30"),
        ({}, error(metadata={"retry_after": 7}), "7"),
        ({"retry_after": "9"}, error(availability={"retry_after": 30}), "9"),
    ],
)
def test_retry_after_is_taken_over_within_bounds(headers: dict[str, str], body: Any, seconds: str) -> None:
    assert failure(503, body, **headers).error.headers == {"retry-after": seconds}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("plain words", "plain words"),
        ('{"error":{"message":"from json"}}', "from json"),
        ('{"message":"flat json"}', "flat json"),
        ({"error": {"message": "from object"}}, "from object"),
        ("{broken", "{broken"),
        (None, "Provider returned error"),
        (["odd"], "Provider returned error"),
    ],
)
def test_useful_words_are_dug_out_of_the_metadata(raw: Any, told: str) -> None:
    found = failure(400, error("Provider returned error", code=400, metadata={"raw": raw, "provider_name": "Google"}))
    assert found.error.message == f"The provider refused the request: {told}"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[[]]",
        b"null",
        b"1",
        b'"x"',
        b'{"error":null}',
        b'{"error":{"code":{}}}',
        b'{"error":[1]}',
        b"[" * 10**5,
    ],
)
def test_strangest_bodies_are_still_an_error(body: bytes) -> None:
    assert failure(500, body).error.status == 503
    assert failure(400, body).error.status == 400


def test_array_around_an_error() -> None:
    assert failure(400, [error("Invalid value")]).error.message == "The provider refused the request: Invalid value"


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ("for user_2aBcDeFgHiJ in org-A1b2C3d4E5", "for […] in […]"),
        ("Incorrect key sk-or-v1-0123abcdef, see req_011CSAMPLE4", "Incorrect key […], see […]"),
        ("sk-abcdefghijkl", "[…]"),
        ("generation gen-1790000001-aB3dE5fG7hJ9kL1mN3pQ failed", "generation […] failed"),
        ("id 123e4567-e89b-12d3-a456-426614174000.", "id […]."),
        ("mail to ops@quantized.us now", "mail to […] now"),
        ("trace 0123456789abcdef0123456789abcdef", "trace […]"),
        ("user_location and max_completion_tokens stay", "user_location and max_completion_tokens stay"),
        ("gpt-4.1-mini and claude-3-5-sonnet stay", "gpt-4.1-mini and claude-3-5-sonnet stay"),
        ("two\nlines\tand\x00controls\u202e", "two lines and controls"),
    ],
)
def test_our_ids_are_taken_out(message: str, cleaned: str) -> None:
    assert cleaned_message(message) == cleaned


def test_long_words_are_cut() -> None:
    assert cleaned_message("word " * 1_000) == ("word " * 100)[:499] + "…"


def test_nothing_of_ours_reaches_the_client() -> None:
    for status in (400, 401, 402, 403, 404, 413, 422, 429, 500, 502, 503):
        body = error(
            "see user_2aBcDeFgHiJ", metadata={"raw": "org-A1b2C3d4E5 sk-or-v1-0123", "provider_name": "Google"}
        )
        sent = errors.error_bytes(failure(status, body).error)
        for secret in (b"user_", b"org-", b"sk-or", b"Google"):
            assert secret not in sent


def test_detail_for_the_log_holds_words_and_never_messages() -> None:
    body = error("my secret prompt", code="Strange Code!", type="invalid_request_error", metadata={"raw": "prompt"})
    assert failure(400, body).detail == "status 400 invalid_request_error"
