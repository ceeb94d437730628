"""A provider that refuses, is away, is slow, dies or talks nonsense: what the client hears, what it is charged (nothing
without output), and what the operator learns."""

import itertools
import json
import time
from functools import partial

import pytest

from completions.models import Route
from tests.kit.calls import ANSWER, ask, assert_error, chat, holds, post, shared_server, stream, usage_of, wallet
from tests.kit.canned_provider import CannedProvider, response
from tests.kit.catalogs import make_provider, make_route
from tests.kit.tenants import make_tenant

UNAVAILABLE = (503, "provider_unavailable", "provider_unavailable", None)
REFUSED = (400, "invalid_request_error")
STREAM_ERROR = {
    "error": {
        "message": "The upstream provider failed while answering.",
        "type": "upstream_error",
        "param": None,
        "code": "provider_error",
    }
}
CANNED, NOWHERE = "test/canned", "test/nowhere"
FIRST_EVENT_WAIT_S, KEEPALIVE_S, READ_TIMEOUT_S = 0.3, 0.1, 1.0


@pytest.fixture(scope="module")
def canned_provider():
    with CannedProvider() as provider:
        yield provider


@pytest.fixture
def impatient(server_environment, shared_servers, tmp_path_factory, canned_provider):
    """A server that waits for nobody long, and that also knows a canned provider and one that is not there."""
    for name, origin in ((CANNED, canned_provider.origin), (NOWHERE, "http://127.0.0.1:9")):  # the discard port
        if not Route.objects.filter(model_id=name).exists():
            fields = {"kind": "openai", "base_url": origin, "allow_plain_http": True}
            make_route(name, make_provider(name.replace("/", "-"), **fields))
    patience = {
        "FIRST_EVENT_WAIT_S": str(FIRST_EVENT_WAIT_S),
        "KEEPALIVE_S": str(KEEPALIVE_S),
        "UPSTREAM_READ_TIMEOUT_S": str(READ_TIMEOUT_S),
        "UPSTREAM_CONNECT_TIMEOUT_S": "1",
    }
    return shared_server(shared_servers, "impatient", {**server_environment, **patience}, tmp_path_factory)


@pytest.fixture
def canned(canned_provider):
    canned_provider.requests.clear()
    return canned_provider


def both(server, tenant, directive="", **fields):
    """The same call whole and streamed."""
    return ask(server, tenant, directive, **fields), stream(server, tenant, directive, **fields)


assert_failed = partial(assert_error, is_call=True)


def assert_nothing_charged(tenant, calls):
    made = holds(tenant)
    assert [(hold.state, hold.charged) for hold in made] == [("voided", None)] * calls
    assert wallet(tenant) == (1_000_000, 0)


def log_of(server, hold):
    """What the server logged about a call."""
    return [line for line in server.log.read_text().splitlines() if f"gen-{hold.pk.hex}" in line]


def assert_one_error_at_the_end(answer, said):
    """200, what came through, one error event, and no [DONE]."""
    assert (answer.status, answer.text) == (200, said)
    assert answer.events[-1] == STREAM_ERROR
    assert [event for event in answer.events if event == "[DONE]" or "error" in event] == [STREAM_ERROR]


# --- It says no ---------------------------------------------------------------------------------------


def test_a_refused_request_is_the_clients_400_without_our_ids(gateway, sandbox, alice):
    for answer in both(gateway, alice, "fault=http:400"):
        assert_failed(answer, *REFUSED, "invalid_request", None, "The provider refused the request: Bad request")
        assert b"user_" not in answer.body
    for status in (413, 422):
        for answer in both(gateway, alice, f"fault=http:{status}"):
            assert answer.error["code"] == "invalid_request"
    for answer in both(gateway, alice, "fault=http:403"):  # flagged by the provider's moderation
        assert_failed(answer, *REFUSED, "content_policy", "messages")
    assert_nothing_charged(alice, 8)


