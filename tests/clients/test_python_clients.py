"""Other Python clients, over a socket: langchain-openai, LiteLLM as a library, Pydantic AI.

Each has one process for everything it does, since importing some takes seconds, in an environment of its own.
"""

from typing import Any

import pytest

from tests.kit import MODEL
from tests.kit.client_programs import CLAUDE, run_once, why_no_python_clients, with_more
from tests.kit.conversations import (
    CONVERSATIONS,
    FRANCE,
    PARIS,
    TWO_CITIES,
    TWO_REPORTS,
    WEATHER,
    WEATHER_REPORT,
    WORDS,
)
from tests.kit.live import Server
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.skipif(bool(why_no_python_clients()), reason=why_no_python_clients())

GIVEN = {
    "model": MODEL,
    "question": FRANCE,
    "cities": TWO_CITIES,
    "tool": WEATHER,
    "report": WEATHER_REPORT,
    "conversations": {name: request for name, (request, _) in CONVERSATIONS.items()},
    "thinks": {
        "model": "openai/gpt-6-luna",
        "max_tokens": 100,
        "extra_body": {"reasoning": {"effort": "minimal"}},
    },
    "refusals": {
        "key": {"api_key": "sk-quantized-YOUR-KEY"},
        "credits": {"max_tokens": 32_768},
        "model": {"model": "openai/gpt-4.1-minni"},
        "field": {"extra_body": {"n": 2}},
        "range": {"temperature": 3},
        "away": {"extra_body": {"user": "sandbox:fault=http:503"}},
    },
    "outputs": ["native", "prompted", "tool"],
    "breaks": {"user": "sandbox:tokens=20 fault=midstream_documented:4"},
    "claude": {
        **CLAUDE,
        "thinks": {"max_tokens": 200, "extra_body": {"reasoning": {"effort": "low"}}},
        "outputs": ["native", "tool"],  # it has no JSON without a schema
    },
}
ALL_CONVERSATIONS = sum(told.credits for _, told in CONVERSATIONS.values())
CALLS = [["get_weather", '{"city": "Paris"}'], ["get_weather", '{"city": "Berlin"}']]
CAPITAL = {"country": "France", "capital": "Paris"}
# A called function gets the sandbox's one guess for all its arguments.
GUESSED = {"country": "France", "capital": "France"}
FAILED = "The upstream provider failed while answering."
SAID = "Window in steady lifts"  # until then, for 2022 micro-credits


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    return {}


@pytest.fixture
def rich(alice: Tenant) -> Tenant:
    return with_more(alice, 4_000_000)


# --- langchain-openai -----------------------------------------------------------------------------


@pytest.fixture
def langchain(seen: dict[str, Any], gateway: Server, rich: Tenant) -> dict[str, Any]:
    return run_once(seen, "with_langchain.py", gateway, rich, **GIVEN)


def test_langchain_is_told_the_same_whole_and_streamed(langchain: dict[str, Any]):
    expected = {name: [text, *rest] for name, (_, (text, _, *rest)) in CONVERSATIONS.items()}
    assert langchain["whole"] == expected
    without_credits = {name: told[:-1] for name, told in langchain["streamed"].items()}
    assert without_credits == {name: told[:-1] for name, told in expected.items()}
    assert langchain["concurrent"] == [PARIS] * 4


def test_langchain_tools_and_structured_output(langchain: dict[str, Any]):
    answer = [TWO_REPORTS, [], "stop", 135, 35, 11579]
    called = ["", CALLS, "tool_calls", 75, 25]
    assert langchain["tools"] == [[*called, 7369], answer, [*called, None], answer]
    assert langchain["structured"] == {
        "json_schema": [[CAPITAL, 15, 13, 2822], CAPITAL],
        "function_calling": [[GUESSED, 65, 17, 5600], GUESSED],
    }


