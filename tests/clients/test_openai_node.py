"""The official OpenAI SDK for Node, over a socket. One node process for each program in tests/node."""

import pytest

from tests.kit import MODEL
from tests.kit.client_programs import NODE_PROGRAMS, run_node, why_no_node
from tests.kit.conversations import CONVERSATIONS, FRANCE, TWO_CITIES, TWO_REPORTS, WEATHER, WEATHER_REPORT, WORDS
from tests.kit.live import Server
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.skipif(bool(why_no_node("openai")), reason=why_no_node("openai"))


def test_whole_streamed_and_the_stream_helper_say_and_cost_the_same(gateway: Server, alice: Tenant):
    requests = {name: request for name, (request, _) in CONVERSATIONS.items()}
    expected = {name: list(told) for name, (_, told) in CONVERSATIONS.items()}
    answers = run_node("conversations.mjs", gateway, alice, conversations=requests)
    assert answers["whole"] == expected
    assert answers["streamed"] == expected
    # The helper makes null of an empty text, and keeps only the last piece of `reasoning`, which it does not know.
    gathered = {name: [text or "", *rest] for name, (text, _, *rest) in answers["helper"].items()}
    assert gathered == {name: [text, *rest] for name, (text, _, *rest) in expected.items()}


def test_tool_loops_and_answers_that_go_back(gateway: Server, alice: Tenant):
    fixed = {"model": MODEL, "question": FRANCE, "cities": TWO_CITIES, "tool": WEATHER, "report": WEATHER_REPORT}
    seen = run_node("tools.mjs", gateway, alice, **fixed, reasoned=CONVERSATIONS["reasoning"].request)
    assert seen["loop"] == [[TWO_REPORTS, None, [], "stop", 135, 35, 11579]] * 2
    assert seen["run"] == [[TWO_REPORTS, ["Paris", "Berlin"]]] * 2
    assert seen["echo"] == ["The book steady.", list(CONVERSATIONS["several_turns"].told)]


def test_streams_chunk_by_chunk(gateway: Server, alice: Tenant):
    seen = run_node("streams.mjs", gateway, alice, model=MODEL, question=FRANCE)
    assert seen["with_usage"] == {
        "deltas": [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS), {}],
        "finishes": [None] * 8 + ["stop"],
        "usages": [None] * 9 + [[23, 1979, 998_021]],
        "ids": 1,
    }
    assert seen["without_usage"] == {"usages": 0, "finish": "stop"}
    likely = {"token": "yes", "logprob": -0.245261, "bytes": [121, 101, 115]}
    assert seen["logprobs"] == [{**likely, "top_logprobs": [likely]}]
    assert seen["broken"] == ["APIError", "The upstream provider failed while answering.", 4]


def test_headers_models_and_errors(gateway: Server, alice: Tenant):
    seen = run_node("refusals.mjs", gateway, alice, model=MODEL, question=FRANCE)
    assert len(set(seen["headers"]["request_ids"])) == 1
    assert len(set(seen["headers"]["generation_ids"])) == 1
    assert seen["headers"]["provider"] == "openrouter"
    listed, found = seen["models"]
    assert (listed, found["id"]) == (found, MODEL)
    assert seen["refused"] == {
        "key": ["AuthenticationError", 401, "authentication_error", "invalid_api_key", None, True],
        "model": ["NotFoundError", 404, "not_found_error", "model_not_found", "model", True],
        "field": ["BadRequestError", 400, "invalid_request_error", "unknown_field", "n", True],
        "range": ["BadRequestError", 400, "invalid_request_error", "out_of_range", "temperature", True],
    }
    assert seen["poor"] == [
        402,
        "insufficient_credits",
        {"limit_source": "credits", "required": 1_685_853, "available": 998_021, "affordable_output_tokens": 5_915},
    ]


def test_the_lock_file_names_no_registry():
    assert '"resolved"' not in (NODE_PROGRAMS / "package-lock.json").read_text()