def test_ids_in_a_refusals_words_are_taken_out(impatient, canned, alice):
    words = "Not for user_2abCdefGhijklmnopqrstuvwxyz (req_011CSHoEeqs5C35K2UUqR7Fy), key sk-or-v1-0123456789abcdef"
    error = {"error": {"message": words, "code": 400}, "user_id": "user_2abCdefGhijklmnopqrstuvwxyz"}
    canned.reply = response(400, json.dumps(error).encode(), "x-generation-id: gen-1790000001-aB3dE5fG7hJ9kL1mN3pQ")
    for answer in both(impatient, alice, model=CANNED):
        message = "The provider refused the request: Not for […] ([…]), key […]"
        assert_failed(answer, *REFUSED, "invalid_request", None, message)
        assert not {"user_2", "req_0", "sk-or", "aB3dE5"} & {answer.body.decode(), *answer.headers.values()}
    assert_nothing_charged(alice, 2)


def test_a_context_that_is_too_long_is_named(impatient, canned, alice):
    error = {"error": {"message": "This endpoint's maximum context length is 8192 tokens.", "code": 400}}
    canned.reply = response(400, json.dumps(error).encode())
    for answer in both(impatient, alice, model=CANNED):
        assert_failed(answer, *REFUSED, "context_length_exceeded", "messages")
    assert_nothing_charged(alice, 2)


def test_trouble_with_our_account_is_a_503_and_the_operators_to_know(impatient, sandbox, canned, alice):
    forbidden = {"error": {"message": "Key limit exceeded", "code": 403}, "user_id": "user_2abCdefGhijklmnopqrstuvwxyz"}
    canned.reply = response(403, json.dumps(forbidden).encode())
    for status, fields in ((401, {}), (402, {}), (403, {"model": CANNED})):
        for answer in both(impatient, alice, f"fault=http:{status}", **fields):
            assert_failed(answer, *UNAVAILABLE, "The model's provider is unavailable.")
            assert answer.headers["retry-after"] == "1"
        name = "test-canned" if fields else "openrouter"
        for hold in holds(alice)[-2:]:
            alert = f"ERROR quantized.calls our account at {name} is refused: gen-{hold.pk.hex} (status {status})"
            assert [line for line in log_of(impatient, hold) if line.endswith(alert)]
    assert_nothing_charged(alice, 6)


def test_what_may_pass_is_a_503_that_says_when(gateway, sandbox, alice):
    waits = {404: "1", 408: "1", 429: "12", 500: "1", 502: "1", 503: "12", 524: "1", 529: "1"}
    for status, retry_after in waits.items():
        for answer in both(gateway, alice, f"fault=http:{status}"):
            assert_failed(answer, *UNAVAILABLE, "The model's provider is unavailable.")
            assert answer.headers["retry-after"] == retry_after
    assert ask(gateway, alice, "fault=http:429 retry_after=7").headers["retry-after"] == "7"
    assert ask(gateway, alice, "fault=http:429 retry_after=999999").headers["retry-after"] == "3600"
    assert_nothing_charged(alice, 18)


def test_an_error_inside_a_200_is_an_error(gateway, sandbox, alice):
    for answer in (*both(gateway, alice, "fault=200_error_top"), ask(gateway, alice, "fault=200_error_choice")):
        assert_failed(answer, *UNAVAILABLE, "The model's provider is unavailable.")
    assert_nothing_charged(alice, 3)


def test_a_redirect_is_not_followed(impatient, canned, alice):
    canned.reply = response(302, b"", f"location: {canned.origin}/elsewhere")
    for answer in both(impatient, alice, model=CANNED):
        assert_failed(answer, *UNAVAILABLE, "The model's provider is unavailable.")
    assert [head.split(b" ")[:2] for head in canned.requests] == [[b"POST", b"/chat/completions"]] * 2
    assert_nothing_charged(alice, 2)


# --- It is not there, or leaves -------------------------------------------------------------------------


def test_a_provider_that_is_not_there_is_a_503(impatient, alice):
    for answer in both(impatient, alice, model=NOWHERE):
        assert_failed(answer, *UNAVAILABLE, "The model's provider could not be reached.")
        assert answer.headers["retry-after"] == "1"
    assert_nothing_charged(alice, 2)


