"""What the objects of the OpenAI SDK for Python say, as `Told`."""

from collections.abc import Iterable
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.kit import MODEL
from tests.kit.conversations import TWO_CITIES, WEATHER, WEATHER_REPORT, Told


def told(completion: ChatCompletion) -> Told:
    (choice,) = completion.choices
    calls = [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or ()]
    reasoning = (choice.message.model_extra or {}).get("reasoning")
    usage = completion.usage
    return Told(
        choice.message.content,
        reasoning,
        calls,
        choice.finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.model_extra["credits_used"],
    )


def streamed(chunks: Iterable[ChatCompletionChunk]) -> Told:
    """A stream with its usage, put together the way an application does."""
    *parts, last = chunks
    deltas = [part.choices[0].delta for part in parts]
    fragments = [fragment for delta in deltas for fragment in delta.tool_calls or ()]
    calls = [[fragment.function.name, ""] for fragment in fragments if fragment.id]
    for fragment in fragments:
        calls[fragment.index][1] += fragment.function.arguments
    reasoning = "".join((delta.model_extra or {}).get("reasoning") or "" for delta in deltas)
    finishes = [part.choices[0].finish_reason for part in parts]
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert finishes[:-1] == [None] * (len(parts) - 1)
    assert last.choices == []
    return Told(
        "".join(delta.content or "" for delta in deltas),
        reasoning or None,
        calls,
        finishes[-1],
        last.usage.prompt_tokens,
        last.usage.completion_tokens,
        last.usage.model_extra["credits_used"],
    )


def follow_up(message: Any) -> dict[str, Any]:
    """The next request of a tool loop: what was answered, exactly as it came, and the results."""
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": WEATHER_REPORT} for call in message.tool_calls or ()
    ]
    return {"model": MODEL, "messages": [TWO_CITIES, message, *results], "tools": [WEATHER]}
