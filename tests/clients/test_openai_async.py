"""The official OpenAI SDK for Python, async: all conversations at once, whole, streamed, and by the stream helper."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from billing.ledger import balances
from billing.oversight import verifier
from billing.usage import receipts
from tests.kit import MODEL
from tests.kit.conversations import CONVERSATIONS, FRANCE, PARIS, TWO_CITIES, WEATHER, Told
from tests.kit.live import Server
from tests.kit.sdk_answers import follow_up, streamed, told
from tests.kit.tenants import Tenant, make_tenant, wait_closed

USAGE = {"include_usage": True}
EXPECTED = {name: expected for name, (_, expected) in CONVERSATIONS.items()}

Ask = Callable[[AsyncOpenAI, dict[str, Any]], Awaitable[Told]]


@pytest.fixture
def unlimited(live_db: None) -> Iterator[Tenant]:
    """Many calls without a bound at once: each would hold all that a limited wallet has."""
    tenant = make_tenant(unlimited=True)
    yield tenant
    wait_closed(tenant)
    assert verifier.violations() == []


async def whole(client: AsyncOpenAI, request: dict[str, Any]) -> Told:
    completion = await client.chat.completions.create(**request)
    assert completion.usage.model_extra["credits_remaining"] is None
    return told(completion)


async def stream(client: AsyncOpenAI, request: dict[str, Any]) -> Told:
    chunks = [part async for part in await client.chat.completions.create(**request, stream=True, stream_options=USAGE)]
    assert chunks[-1].usage.model_extra["credits_remaining"] is None
    return streamed(chunks)


async def helper(client: AsyncOpenAI, request: dict[str, Any]) -> Told:
    async with client.chat.completions.stream(**request, stream_options=USAGE) as events:
        try:
            return told(await events.get_final_completion())
        except openai.LengthFinishReasonError as error:
            return told(error.completion)


async def all_at_once(server: Server, tenant: Tenant, ask: Ask) -> dict[str, Told]:
    async with AsyncOpenAI(api_key=tenant.api_key, base_url=server.base_url, max_retries=0) as client:
        answers = await asyncio.gather(*(ask(client, request) for request, _ in CONVERSATIONS.values()))
    return dict(zip(CONVERSATIONS, answers, strict=True))


@pytest.mark.parametrize("ask", [whole, stream, helper])
def test_all_conversations_at_once(gateway: Server, unlimited: Tenant, ask: Ask):
    assert asyncio.run(all_at_once(gateway, unlimited, ask)) == EXPECTED
    wait_closed(unlimited)
    balance = balances.balance(unlimited.organization_id)
    assert balance.used == sum(expected.credits for expected in EXPECTED.values())


def test_a_tool_loop_whole_and_streamed(gateway: Server, alice: Tenant):
    async def loop() -> tuple[Told, Told]:
        async with AsyncOpenAI(api_key=alice.api_key, base_url=gateway.base_url, max_retries=0) as client:
            first = await client.chat.completions.create(model=MODEL, messages=[TWO_CITIES], tools=[WEATHER])
            asked = follow_up(first.choices[0].message)
            second = await client.chat.completions.create(**asked)
            parts = await client.chat.completions.create(**asked, stream=True, stream_options=USAGE)
            return told(second), streamed([part async for part in parts])

    at_once, in_parts = asyncio.run(loop())
    assert at_once == in_parts
    assert at_once.credits == 11579


def test_a_client_that_leaves_a_stream_pays_for_what_it_got(gateway: Server, alice: Tenant):
    async def leave() -> str:
        async with AsyncOpenAI(api_key=alice.api_key, base_url=gateway.base_url, max_retries=0) as client:
            parts = await client.chat.completions.create(
                model=MODEL, messages=[FRANCE], stream=True, user="sandbox:tokens=500 delay_ms=20"
            )
            async with parts:
                async for part in parts:
                    if part.choices[0].delta.content:
                        return part.id
        raise AssertionError("the stream said nothing")

    generation_id = asyncio.run(leave())
    wait_closed(alice, timeout_s=5)
    receipt = receipts.receipt(alice.organization_id, generation_id)
    assert (receipt.status, receipt.usage.cancelled) == ("estimated", True)
    assert 0 < receipt.usage.completion_tokens < 50


def test_errors_are_the_async_clients_too(gateway: Server, alice: Tenant):
    async def refused() -> openai.APIStatusError:
        async with AsyncOpenAI(api_key=alice.api_key, base_url=gateway.base_url, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model=MODEL, messages=[FRANCE], top_p=1.5, stream=True)
            answer = await client.chat.completions.create(model=MODEL, messages=[FRANCE])
            assert answer.choices[0].message.content == PARIS
        return caught.value

    error = asyncio.run(refused())
    assert (error.code, error.param) == ("out_of_range", "top_p")