def test_langchain_errors(langchain: dict[str, Any]):
    assert langchain["refused"] == {
        "key": ["OpenAIAuthenticationError", 401, "authentication_error", "invalid_api_key", None],
        "credits": ["APIStatusError", 402, "insufficient_credits", "insufficient_credits", None],
        "model": ["OpenAIModelNotFoundError", 404, "not_found_error", "model_not_found", "model"],
        "field": ["OpenAIInvalidRequestError", 400, "invalid_request_error", "unknown_field", "n"],
        "range": ["OpenAIInvalidRequestError", 400, "invalid_request_error", "out_of_range", "temperature"],
        "away": ["OpenAIAPIError", 503, "provider_unavailable", "provider_unavailable", None],
    }
    assert langchain["broken"] == ["APIError", "provider_error", FAILED, SAID]


def test_langchain_cannot_tell_claude_apart(langchain: dict[str, Any]):
    text, called, answer = [PARIS, [], "stop", 15, 8], ["", CALLS, "tool_calls", 75, 25], [TWO_REPORTS, [], "stop"]
    assert langchain["claude"] == {
        "text": [[*text, 17369], [*text, None]],
        "tools": [[*called, 63158], [*answer, 135, 35, 97895], [*called, None], [*answer, 135, 35, 97895]],
        "structured": {
            "json_schema": [[CAPITAL, 15, 13, 25264], CAPITAL],
            "function_calling": [[GUESSED, 67, 17, 48000], GUESSED],
        },
    }


def test_langchain_is_charged_for_what_it_was_told(langchain: dict[str, Any]):
    tools, structured = 2 * (7369 + 11579), 2 * (2822 + 5600)
    claude = 2 * (17369 + 63158 + 97895 + 25264 + 48000)
    assert langchain["credits"] == 2 * ALL_CONVERSATIONS + tools + structured + 4 * 1979 + 2022 + claude


# --- LiteLLM --------------------------------------------------------------------------------------


@pytest.fixture
def litellm(seen: dict[str, Any], gateway: Server, rich: Tenant) -> dict[str, Any]:
    return run_once(seen, "with_litellm.py", gateway, rich, **GIVEN)


def test_litellm_is_told_the_same_whole_and_streamed(litellm: dict[str, Any]):
    expected = {name: list(told) for name, (_, told) in CONVERSATIONS.items()}
    assert litellm["whole"] == expected
    assert litellm["streamed"] == {name: [*told[:-1], None] for name, told in expected.items()}
    assert litellm["concurrent"] == [PARIS] * 4


def test_litellm_tools_and_structured_output(litellm: dict[str, Any]):
    assert litellm["tools"] == [[TWO_REPORTS, None, [], "stop", 135, 35, 11579]] * 2
    answer = [CAPITAL, None, [], "stop", 15, 13]
    assert litellm["structured"] == [[*answer, 2822], [*answer, None]]


def test_litellm_errors(litellm: dict[str, Any]):
    refused = {name: [kind, status] for name, (kind, status, _) in litellm["refused"].items()}
    assert refused == {
        "key": ["AuthenticationError", 401],
        "credits": ["APIError", 402],
        "model": ["NotFoundError", 404],
        "field": ["BadRequestError", 400],
        "range": ["BadRequestError", 400],
        "away": ["ServiceUnavailableError", 503],
    }
    unknown = "Unknown field: 'n'. One choice is given per request: send several requests."
    assert litellm["refused"]["field"][2] == f"litellm.BadRequestError: OpenAIException - {unknown}"
    # What it makes of an error event: it could go on with another model from here.
    kind, _, message, said = litellm["broken"]
    assert (kind, said) == ("MidStreamFallbackError", SAID)
    assert message.endswith(f"OpenAIException - {FAILED}")


def test_litellm_cannot_tell_claude_apart(litellm: dict[str, Any]):
    text, json_text = [PARIS, None, [], "stop", 15, 8], [CAPITAL, None, [], "stop", 15, 13]
    assert litellm["claude"] == {
        "text": [[*text, 17369], [*text, None]],
        "tools": [[TWO_REPORTS, None, [], "stop", 135, 35, 97895]] * 2,
        "structured": [[*json_text, 25264], [*json_text, None]],
    }