def test_a_connection_that_ends_before_the_answer_is_a_503(gateway, sandbox, alice):
    for answer in both(gateway, alice, "fault=die_before"):
        assert_failed(answer, *UNAVAILABLE)
    for fault in ("die_after:0", "reset_after:0"):
        for answer in both(gateway, alice, f"fault={fault}"):
            assert_failed(answer, *UNAVAILABLE, "The model's provider broke off its answer.")
    assert_nothing_charged(alice, 6)


def test_a_whole_answer_that_breaks_off_is_a_503_and_free(impatient, sandbox, alice):
    for fault in ("die_after", "reset_after"):
        answer = ask(impatient, alice, f"fault={fault}")
        assert_failed(answer, *UNAVAILABLE, "The model's provider broke off its answer.")
    assert_failed(
        ask(impatient, alice, "fault=stall_after"), *UNAVAILABLE, "The model's provider took too long to answer."
    )
    assert_nothing_charged(alice, 3)


# A stream that breaks off after "The capital": half of 61 estimated tokens in, 11 bytes at 3.5 each out.
BROKEN_OFF_MICRO = 1_979


@pytest.mark.parametrize("fault", ["die_after:2", "reset_after:2", "stall_after:2", "midstream_documented:2"])
def test_a_stream_that_breaks_off_is_charged_for_what_was_delivered(impatient, sandbox, alice, fault):
    # Slowly, because what a reset overtakes on the wire was not delivered.
    assert_one_error_at_the_end(stream(impatient, alice, f"delay_ms=20 fault={fault}"), "The capital")
    usage = usage_of(alice)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (31, 4, True)
    assert (usage.charged, usage.cancelled, usage.error_code) == (BROKEN_OFF_MICRO, False, "unavailable")
    assert wallet(alice) == (1_000_000 - BROKEN_OFF_MICRO, 0)


def test_a_stream_that_breaks_off_with_its_usage_is_charged_by_it(gateway, sandbox, alice):
    assert_one_error_at_the_end(
        stream(gateway, alice, "fault=midstream_recorded:2 prompt=43 completion=10 reasoning=11"), "The capital"
    )
    usage = usage_of(alice)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (43, 10, 11)
    assert (usage.charged, usage.estimated) == (3_495, False)  # (43 × 0.40 + 10 × 1.60) / 0.95 × 100, rounded up


def test_half_an_answer_with_an_error_in_it_is_a_stream_that_breaks_off(gateway, sandbox, alice):
    assert_one_error_at_the_end(stream(gateway, alice, "fault=200_error_choice"), "The capital of")
    assert (usage_of(alice).completion_tokens, usage_of(alice).estimated) == (4, True)


# --- It is slow -----------------------------------------------------------------------------------------


def test_a_slow_whole_answer_comes(impatient, sandbox, alice):
    answer = ask(impatient, alice, f"first_ms={FIRST_EVENT_WAIT_S * 2000}")
    assert (answer.status, answer.usage["credits_used"]) == (200, 2_400)


def test_a_slow_stream_has_its_head_and_signs_of_life_before_its_first_event(impatient, sandbox, alice):
    started = time.monotonic()
    answer = stream(impatient, alice, "first_ms=800")
    assert time.monotonic() - started < 5
    comments, rest = answer.body.split(b"data: ", 1)
    assert set(comments.decode().split("\n\n")) == {": keep-alive", ""}
    assert comments.count(b": keep-alive") >= 2
    assert b": keep-alive" not in rest
    assert (answer.status, answer.text, answer.events[-1]) == (200, ANSWER, "[DONE]")
    assert usage_of(alice).charged == 2_400


def test_signs_of_life_also_come_in_the_middle(impatient, sandbox, alice):
    answer = stream(impatient, alice, "delay_ms=250 tokens=4")
    comments = [block for block in answer.body.split(b"\n\n") if block.startswith(b":")]
    assert comments == [b": keep-alive"] * len(comments)
    assert len(comments) >= 3
    assert answer.events[-1] == "[DONE]"


def test_the_providers_comments_keep_a_slow_stream_alive_and_stay_behind(impatient, sandbox, alice):
    answer = stream(impatient, alice, f"first_ms={READ_TIMEOUT_S * 1500} comment_ms=200")
    assert (answer.status, answer.text, answer.events[-1]) == (200, ANSWER, "[DONE]")
    assert b"OPENROUTER" not in answer.body


