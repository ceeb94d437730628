"""A call in the played world is one of the real pipeline: refusals, failures and commands are ours."""

import json

from benchmarks.contenders import BODY, STREAM_BODY
from benchmarks.upstream import ANSWER
from billing.ledger.commands import Mark, Reserve, Settle, Void
from tests.kit import MODEL
from tests.kit.calls import assert_error
from tests.kit.world import (
    BALANCE_MICRO,
    CLAUDE,
    KEY_ID,
    ORGANIZATION_ID,
    World,
    claude,
    claude_stream,
    in_world,
    openrouter_stream,
)


def test_a_whole_answer_is_held_asked_for_and_settled() -> None:
    async def work(world: World) -> None:
        answer = await world.ask(BODY)
        assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, ANSWER)
        assert answer.usage["credits_remaining"] == BALANCE_MICRO
        [request] = world.upstream.requests
        assert json.loads(request.body)["model"] == MODEL
        reserve, *marks, settle = world.wire.commands
        assert isinstance(reserve, Reserve)
        assert isinstance(settle, Settle)
        assert all(isinstance(mark, Mark) for mark in marks)
        assert (reserve.wallet_id, reserve.key_id) == (ORGANIZATION_ID, KEY_ID)
        assert settle.actual == answer.usage["credits_used"] <= reserve.amount

    in_world(work)


def test_both_providers_stream() -> None:
    async def work(world: World) -> None:
        for model, stream in ((MODEL, openrouter_stream), (CLAUDE, claude_stream)):
            world.upstream.streams(stream(3))
            answer = await world.ask(STREAM_BODY.replace(MODEL.encode(), model.encode()))
            assert (answer.status, answer.events[-1]) == (200, "[DONE]")
            assert answer.text == " capital" * 3

    in_world(work)


def test_a_provider_that_is_away_is_a_503_and_the_hold_is_released() -> None:
    async def work(world: World) -> None:
        world.upstream.answers(b'{"error":{"code":503,"message":"Overloaded."}}', status=503)
        answer = await world.ask(BODY)
        assert_error(
            answer, 503, "provider_unavailable", "provider_unavailable", None, answer.error["message"], is_call=True
        )
        assert [type(command) for command in world.wire.commands] == [Reserve, Void]

    in_world(work)


def test_what_is_refused_reaches_neither_books_nor_provider() -> None:
    async def work(world: World) -> None:
        assert (await world.ask(b"{")).status == 400
        assert (await world.ask(BODY, {"authorization": "Bearer nothing"})).status == 401
        assert (await world.ask(BODY)).status == 404
        assert (world.upstream.requests, world.wire.commands) == ([], [])

    in_world(work, claude())