def test_litellm_is_charged_for_what_it_was_told(litellm: dict[str, Any]):
    tools, structured = 2 * (7369 + 11579), 2 * 2822
    claude = 2 * (17369 + 63158 + 97895 + 25264)
    assert litellm["credits"] == 2 * ALL_CONVERSATIONS + tools + structured + 4 * 1979 + 2022 + claude


# --- Pydantic AI ----------------------------------------------------------------------------------


@pytest.fixture
def pydantic_ai(seen: dict[str, Any], gateway: Server, rich: Tenant) -> dict[str, Any]:
    return run_once(seen, "with_pydantic_ai.py", gateway, rich, **GIVEN)


def test_pydantic_ai_is_told_the_same_whole_and_streamed(pydantic_ai: dict[str, Any]):
    assert pydantic_ai["text"] == [[PARIS, 1, 15, 8, 1979]] * 2
    assert pydantic_ai["words"] == WORDS
    assert pydantic_ai["thoughts"] == [["The book steady teacher always on turns."]] * 2


def test_pydantic_ai_tools_with_and_without_reasoning(pydantic_ai: dict[str, Any]):
    called = ["Paris", "Berlin"] * 2
    assert pydantic_ai["tools"] == {"runs": [[TWO_REPORTS, 2, 202, 60, 18612]] * 2, "called": called}
    assert pydantic_ai["thoughtful_tools"] == {"runs": [[TWO_REPORTS, 2, 202, 76, 6127]] * 2, "called": called}


def test_pydantic_ai_structured_output_of_every_kind(pydantic_ai: dict[str, Any]):
    assert pydantic_ai["structured"] == {
        "native": [[CAPITAL, 1, 15, 13, 2822]] * 2,
        "prompted": [[CAPITAL, 1, 100, 30, 9264]] * 2,
        "tool": [[GUESSED, 1, 80, 19, 6569]] * 2,
    }


def test_pydantic_ai_errors(pydantic_ai: dict[str, Any]):
    refused = {name: [kind, status, body["code"]] for name, (kind, status, body) in pydantic_ai["refused"].items()}
    assert refused == {
        "key": ["ModelAuthenticationError", 401, "invalid_api_key"],
        "credits": ["ModelQuotaExceededError", 402, "insufficient_credits"],
        "model": ["ModelNotFoundError", 404, "model_not_found"],
        "field": ["ModelRequestRejectedError", 400, "unknown_field"],
        "range": ["ModelRequestRejectedError", 400, "out_of_range"],
        "away": ["ModelUnavailableError", 503, "provider_unavailable"],
    }
    assert pydantic_ai["refused"]["credits"][2]["metadata"] == {
        "limit_source": "credits",
        "required": 5_520_464,
        "available": 5_000_000,
        "affordable_output_tokens": 29_677,
    }
    assert pydantic_ai["broken"] == ["ModelAPIError", FAILED, SAID]


def test_pydantic_ai_cannot_tell_claude_apart(pydantic_ai: dict[str, Any]):
    called = ["Paris", "Berlin"] * 2
    thought = "The book steady teacher always on turns gardener song. Gathers while open crosses light."
    assert pydantic_ai["claude"] == {
        "text": [[PARIS, 1, 15, 8, 17369]] * 2,
        "thoughts": [[thought]] * 2,
        "tools": {"runs": [[TWO_REPORTS, 2, 204, 60, 159_158]] * 2, "called": called},
        "thoughtful_tools": {"runs": [[TWO_REPORTS, 2, 204, 92, 209_686]] * 2, "called": called},
        "structured": {
            "native": [[CAPITAL, 1, 15, 13, 25264]] * 2,
            "tool": [[GUESSED, 1, 80, 19, 55264]] * 2,
        },
    }


def test_pydantic_ai_is_charged_for_what_it_was_told(pydantic_ai: dict[str, Any]):
    both_ways = 1979 + 18612 + (2822 + 9264 + 6569) + 1000 + 6127
    claude = 17369 + 42632 + 159_158 + 209_686 + (25264 + 55264)
    assert pydantic_ai["credits"] == 2 * (both_ways + claude) + 1979 + 2022
