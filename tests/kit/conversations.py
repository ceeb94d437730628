"""The same conversations for every client: what is asked, and exactly what comes of it.

Each is sent whole and streamed, by the Python SDK (waiting and async) and the Node SDK. The sandbox is
deterministic, so texts, tokens and credits are numbers of this file.
"""

import json
from typing import Any, NamedTuple

from tests.kit import MODEL

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def function(name: str, description: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = function("get_weather", "Get the current weather in a city")
TIME = function("get_time", "Get the current time in a city")
CAPITAL = {
    "name": "capital",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"country": {"type": "string"}, "capital": {"type": "string"}},
        "required": ["country", "capital"],
        "additionalProperties": False,
    },
}

FRANCE = {"role": "user", "content": "What is the capital of France?"}
PARIS = "The capital of France is Paris."
WORDS = ["The", " capital", " of", " France", " is", " Paris", "."]  # its pieces in a stream
PARIS_WEATHER = {"role": "user", "content": "What's the weather in Paris?"}
TWO_CITIES = {"role": "user", "content": "What's the weather in Paris and Berlin?"}
WEATHER_REPORT = '{"temp": 18, "unit": "C"}'
TWO_REPORTS = "get_weather (city: Paris): temp is 18, unit is C. get_weather (city: Berlin): temp is 18, unit is C."
COUNT = {"role": "user", "content": "Count to 10"}
STORY = {"role": "user", "content": "Tell me a story"}


def picture(**image_url: str) -> dict[str, Any]:
    text = {"type": "text", "text": "What is in this image?"}
    return {"role": "user", "content": [text, {"type": "image_url", "image_url": image_url}]}


class Told(NamedTuple):
    """What a client read in an answer. Calls are [name, arguments]."""

    text: str | None
    reasoning: str | None
    calls: list[list[str]]
    finish: str
    prompt_tokens: int
    completion_tokens: int
    credits: int


class Conversation(NamedTuple):
    request: dict[str, Any]
    told: Told


def conversation(
    *messages: dict[str, Any],
    tells: str = "",
    reasoning: str | None = None,
    calls: tuple[tuple[str, dict[str, str]], ...] = (),
    finish: str = "stop",
    tokens: tuple[int, int],
    credits_micro: int,
    **fields: Any,
) -> Conversation:
    made = [[name, json.dumps(arguments)] for name, arguments in calls]
    told = Told(tells, reasoning, made, finish, *tokens, credits_micro)
    return Conversation({"model": MODEL, "messages": list(messages), **fields}, told)


