"""Pydantic AI: answers, tools, all three kinds of structured output, reasoning, refusals and a stream that breaks."""

import asyncio
from typing import Any

from openai import AsyncOpenAI
from program import tell, told
from pydantic import BaseModel
from pydantic_ai import Agent, ModelAPIError, ModelHTTPError, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.messages import ModelResponse, ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Capital(BaseModel):
    country: str
    capital: str


OUTPUTS = {"native": NativeOutput(Capital), "prompted": PromptedOutput(Capital), "tool": ToolOutput(Capital)}


def agent(given: dict[str, Any], *, output: Any = str, **options: Any) -> Agent:
    client = AsyncOpenAI(
        base_url=given["base_url"],
        api_key=options.pop("api_key", given["api_key"]),
        default_headers=given.get("headers"),
        max_retries=0,
    )
    model = OpenAIChatModel(options.pop("model", given["model"]), provider=OpenAIProvider(openai_client=client))
    return Agent(model, output_type=output, model_settings=options)


def counted(result: Any) -> list[int]:
    """Requests, tokens and credits: those of all requests of a run together."""
    usage = result.usage
    return [usage.requests, usage.input_tokens, usage.output_tokens, usage.details["credits_used"]]


async def both(agent: Agent, question: str) -> list[list[Any]]:
    whole = await agent.run(question)
    async with agent.run_stream(question) as stream:
        streamed = await stream.get_output()
    return [[plain(whole.output), *counted(whole)], [plain(streamed), *counted(stream)]]


def plain(output: Any) -> Any:
    return output.model_dump() if isinstance(output, BaseModel) else output


async def words(given: dict[str, Any]) -> list[str]:
    async with agent(given).run_stream(given["question"]["content"]) as stream:
        return [text async for text in stream.stream_text(delta=True, debounce_by=None)]


async def with_tools(given: dict[str, Any], **options: Any) -> dict[str, Any]:
    called = []
    helped = agent(given, **options)

    @helped.tool_plain
    async def get_weather(city: str) -> dict[str, Any]:
        """Get the current weather in a city"""
        called.append(city)
        return {"temp": 18, "unit": "C"}

    return {"runs": await both(helped, given["cities"]["content"]), "called": called}


async def thoughts(given: dict[str, Any]) -> list[list[str]]:
    thinking = agent(given, **given["thinks"])
    whole = await thinking.run(given["question"]["content"])
    async with thinking.run_stream(given["question"]["content"]) as stream:
        await stream.get_output()
    return [
        [
            part.content
            for message in result.new_messages()
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, ThinkingPart)
        ]
        for result in (whole, stream)
    ]


async def refused(given: dict[str, Any], **options: Any) -> list[Any]:
    try:
        await agent(given, **options).run(given["question"]["content"])
    except ModelHTTPError as error:
        return [type(error).__name__, error.status_code, error.body]
    raise AssertionError("nothing was refused")


async def broken(given: dict[str, Any]) -> list[Any]:
    said = ""
    try:
        async with agent(given, extra_body=given["breaks"]).run_stream(given["question"]["content"]) as stream:
            async for text in stream.stream_text(delta=True, debounce_by=None):
                said += text
    except ModelAPIError as error:
        return [type(error).__name__, error.message, said]
    raise AssertionError("the stream did not break")


async def answered(given: dict[str, Any]) -> dict[str, Any]:
    question = given["question"]["content"]
    return {
        "text": await both(agent(given), question),
        "tools": await with_tools(given),
        "structured": {name: await both(agent(given, output=OUTPUTS[name]), question) for name in given["outputs"]},
        "thoughts": await thoughts(given),
        "thoughtful_tools": await with_tools(given, **given["thinks"]),
    }


async def tried(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "refused": {name: await refused(given, **options) for name, options in given["refusals"].items()},
        **await answered(given),
        "words": await words(given),
        "broken": await broken(given),
        "claude": await answered(given | given["claude"]),
    }


if __name__ == "__main__":
    tell(asyncio.run(tried(told())))
