"""Vercel's AI SDK, over a socket, with both providers an application would point at us. One node process each."""

import json
from typing import Any

import pytest

from tests.kit import MODEL
from tests.kit.client_programs import CLAUDE, credits_used, run_node, run_once, why_no_node, with_more
from tests.kit.conversations import (
    CAPITAL,
    FRANCE,
    PARIS,
    PIXEL,
    TWO_CITIES,
    TWO_REPORTS,
    WEATHER,
    WEATHER_REPORT,
    WORDS,
)
from tests.kit.live import Server
from tests.kit.tenants import Tenant

PROVIDERS = ["compatible", "openrouter"]
FIRST_THOUGHT = "Remembers silver wind reads small here plants."
# What Claude thinks: before its calls and after their results.
ADAPTIVE = (
    "Remembers silver wind reads small here plants clock beside. Each lifts on careful after.",
    "Bridge brings but together book well clock sailor wheel over clear counts. Traveler gathers.",
)
BUDGETED = (
    "Remembers silver wind reads small here plants clock beside. Each lifts on careful after heavy needle keeps rope "
    "of book map quiet baker. Crosses needle plants after open holds.",
    "Bridge brings but together book well clock sailor wheel over clear counts. Traveler gathers snow child careful "
    "village river distant watches follows. Counts because broad on between many letter.",
)
REDACTED = (
    "Clock by rain some basket careful there path road there. When repairs bread of but nearly gentle by. Boat but "
    "thread of garden garden light rain shares. Forest."
)

pytestmark = pytest.mark.skipif(bool(why_no_node("ai")), reason=why_no_node("ai"))

GIVEN = {
    "model": MODEL,
    "reasoner": "openai/gpt-6-luna",
    "question": FRANCE["content"],
    "cities": TWO_CITIES["content"],
    "tool": WEATHER,
    "report": json.loads(WEATHER_REPORT),
    "capital": CAPITAL,
    "pixel": PIXEL,
}


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    return {}


@pytest.fixture
def conversations(seen: dict[str, Any], gateway: Server, alice: Tenant) -> dict[str, Any]:
    return run_once(seen, "ai_conversations.mjs", gateway, alice, **GIVEN)


@pytest.fixture
def failures(seen: dict[str, Any], gateway: Server, alice: Tenant) -> dict[str, Any]:
    return run_once(seen, "ai_failures.mjs", gateway, alice, **GIVEN)


def told(
    text: str,
    tokens: tuple[int, int],
    credits_micro: int,
    *,
    cities: tuple[str, ...] = (),
    reasoning: str | None = None,
) -> list[Any]:
    calls = [["get_weather", {"city": city}] for city in cities]
    return [text, reasoning, calls, "tool-calls" if calls else "stop", *tokens, credits_micro]


def thought_through(
    asked: tuple[int, int], asked_credits: int, told_tokens: tuple[int, int], told_credits: int, *thoughts: str | None
) -> list[Any]:
    """Both steps of a loop: the calls, and what is made of their results."""
    first, second = thoughts
    called = told("", asked, asked_credits, cities=("Paris", "Berlin"), reasoning=first)
    return [called, told(TWO_REPORTS, told_tokens, told_credits, reasoning=second)]


def test_both_providers_are_told_the_same_for_the_same_credits(conversations: dict[str, Any]):
    object_told = [{"country": "France", "capital": "Paris"}, "stop", 15, 13, 2822]
    steps = {
        "text": [told(PARIS, (22, 8), 2274)],
        "image": [told("There is one image: a PNG of 1 by 1 pixels.", (269, 16), 14022)],
        "required": [told("", (72, 13), 5222, cities=("France",))],
        "loop": [told("", (75, 25), 7369, cities=("Paris", "Berlin")), told(TWO_REPORTS, (127, 35), 11243)],
        "reasoned": [
            told("", (75, 33), 2527, cities=("Paris", "Berlin"), reasoning=FIRST_THOUGHT),
            told(TWO_REPORTS, (127, 43), 3600, reasoning="Baker opens lifts farmer forest counts rain."),
        ],
    }
    for provider in PROVIDERS:
        seen = conversations[provider]
        assert {name: seen[name] for name in steps} == {name: [made] * 2 for name, made in steps.items()}
        assert seen["called"] == ["Paris", "Berlin"] * 4
        assert seen["answered"] == {"id_is_the_generation": True, "model": MODEL, "warnings": []}
        assert [seen["objects"][name] for name in ("whole", "streamed", "output")] == [object_told] * 3
    every_step = sum(step[-1] for made in steps.values() for step in made)
    as_it_is = 1979  # the question, once streamed for its parts and once whole for its headers
    assert conversations["credits"] == 2 * (2 * every_step + 2 * as_it_is + 3 * 2822)