CONVERSATIONS = {
    "text": conversation(FRANCE, tells=PARIS, tokens=(15, 8), credits_micro=1979),
    "several_turns": conversation(
        FRANCE,
        {"role": "assistant", "content": PARIS},
        {"role": "user", "content": "What about Germany?"},
        tells="The capital of Germany is Berlin.",
        tokens=(34, 8),
        credits_micro=2779,
    ),
    "every_ordinary_setting": conversation(
        {"role": "developer", "content": "Be brief."},
        FRANCE,
        tells=PARIS,
        tokens=(22, 8),
        credits_micro=2274,
        max_completion_tokens=64,
        temperature=0,
        top_p=0.5,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"50256": -100},
        user="user-1",
    ),
    "settings_that_ask_for_nothing": conversation(
        FRANCE,
        tells=PARIS,
        tokens=(15, 8),
        credits_micro=1979,
        max_tokens=None,
        temperature=1,
        frequency_penalty=0,
        logprobs=False,
        stop=None,
        seed=None,
        logit_bias=None,
        response_format={"type": "text"},
    ),
    "one_tool": conversation(
        PARIS_WEATHER,
        calls=(("get_weather", {"city": "Paris"}),),
        finish="tool_calls",
        tokens=(73, 13),
        credits_micro=5264,
        tools=[WEATHER],
    ),
    "parallel_tools": conversation(
        TWO_CITIES,
        calls=(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Berlin"})),
        finish="tool_calls",
        tokens=(131, 25),
        credits_micro=9727,
        tools=[WEATHER, TIME],
        tool_choice="auto",
    ),
    "one_tool_at_a_time": conversation(
        TWO_CITIES,
        calls=(("get_weather", {"city": "Paris"}),),
        finish="tool_calls",
        tokens=(131, 13),
        credits_micro=7706,
        tools=[WEATHER, TIME],
        parallel_tool_calls=False,
    ),
    "a_tool_not_needed": conversation(
        FRANCE, tells=PARIS, tokens=(128, 8), credits_micro=6737, tools=[WEATHER, TIME], tool_choice="auto"
    ),
    "a_tool_required": conversation(
        FRANCE,
        calls=(("get_weather", {"city": "France"}),),
        finish="tool_calls",
        tokens=(128, 13),
        credits_micro=7579,
        tools=[WEATHER, TIME],
        tool_choice="required",
    ),
    "a_tool_by_name": conversation(
        FRANCE,
        calls=(("get_time", {"city": "France"}),),
        finish="tool_calls",
        tokens=(128, 13),
        credits_micro=7579,
        tools=[WEATHER, TIME],
        tool_choice={"type": "function", "function": {"name": "get_time"}},
    ),
    "tools_forbidden": conversation(
        FRANCE, tells=PARIS, tokens=(128, 8), credits_micro=6737, tools=[WEATHER, TIME], tool_choice="none"
    ),
    "an_image_by_url": conversation(
        picture(url="https://example.com/photo.jpg"),
        tells="There is one image: one at https://example.com/photo.jpg.",
        tokens=(779, 18),
        credits_micro=35832,
    ),
    "an_image_as_data": conversation(
        picture(url=PIXEL, detail="low"),
        tells="There is one image: a PNG of 1 by 1 pixels.",
        tokens=(99, 16),
        credits_micro=6864,
    ),
    "a_json_object": conversation(
        FRANCE,
        tells='{"country": "France", "capital": "Paris", "city": "Paris", "answer": "The capital of France is Paris."}',
        tokens=(15, 30),
        credits_micro=5685,
        response_format={"type": "json_object"},
    ),
    "a_json_schema": conversation(
        FRANCE,
        tells='{"country": "France", "capital": "Paris"}',
        tokens=(15, 13),
        credits_micro=2822,
        response_format={"type": "json_schema", "json_schema": CAPITAL},
    ),
    "a_stop_sequence": conversation(COUNT, tells="1, 2, 3,", tokens=(12, 9), credits_micro=2022, stop=" 4"),
    "several_stop_sequences": conversation(
        COUNT, tells="1, 2, 3, 4, ", tokens=(12, 13), credits_micro=2695, stop=["7", "5"]
    ),
    "an_output_bound": conversation(
        COUNT, tells="1, 2,", finish="length", tokens=(12, 5), credits_micro=1348, max_tokens=5
    ),
    "a_seed": conversation(
        STORY,
        tells="Remembers watches nearly here measures of narrow. Paints book snow rain brings there here road on. "
        "Story paints weaver door silver garden mountain each letter.",
        tokens=(12, 29),
        credits_micro=5390,
        seed=7,
    ),
    "another_seed": conversation(
        STORY,
        tells="Measures under open table heavy wind lantern under plants bridge door rope careful map. Wooden narrow "
        "softly counts gathers boat there gardener. Wooden letter early well table quiet clock remembers book market "
        "market today paints that. River forest stone small garden many sailor between. Clock wooden measures careful.",
        tokens=(12, 54),
        credits_micro=9600,
        seed=8,
    ),
    "reasoning": conversation(
        FRANCE,
        tells=PARIS,
        reasoning="The book steady.",
        tokens=(15, 12),
        credits_micro=2653,
        metadata={"sandbox": "think=4"},
    ),
}
