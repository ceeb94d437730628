"""LiteLLM as a library: conversations, a tool loop, structured output, refusals and a stream that breaks."""

import asyncio
from collections.abc import Iterator
from typing import Any

import litellm
import openai
from program import tell, told
from pydantic import BaseModel


class Capital(BaseModel):
    country: str
    capital: str


WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def ask(given: dict[str, Any], **fields: Any) -> Any:
    return litellm.completion(**asked(given, **fields))


def asked(given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """`openai/` in front of the model is LiteLLM's word for an OpenAI-compatible server."""
    ours = {"base_url": given["base_url"], "api_key": given["api_key"], "messages": [given["question"]]}
    request = ours | {"max_retries": 0, "num_retries": 0, "extra_headers": given.get("headers")} | fields
    if "metadata" in request:  # it keeps this one, and `user`, to itself
        request["extra_body"] = {"metadata": request.pop("metadata")}
    return request | {"model": f"openai/{fields.get('model', given['model'])}"}


def whole(stream: Any) -> Any:
    return litellm.stream_chunk_builder(list(stream))


def said(answer: Any) -> list[Any]:
    """As `Told` in conversations.py, with the credits of whole answers: LiteLLM drops those of streams."""
    (choice,) = answer.choices
    message, usage = choice.message, answer.usage
    calls = [[call.function.name, call.function.arguments] for call in message.tool_calls or ()]
    reasoning, credits_micro = getattr(message, "reasoning_content", None), getattr(usage, "credits_used", None)
    told_of_usage = [usage.prompt_tokens, usage.completion_tokens, credits_micro]
    return [message.content, reasoning, calls, choice.finish_reason, *told_of_usage]


def conversations(given: dict[str, Any]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    for name, request in given["conversations"].items():
        yield name, said(ask(given, **request)), said(whole(ask(given, **request, **WITH_USAGE)))


def tool_loop(given: dict[str, Any]) -> list[list[Any]]:
    tools = [given["tool"]]
    seen = []
    for mode in ({}, WITH_USAGE):
        first = ask(given, messages=[given["cities"]], tools=tools, **mode)
        message = (whole(first) if mode else first).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": given["report"]} for call in message.tool_calls]
        seen.append(said(ask(given, messages=[given["cities"], message, *results], tools=tools)))
    return seen


def structured(given: dict[str, Any]) -> list[Any]:
    answers = (ask(given, response_format=Capital), whole(ask(given, response_format=Capital, **WITH_USAGE)))
    return [[Capital.model_validate_json(text).model_dump(), *rest] for text, *rest in map(said, answers)]


def text(given: dict[str, Any]) -> list[list[Any]]:
    return [said(ask(given)), said(whole(ask(given, **WITH_USAGE)))]


async def concurrently(given: dict[str, Any]) -> list[str]:
    answers = await asyncio.gather(*(litellm.acompletion(**asked(given, max_tokens=64)) for _ in range(3)))
    stream = await litellm.acompletion(**asked(given, stream=True))
    streamed = [part.choices[0].delta.content or "" async for part in stream]
    return [*(answer.choices[0].message.content for answer in answers), "".join(streamed)]


def refused(given: dict[str, Any], **options: Any) -> list[Any]:
    try:
        ask(given, **options)
    except openai.APIError as error:
        return [type(error).__name__, error.status_code, error.message]
    raise AssertionError("nothing was refused")


def broken(given: dict[str, Any]) -> list[Any]:
    words = []
    try:
        stream = ask(given, stream=True, extra_body=given["breaks"])
        words.extend(part.choices[0].delta.content or "" for part in stream)
    except openai.APIError as error:
        return [type(error).__name__, error.status_code, error.message, "".join(words)]
    raise AssertionError("the stream did not break")


def main() -> None:
    given = told()
    litellm.suppress_debug_info = True  # it advertises on standard output
    refusals = {name: refused(given, **options) for name, options in given["refusals"].items()}
    answers = list(conversations(given))
    claude = given | given["claude"]
    tell(
        {
            "refused": refusals,
            "whole": {name: answer for name, answer, _ in answers},
            "streamed": {name: gathered for name, _, gathered in answers},
            "tools": tool_loop(given),
            "structured": structured(given),
            "concurrent": asyncio.run(concurrently(given)),
            "broken": broken(given),
            "claude": {"text": text(claude), "tools": tool_loop(claude), "structured": structured(claude)},
        }
    )


if __name__ == "__main__":
    main()