def test_streams_come_part_by_part(conversations: dict[str, Any]):
    text = ["text-start", *(["text-delta", word] for word in WORDS), "text-end"]
    partial = [{}, {"country": ""}, {"country": "France"}, {"country": "France", "capital": ""}]
    for provider in PROVIDERS:
        seen = conversations[provider]
        assert seen["parts"] == ["start", "start-step", *text, "finish-step", "finish"]
        assert seen["objects"]["partial"] == [*partial, {"country": "France", "capital": "Paris"}]


def test_reasoning_goes_back_in_a_tool_loop(conversations: dict[str, Any]):
    compatible, openrouter = (conversations[provider]["echoes"] for provider in PROVIDERS)
    assert compatible == [{"role": "assistant", "reasoning_content": FIRST_THOUGHT}] * 2
    assert [echo["reasoning"] for echo in openrouter] == [FIRST_THOUGHT] * 2
    whole, streamed = (echo["reasoning_details"] for echo in openrouter)
    assert [detail["type"] for detail in whole] == ["reasoning.summary", "reasoning.encrypted"]
    # It returns the summary in the pieces it came in, and what is sealed in one.
    assert "".join(detail.get("summary", "") for detail in streamed) == whole[0]["summary"] == FIRST_THOUGHT
    assert streamed[-1] == whole[-1]


def test_refusals_are_api_call_errors_that_are_not_retried(gateway: Server, alice: Tenant):
    answers = run_node("ai_refusals.mjs", gateway, alice, **GIVEN)
    expected = {
        "key": [401, "authentication_error", "invalid_api_key", None, False],
        "credits": [402, "insufficient_credits", "insufficient_credits", None, False],
        "model": [404, "not_found_error", "model_not_found", "model", False],
        "field": [400, "invalid_request_error", "unknown_field", "n", False],
        "range": [400, "invalid_request_error", "out_of_range", "temperature", False],
    }
    assert {provider: seen["refused"] for provider, seen in answers.items()} == dict.fromkeys(PROVIDERS, expected)
    # The compatible one keeps the four keys of OpenAI's errors only.
    assert answers["openrouter"]["affordable"] == {
        "limit_source": "credits",
        "required": 1_685_853,
        "available": 1_000_000,
        "affordable_output_tokens": 5_927,
    }
    assert credits_used(gateway, alice) == 0


def test_a_provider_that_is_away_is_asked_again(failures: dict[str, Any]):
    unavailable = "The model's provider is unavailable."
    streamed = {
        "kinds": ["start", "error"],
        "errors": [[unavailable, 503]],
        "heard": [unavailable],
        "ended": "NoOutputGeneratedError",
    }
    for provider in PROVIDERS:
        assert failures[provider]["away"] == ["maxRetriesExceeded", [[503, "provider_unavailable"]] * 2]
        assert failures[provider]["away_streamed"] == streamed


def test_a_stream_that_breaks_keeps_its_text_and_says_so(failures: dict[str, Any]):
    failed = "The upstream provider failed while answering."
    text = ["text-start", *["text-delta"] * 4]
    broken = {
        "kinds": ["start", "start-step", *text, "error", "text-end", "finish-step", "finish"],
        "errors": [[failed, None]],
        "heard": [failed],
        "ended": ["error", "Window in steady lifts"],
    }
    assert [failures[provider]["broken"] for provider in PROVIDERS] == [broken] * 2
    assert failures["credits"] == 2 * 2022  # the same estimate for each; who was away costs nothing


def test_claude_thinks_through_a_tool_loop(gateway: Server, alice: Tenant):
    redacts = "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING"
    answers = run_node("ai_claude.mjs", gateway, with_more(alice, 4_000_000), **GIVEN | CLAUDE, redacts=redacts)
    compatible, openrouter = (answers[provider] for provider in PROVIDERS)
    for seen in answers.values():
        assert seen["text"] == [[told(PARIS, (15, 8), 17369)]] * 2
        assert seen["object"] == [{"country": "France", "capital": "Paris"}, "stop", 15, 13, 25264]
        assert seen["adaptive"] == [thought_through((75, 41), 88422, (129, 51), 121264, *ADAPTIVE)] * 2
    # A budget wants the thoughts back, sealed or not: this provider returns them.
    assert openrouter["budget"] == [thought_through((75, 57), 113685, (129, 67), 146527, *BUDGETED)] * 2
    assert openrouter["redacted"] == [thought_through((86, 57), 117158, (140, 67), 150000, None, REDACTED)] * 2
    # And this one does not: the model could not go on.
    refused = [400, "unsupported_parameter", "messages[1].reasoning_details"]
    assert (compatible["budget"], compatible["redacted"]) == (refused, refused)
