"""What a client can get wrong, over a socket: the right status, type, code and param, nothing charged, nothing held,
and no provider hears of it."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from accounts import keys
from accounts.models import ApiKey
from accounts.services import reactivate, revoke_key, suspend
from billing.models import Wallet
from completions.chat.request import Fields
from tests.kit import MODEL
from tests.kit.calls import (
    CAPITAL,
    PATH,
    ask,
    assert_error,
    call,
    chat,
    head,
    holds,
    post,
    read_answers,
    read_until,
    shared_server,
    stream,
    wallet,
)
from tests.kit.tenants import make_tenant

INVALID = "invalid_request_error"
BODY_BYTES_MAX = 4096
BODY_TIMEOUT_S = 0.5


@pytest.fixture
def upstream(sandbox):
    """The sandbox with an empty journal."""
    sandbox.reset()
    return sandbox


def assert_nothing_happened(upstream, tenant):
    assert upstream.counters["received"] == 0
    assert wallet(tenant) == (1_000_000, 0)
    assert holds(tenant) == []


# --- The body -----------------------------------------------------------------------------------------

GOOD = json.dumps(chat()).encode()
BODIES = {
    "nothing": (b"", "The request body is empty; send a JSON object."),
    "white space": (b" \n", "The request body is empty."),
    "no JSON": (b"model=x", "The request body is not valid JSON: invalid character (byte 0)."),
    "cut off": (GOOD[:-20], "The request body is not valid JSON: it is cut off."),
    "something after its end": (GOOD + b" {}", None),
    "invalid UTF-8": (b'{"model": "x\xff"}', "The request body is not valid UTF-8 (byte 12)."),
    "UTF-16": (GOOD.decode().encode("utf-16-le"), None),
    "NaN": (GOOD[:-1] + b', "temperature": NaN}', None),
    "infinity": (GOOD[:-1] + b', "temperature": -Infinity}', None),
    "deep nesting": (
        GOOD[:-1] + b', "response_format": {"type": "text", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "The request body is nested too deeply.",
    ),
}
NO_OBJECTS = {b"[]": "an array", b"7": "an integer", b"null": "null", b'"hello"': "a string", b"true": "a boolean"}


def test_a_body_that_is_no_json_is_refused(gateway, upstream, alice):
    for body, message in BODIES.values():
        assert_error(post(gateway, alice, body), 400, INVALID, "invalid_json", None, message)
    assert_nothing_happened(upstream, alice)


def test_a_body_that_is_no_object_is_refused(gateway, upstream, alice):
    for body, what in NO_OBJECTS.items():
        message = f"The request body must be an object, not {what}."
        assert_error(post(gateway, alice, body), 400, INVALID, "invalid_type", None, message)
    answer = post(gateway, alice, b"{}")
    assert_error(answer, 400, INVALID, "missing_field", "model", "Missing required field: 'model'.")
    assert_nothing_happened(upstream, alice)


def test_what_the_content_type_says_is_not_held_against_a_json_body(gateway, upstream, alice):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert post(gateway, alice, chat(), {"content-type": content_type}).status == 200


def test_a_body_in_chunks_is_a_body(gateway, upstream, alice):
    answer = post(gateway, alice, iter([GOOD[:10], GOOD[10:]]))
    assert (answer.status, answer.usage["credits_used"]) == (200, 2_400)


# --- The fields ---------------------------------------------------------------------------------------

FIELDS = [
    ({"messages": None}, "invalid_type", "messages", None),
    ({"messages": []}, "out_of_range", "messages", "'messages' must be an array of 1 to 100000 messages."),
    ({"messages": "hello"}, "invalid_type", "messages", None),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "out_of_range", "messages[0].role", None),
    (
        {"messages": [{"role": "user"}]},
        "missing_field",
        "messages[0].content",
        "Missing required field: 'messages[0].content'.",
    ),
    ({"messages": [*CAPITAL, {"role": "user", "content": 7}]}, "invalid_type", "messages[2].content", None),
    ({"model": 7}, "invalid_type", "model", "'model' must be a string of 1 to 256 characters, not an integer."),
    ({"model": None}, "invalid_type", "model", None),
    (
        {"temperature": "warm"},
        "invalid_type",
        "temperature",
        "'temperature' must be a number between 0 and 2, not a string.",
    ),
    ({"temperature": 2.01}, "out_of_range", "temperature", "'temperature' must be a number between 0 and 2."),
    ({"stream": "yes"}, "invalid_type", "stream", "'stream' must be a boolean, not a string."),
    ({"max_tokens": 0}, "out_of_range", "max_tokens", "'max_tokens' must be an integer between 1 and 2147483647."),
    (
        {"max_tokens": 32_769},
        "out_of_range",
        "max_tokens",
        f"'max_tokens' must be at most 32768 for '{MODEL}', not 32769.",
    ),
    ({"stop": ["a", "b", "c", "d", "e"]}, "out_of_range", "stop", None),
    ({"tools": [{"type": "function", "function": {}}]}, "missing_field", "tools[0].function.name", None),
    (
        {"temprature": 1},
        "unknown_field",
        "temprature",
        "Unknown field: 'temprature'. Did you mean 'temperature'?",
    ),
    ({"n": 2}, "unknown_field", "n", "Unknown field: 'n'. One choice is given per request: send several requests."),
    (
        {"stream_options": {"include_usage": True}},
        "invalid_request",
        "stream_options",
        "'stream_options' is only allowed with 'stream': true.",
    ),
    (
        {"reasoning": {"effort": "high"}},
        "unsupported_parameter",
        "reasoning",
        f"Provider 'openrouter' does not support 'reasoning' for model '{MODEL}'.",
    ),
]


def test_a_field_that_cannot_be_is_named(gateway, upstream, alice):
    for fields, code, param, message in FIELDS:
        assert_error(ask(gateway, alice, **fields), 400, INVALID, code, param, message)
    assert_nothing_happened(upstream, alice)


def test_it_is_the_same_for_a_stream(gateway, upstream, alice):
    for fields, code, param, message in FIELDS:
        if not {"stream", "stream_options"} & set(fields):
            assert_error(stream(gateway, alice, **fields), 400, INVALID, code, param, message)
    assert_nothing_happened(upstream, alice)


def test_null_is_the_same_as_absent_for_every_optional_field(gateway, upstream, alice):
    nulls = dict.fromkeys(set(Fields.__struct_fields__) - {"model", "messages"})
    answer = post(gateway, alice, {**chat(), **nulls, "max_tokens": 128})
    assert (answer.status, answer.usage["credits_used"]) == (200, 2_400)
    [seen] = upstream.calls
    assert {"temperature", "tools", "response_format"}.isdisjoint(seen.fields)


def test_an_unknown_model_is_a_404_that_names_the_nearest(gateway, upstream, alice):
    error = assert_error(
        ask(gateway, alice, model="openai/gpt-4.1-mimi"), 404, "not_found_error", "model_not_found", "model"
    )
    assert error["message"].startswith(
        "The model 'openai/gpt-4.1-mimi' does not exist. Did you mean 'openai/gpt-4.1-mini' or "
    )
    for model in (f"{MODEL}:online", f"{MODEL}:free", "x" * 256):
        message = assert_error(ask(gateway, alice, model=model), 404, "not_found_error", "model_not_found", "model")[
            "message"
        ]
        assert message.startswith(f"The model '{model}' does not exist.")
    assert_nothing_happened(upstream, alice)


def test_a_provider_that_does_not_serve_the_model_is_refused(gateway, upstream, alice):
    for provider in ("anthropic", "nobody", "OpenRouter"):
        message = f"Unknown provider: '{provider}'. Known for this model: openrouter."
        answer = post(gateway, alice, chat(), {"x-quantized-provider": provider})
        assert_error(answer, 400, INVALID, "unknown_provider", "X-Quantized-Provider", message)
    assert_nothing_happened(upstream, alice)


# --- The key ------------------------------------------------------------------------------------------

NO_KEY = "No API key was given: send 'Authorization: Bearer <api-key>'."
NO_BEARER = "The Authorization header must read 'Bearer <api-key>'."
NO_KEY_OF_OURS = "This is not an API key of this server: check for a typo or a cut-off end."


def test_a_request_without_a_good_key_is_a_401(gateway, upstream, alice):
    headers = {
        None: NO_KEY,
        "": NO_KEY,
        "Bearer": NO_BEARER,
        "Basic YWxpY2U6cw==": NO_BEARER,
        alice.api_key: NO_BEARER,
        "Bearer sk-quantized-abc": NO_KEY_OF_OURS,
        f"Bearer {alice.api_key[:-1]}": NO_KEY_OF_OURS,
        f"Bearer {alice.api_key[:20]}{'0' if alice.api_key[20] != '0' else '1'}{alice.api_key[21:]}": NO_KEY_OF_OURS,
        "Bearer sk-quantized-é": NO_KEY_OF_OURS,
        f"Bearer {'x' * 10_000}": NO_KEY_OF_OURS,
        f"Bearer {keys.mint()}": "This API key does not exist.",
    }
    for header, message in headers.items():
        answer = post(gateway, None, chat(), {"authorization": header} if header is not None else {})
        assert_error(answer, 401, "authentication_error", "invalid_api_key", None, message)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert_nothing_happened(upstream, alice)


def test_a_token_of_somebody_else_is_an_invalid_token(gateway, upstream, alice):
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9."
    answer = post(gateway, None, chat(), {"authorization": f"Bearer {token}"})
    message = "This access token was not issued by this server."
    assert_error(answer, 401, "authentication_error", "invalid_token", None, message)
    assert_nothing_happened(upstream, alice)


def test_the_key_is_looked_at_before_the_body(gateway, upstream, alice):
    answer = post(gateway, None, b"no JSON")
    assert_error(answer, 401, "authentication_error", "invalid_api_key", None, NO_KEY)


def test_an_expired_key_is_a_401(gateway, upstream, alice):
    ApiKey.objects.filter(pk=alice.key_id).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    answer = ask(gateway, alice)
    assert_error(answer, 401, "authentication_error", "expired_api_key", None, "This API key has expired.")
    assert_nothing_happened(upstream, alice)


def test_a_key_that_expires_while_the_server_knows_it_is_a_401(gateway, upstream, alice):
    expires_at = datetime.now(UTC) + timedelta(seconds=0.5)
    ApiKey.objects.filter(pk=alice.key_id).update(expires_at=expires_at)
    assert ask(gateway, alice).status == 200
    time.sleep(max(0, (expires_at - datetime.now(UTC)).total_seconds()))
    assert_error(ask(gateway, alice), 401, "authentication_error", "expired_api_key", None, "This API key has expired.")
    assert len(holds(alice)) == 1


def test_a_key_that_may_not_use_the_model_is_a_403(gateway, upstream, alice):
    answer = ask(gateway, alice.with_key(models=["openai/gpt-4.1"]))
    message = f"This API key may not use the model '{MODEL}'."
    assert_error(answer, 403, "permission_error", "model_not_allowed", "model", message)
    assert_nothing_happened(upstream, alice)


# --- A key that the server knows ------------------------------------------------------------------------


def test_revocation_holds_for_the_next_request(gateway, upstream, alice):
    assert ask(gateway, alice).status == 200
    revoke_key(alice.key_id)
    for request in (ask, stream):
        message = "This API key has been revoked."
        assert_error(request(gateway, alice), 401, "authentication_error", "revoked_api_key", None, message)
    assert upstream.counters["received"] == 1
    assert wallet(alice) == (997_600, 0)


def test_suspension_holds_for_the_next_request_and_ends_within_a_second(gateway, upstream, alice):
    assert ask(gateway, alice).status == 200
    suspend(alice.organization_id)
    message = "This organization is suspended."
    assert_error(ask(gateway, alice), 403, "permission_error", "organization_suspended", None, message)
    reactivate(alice.organization_id)
    assert status_within_a_second(gateway, alice, 200) == 200
    assert upstream.counters["received"] == 2


def test_fewer_models_hold_within_a_second(gateway, upstream, alice):
    assert ask(gateway, alice).status == 200
    ApiKey.objects.filter(pk=alice.key_id).update(models=["openai/gpt-4.1"])
    assert status_within_a_second(gateway, alice, 403) == 403
    ApiKey.objects.filter(pk=alice.key_id).update(models=None)
    assert status_within_a_second(gateway, alice, 200) == 200


def status_within_a_second(gateway, tenant, wanted):
    deadline = time.monotonic() + 1
    status = ask(gateway, tenant).status
    while status != wanted and time.monotonic() < deadline:
        status = ask(gateway, tenant).status
    return status


# --- The request line -----------------------------------------------------------------------------------


def test_another_method_is_a_405_in_json(gateway, upstream, alice):
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        answer = call(gateway, method, PATH, alice.headers)
        message = "This HTTP method is not allowed here."
        assert_error(answer, 405, INVALID, "method_not_allowed", None, message)
        assert answer.headers["allow"] == "POST"
    answer = call(gateway, "HEAD", PATH, alice.headers)
    assert (answer.status, answer.body, answer.headers["allow"]) == (405, b"", "POST")
    assert "x-request-id" in answer.headers
    assert_nothing_happened(upstream, alice)


def test_the_ordinary_lane_answers_another_method_alike(gateway, alice):
    for path in ("/v1/models", "/v1/credits", "/v1/key", "/v1/generation"):
        answer = call(gateway, "POST", path, alice.headers, b"{}")
        assert_error(answer, 405, INVALID, "method_not_allowed", None, "This HTTP method is not allowed here.")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_an_unknown_path_under_v1_is_a_404_in_json(gateway, alice):
    paths = ("/v1", "/v1/", "/v1/nothing", "/v1/chat/completions/", "/v1//chat/completions", "/v1/chat/completions%0a")
    for path in paths:
        for headers in ({}, alice.headers):
            answer = call(gateway, "POST", path, headers, GOOD)
            assert_error(answer, 404, "not_found_error", "not_found", None, "Not found.")
    assert holds(alice) == []


# --- The connection ---------------------------------------------------------------------------------------


def test_a_head_without_end_is_refused(gateway, alice):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-padding: ")
        for _ in range(256):
            connection.sendall(b"x" * 2048)
        [answer] = read_answers(connection, 1)
    message = "The request's head is larger than 65536 bytes."
    assert_error(answer, 431, INVALID, "request_head_too_large", None, message)
    assert answer.headers["connection"] == "close"


def test_a_large_head_is_refused_and_a_long_header_is_not(gateway, upstream, alice):
    answer = post(gateway, alice, chat(), {f"x-padding-{n}": "x" * 8000 for n in range(9)})
    message = "The request's head is larger than 65536 bytes."
    assert_error(answer, 431, INVALID, "request_head_too_large", None, message)
    assert_nothing_happened(upstream, alice)
    assert post(gateway, alice, chat(), {"x-padding": "x" * 32_000}).status == 200


def test_what_is_no_http_is_refused_in_json(gateway):
    for request in (b"HELLO\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST /v1 HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
            connection.sendall(request)
            [answer] = read_answers(connection, 1)
            assert connection.recv(1) == b""
        assert_error(answer, 400, INVALID, "invalid_http", None, "This is not a valid HTTP request.")


def test_requests_in_one_go_are_answered_one_after_another(gateway, upstream, alice):
    second = json.dumps(chat("tokens=5 delay_ms=5")).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head(gateway, alice, len(second)) + second + head(gateway, alice, len(GOOD)) + GOOD)
        first, last = read_answers(connection, 2)
    assert first.usage["completion_tokens"] == 5
    assert last.usage == {**last.usage, "completion_tokens": 8, "credits_used": 2_400}
    assert first.headers["x-request-id"] != last.headers["x-request-id"]
    assert len(holds(alice)) == 2


def test_http_1_0_is_answered_and_closed(gateway, upstream, alice):
    request = head(gateway, alice, len(GOOD)).replace(b"HTTP/1.1", b"HTTP/1.0") + GOOD
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(request)
        [answer] = read_answers(connection, 1)
        assert connection.recv(1) == b""
    assert (answer.status, answer.usage["credits_used"]) == (200, 2_400)
    assert answer.headers["connection"] == "close"


def test_expect_100_continue_gets_its_continue(gateway, upstream, alice):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head(gateway, alice, len(GOOD), "expect: 100-continue"))
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        [answer] = read_answers(connection, 1)
    assert answer.status == 200


def test_the_callers_request_id_comes_back_if_it_is_sane(gateway, alice):
    for given, is_kept in {"trace-0123456789": True, "x": False, "a b c d e f": False, "é" * 20: False}.items():
        answer = post(gateway, alice, b"{}", {"x-request-id": given.encode("latin1").decode("latin1")})
        assert (answer.headers["x-request-id"] == given) is is_kept


# --- Sizes and times, on a server with small ones ---------------------------------------------------------


@pytest.fixture
def small(server_environment, shared_servers, tmp_path_factory):
    """A server that takes small bodies, and waits for them for half a second."""
    limits = {"MAX_BODY_BYTES": str(BODY_BYTES_MAX), "BODY_TIMEOUT_S": str(BODY_TIMEOUT_S)}
    return shared_server(shared_servers, "small", {**server_environment, **limits}, tmp_path_factory)


TOO_LARGE = (413, INVALID, "request_too_large", None, f"The request body is larger than {BODY_BYTES_MAX} bytes.")


def test_a_body_as_large_as_the_limit_is_taken(small, upstream, alice):
    padded = GOOD + b" " * (BODY_BYTES_MAX - len(GOOD))
    assert post(small, alice, padded).status == 200
    assert_error(post(small, alice, padded + b" "), *TOO_LARGE)
    assert post(small, alice, iter([padded[:1000], padded[1000:]])).status == 200
    assert_error(post(small, alice, iter([padded[:1000], padded[1000:], b" "])), *TOO_LARGE)
    assert upstream.counters["received"] == 2


def test_a_body_that_announces_too_much_is_refused_before_it_comes(small, upstream, alice):
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        connection.sendall(head(small, alice, 10**12))
        [answer] = read_answers(connection, 1)
    assert_error(answer, *TOO_LARGE)
    assert_nothing_happened(upstream, alice)


def test_every_path_has_the_limit(small, alice):
    for path in ("/v1/credits", "/v1/models", "/v1/nothing", "/accounts/login/", "/"):
        for body in (b"x" * (BODY_BYTES_MAX + 1), iter([b"x" * BODY_BYTES_MAX, b"x"])):
            assert_error(call(small, "POST", path, alice.headers, body), *TOO_LARGE)


def test_a_body_that_does_not_come_is_a_408(small, upstream, alice):
    for sent in (b"", GOOD[:20]):
        with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
            connection.sendall(head(small, alice, len(GOOD)) + sent)
            [answer] = read_answers(connection, 1)
            assert connection.recv(1) == b""
        message = "The request did not arrive within 0.5 s."
        assert_error(answer, 408, INVALID, "request_timeout", None, message)
    assert_nothing_happened(upstream, alice)


def test_a_head_that_does_not_come_is_a_408(small, upstream, alice):
    whole = head(small, alice, len(GOOD))
    for before in (b"", whole + GOOD):
        with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
            connection.sendall(before + whole[:30])
            answer = read_answers(connection, 2 if before else 1)[-1]
            assert connection.recv(1) == b""
        assert_error(answer, 408, INVALID, "request_timeout", None, "The request did not arrive within 0.5 s.")


def test_a_connection_that_asks_nothing_is_closed(small):
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        assert connection.recv(1) == b""


def test_an_answer_may_take_longer_than_the_request_may(small, upstream, alice):
    assert ask(small, alice, f"first_ms={BODY_TIMEOUT_S * 1500}").status == 200


def test_a_slow_body_that_comes_in_time_is_a_body(small, upstream, alice):
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        connection.sendall(head(small, alice, len(GOOD)))
        for part in (GOOD[:9], GOOD[9:99], GOOD[99:]):
            time.sleep(0.05)
            connection.sendall(part)
        [answer] = read_answers(connection, 1)
    assert (answer.status, answer.usage["credits_used"]) == (200, 2_400)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten(small, upstream, alice):
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        connection.sendall(head(small, alice, len(GOOD)) + GOOD[:20])
    assert ask(small, alice).status == 200
    assert len(holds(alice)) == 1
    assert "ERROR" not in small.log.read_text()


# --- What is not the client's fault -----------------------------------------------------------------------


def test_a_house_in_disorder_is_a_500_in_json_that_tells_nothing(gateway, upstream, live_db):
    """An organization without a wallet cannot be: if it is, no call goes out, and no answer says why."""
    bob = make_tenant(0)
    Wallet.objects.filter(pk=bob.organization_id).delete()
    for answer in (ask(gateway, bob), stream(gateway, bob), call(gateway, "GET", "/v1/credits", bob.headers)):
        assert_error(answer, 500, "api_error", "internal_error", None, "Something failed on our side.")
    assert upstream.counters["received"] == 0