def test_a_provider_that_is_too_slow_is_a_503(impatient, sandbox, alice):
    answer = ask(impatient, alice, "fault=stall_before")
    assert_failed(answer, *UNAVAILABLE, "The model's provider took too long to answer.")
    assert_one_error_at_the_end(stream(impatient, alice, "fault=stall_before"), "")
    assert_nothing_charged(alice, 2)


def test_slow_headers_are_waited_for(impatient, sandbox, alice):
    for answer in both(impatient, alice, "fault=slow_headers:500"):
        assert answer.status == 200
    assert wallet(alice) == (995_200, 0)


# --- It talks nonsense ----------------------------------------------------------------------------------

NONSENSE = "The provider's answer could not be understood."
CUT_OFF = "The provider broke off its answer."


def test_a_whole_answer_that_is_none_is_a_503(gateway, sandbox, alice):
    faults = ("html", "empty_body", "invalid_json", "truncated_json", "no_choices", "comments_only")
    for fault in faults:
        assert_failed(ask(gateway, alice, f"fault={fault}"), *UNAVAILABLE, NONSENSE)
    assert_nothing_charged(alice, len(faults))


def test_a_stream_that_is_none_is_a_503(gateway, sandbox, alice):
    faults = {
        "html": NONSENSE,
        "invalid_json": NONSENSE,
        "truncated_json": NONSENSE,
        "no_choices": NONSENSE,
        "wrong_content_type": NONSENSE,
        "empty_body": CUT_OFF,
        "comments_only": CUT_OFF,
    }
    for fault, message in faults.items():
        assert_failed(stream(gateway, alice, f"fault={fault}"), *UNAVAILABLE, message)
    assert_nothing_charged(alice, len(faults))


def test_a_whole_answer_counts_whatever_its_content_type(gateway, sandbox, alice):
    assert ask(gateway, alice, "fault=wrong_content_type").usage["credits_used"] == 2_400


INDECENT = [
    b"",
    b"hello\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    response(200, b"{}")[:-1],
    response(200, b'{"id": "x", "choices": [{"message": 7}]}'),
    response(200, b"[" * 100_000),
    response(200, b"\x1f\x8b\x08nonsense", "content-encoding: gzip"),
    response(200, b"data: {}\n\n", content_type="text/event-stream"),
    response(200, b"data: [DONE]\n\n", content_type="text/event-stream"),
    response(200, b"\xff\xfe", content_type="text/event-stream"),
    response(204, b""),
    response(999, b""),
]


def test_what_no_decent_server_says_is_a_503(impatient, canned, alice):
    for reply in INDECENT:
        canned.reply = reply
        for answer in both(impatient, alice, model=CANNED):
            assert_failed(answer, *UNAVAILABLE)
            assert answer.headers["retry-after"] == "1"
    assert_nothing_charged(alice, 2 * len(INDECENT))
    assert "Traceback" not in impatient.log.read_text()


def test_an_error_without_end_is_read_for_a_moment_only(impatient, canned, alice):
    canned.reply = itertools.chain([b"HTTP/1.1 500 Oh\r\n\r\n"], itertools.repeat(b"x" * 65_536))
    assert_failed(ask(impatient, alice, model=CANNED), *UNAVAILABLE, "The model's provider is unavailable.")
    assert_nothing_charged(alice, 1)


def test_an_event_as_large_as_a_picture_comes_through(gateway, sandbox, alice):
    answer = stream(gateway, alice, "fault=huge_line:3000000")
    assert (answer.status, len(answer.text), answer.events[-1]) == (200, 3_000_000, "[DONE]")


def test_an_event_without_end_is_cut_off(impatient, canned, alice):
    """After the head has gone to the client: reading that much may take a moment."""

    def pieces():
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        time.sleep(2 * FIRST_EVENT_WAIT_S)
        yield from itertools.chain([b"data: "], itertools.repeat(b"x" * 1_000_000))

    canned.reply = pieces()
    assert_one_error_at_the_end(stream(impatient, alice, model=CANNED), "")
    assert_nothing_charged(alice, 1)


