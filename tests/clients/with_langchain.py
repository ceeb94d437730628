"""langchain-openai: conversations, a tool loop, structured output, refusals and a stream that breaks."""

import asyncio
import json
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import openai
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI
from program import tell, told
from pydantic import BaseModel

METHODS = ["json_schema", "function_calling"]


class Capital(BaseModel):
    country: str
    capital: str


def chat(given: dict[str, Any], **options: Any) -> ChatOpenAI:
    ours = {name: given[name] for name in ("base_url", "api_key", "model")}
    defaults = {"max_retries": 0, "stream_usage": True, "default_headers": given.get("headers")}
    return ChatOpenAI(**ours | defaults | options)


def said(answer: AIMessage) -> list[Any]:
    """Text, calls, finish reason, tokens, and the credits if LangChain shows them: it does for whole answers."""
    calls = [[call["name"], json.dumps(call["args"])] for call in answer.tool_calls]
    usage, metadata = answer.usage_metadata, answer.response_metadata
    credits_micro = metadata.get("token_usage", {}).get("credits_used")
    return [answer.text, calls, metadata["finish_reason"], usage["input_tokens"], usage["output_tokens"], credits_micro]


def conversations(given: dict[str, Any]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    model = chat(given)
    for name, request in given["conversations"].items():
        messages, fields = request["messages"], {**request}
        del fields["messages"], fields["model"]
        if "metadata" in fields:  # LangChain has another use for the word
            fields["extra_body"] = {"metadata": fields.pop("metadata")}
        whole = model.invoke(messages, **fields)
        streamed = reduce(add, model.stream(messages, **fields))
        yield name, said(whole), said(streamed)


def tool_loop(given: dict[str, Any]) -> list[list[Any]]:
    model = chat(given).bind_tools([given["tool"]])
    seen = []
    for first in (model.invoke([given["cities"]]), reduce(add, model.stream([given["cities"]]))):
        results = [ToolMessage(given["report"], tool_call_id=call["id"]) for call in first.tool_calls]
        seen += [said(first), said(model.invoke([given["cities"], first, *results]))]
    return seen


def structured(given: dict[str, Any], method: str) -> list[Any]:
    model = chat(given).with_structured_output(Capital, method=method, include_raw=True)
    answer = model.invoke([given["question"]])
    whole = [answer["parsed"].model_dump(), *said(answer["raw"])[-3:]]
    parts = list(chat(given).with_structured_output(Capital, method=method).stream([given["question"]]))
    return [whole, parts[-1].model_dump()]


def text(given: dict[str, Any]) -> list[list[Any]]:
    model = chat(given)
    return [said(model.invoke([given["question"]])), said(reduce(add, model.stream([given["question"]])))]


async def concurrently(given: dict[str, Any]) -> list[str]:
    model = chat(given, max_tokens=64)
    answers = await asyncio.gather(*(model.ainvoke([given["question"]]) for _ in range(3)))
    streamed = [part.text async for part in model.astream([given["question"]])]
    return [*(answer.text for answer in answers), "".join(streamed)]


def refused(given: dict[str, Any], **options: Any) -> list[Any]:
    try:
        chat(given, **options).invoke([given["question"]])
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.type, error.code, error.param]
    raise AssertionError("nothing was refused")


def broken(given: dict[str, Any]) -> list[Any]:
    words = []
    try:
        words.extend(part.text for part in chat(given, extra_body=given["breaks"]).stream([given["question"]]))
    except openai.APIError as error:
        return [type(error).__name__, error.code, error.message, "".join(words)]
    raise AssertionError("the stream did not break")


def main() -> None:
    given = told()
    refusals = {name: refused(given, **options) for name, options in given["refusals"].items()}
    answers = list(conversations(given))
    claude = given | given["claude"]
    tell(
        {
            "refused": refusals,
            "whole": {name: whole for name, whole, _ in answers},
            "streamed": {name: streamed for name, _, streamed in answers},
            "tools": tool_loop(given),
            "structured": {method: structured(given, method) for method in METHODS},
            "concurrent": asyncio.run(concurrently(given)),
            "broken": broken(given),
            "claude": {
                "text": text(claude),
                "tools": tool_loop(claude),
                "structured": {method: structured(claude, method) for method in METHODS},
            },
        }
    )


if __name__ == "__main__":
    main()