def test_a_stream_without_done_is_complete_when_it_said_how_it_ended(gateway, sandbox, alice):
    answer = stream(gateway, alice, "fault=no_done")
    assert (answer.text, answer.events[-1]) == (ANSWER, "[DONE]")
    assert answer.events[-2]["usage"]["credits_used"] == 2_400


def test_what_a_database_cannot_store_is_no_reason_not_to_settle(gateway, sandbox, alice):
    for answer in both(gateway, alice, "finish=st\0op"):
        assert answer.status == 200
    assert wallet(alice) == (995_200, 0)


# --- Its usage ------------------------------------------------------------------------------------------


def test_usage_in_every_place_is_the_same_charge(gateway, sandbox, alice):
    for directive in ("usage=repeat", "usage=empty_choices", "usage=2025", "usage=bare", "usage=no_details"):
        whole, streamed = both(gateway, alice, directive)
        assert (whole.usage["credits_used"], streamed.events[-2]["usage"]["credits_used"]) == (2_400, 2_400)
        assert streamed.events[-2]["choices"] == []
    assert wallet(alice) == (1_000_000 - 10 * 2_400, 0)
    assert not any(hold.usage.estimated for hold in holds(alice))


def test_cached_tokens_have_their_own_price(gateway, sandbox, alice):
    for place in ("repeat", "empty_choices", "2025"):
        answer = stream(gateway, alice, f"usage={place} cached=20")
        usage = answer.events[-2]["usage"]
        assert usage["credits_used"] == 1_769  # (5 × 0.40 + 20 × 0.10 + 8 × 1.60) / 0.95 × 100, rounded up
        assert usage["prompt_tokens_details"]["cached_tokens"] == 20


ESTIMATE_MICRO = 2_822  # (31 × 0.40 + 9 × 1.60) / 0.95 × 100: half of 61 estimated tokens, 31 bytes at 3.5 each


def test_usage_that_says_nothing_is_an_estimate(gateway, sandbox, alice):
    problems = {"missing": None, "null": None, "negative": "negative", "absurd": "absurd", "wrong_types": "malformed"}
    for form, problem in problems.items():
        whole, streamed = both(gateway, alice, f"usage={form}")
        for usage in (whole.usage, streamed.events[-2]["usage"]):
            told = (usage["prompt_tokens"], usage["completion_tokens"], usage["credits_used"])
            assert (form, *told) == (form, 31, 9, ESTIMATE_MICRO)
        for hold in holds(alice)[-2:]:
            assert (hold.usage.estimated, hold.charged) == (True, ESTIMATE_MICRO)
            alerts = [line for line in log_of(gateway, hold) if " ERROR " in line]
            assert [f"openrouter reported {problem} usage" in line for line in alerts] == [True] * bool(problem)


def test_an_estimate_is_never_of_more_than_was_asked_for(gateway, sandbox, alice):
    for answer in both(gateway, alice, "usage=missing fault=huge_line:30000"):
        assert answer.status == 200
    for hold in holds(alice):
        assert (hold.usage.completion_tokens, hold.charged) == (128, 22_864)  # (31 × 0.40 + 128 × 1.60) / 0.95 × 100


def test_zero_usage_is_zero(gateway, sandbox, alice):
    whole, streamed = both(gateway, alice, "usage=zero")
    for usage in (whole.usage, streamed.events[-2]["usage"]):
        assert (usage["total_tokens"], usage["credits_used"], usage["credits_remaining"]) == (0, 0, 1_000_000)
    assert [(hold.state, hold.charged, hold.usage.estimated) for hold in holds(alice)] == [("settled", 0, False)] * 2


def test_an_estimate_is_never_of_more_than_the_model_can_read(gateway, sandbox, alice):
    """A file behind a URL may be anything: it is estimated at a million tokens, the model reads 128,000."""
    part = {"type": "file", "file": {"file_data": "https://example.com/a.pdf", "filename": "a.pdf"}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "Sum it up."}]}]
    fields = {"model": "openai/gpt-4o", "messages": messages, "max_tokens": 16}
    rich = make_tenant(1_000_000_000)
    answer = post(gateway, rich, chat("usage=missing tokens=2", **fields))
    assert (answer.status, answer.usage["prompt_tokens"]) == (200, 64_000)
