"""A dialect is one record: one that the house has never heard of gets the whole pipeline, in its own words."""

import asyncio
import json

import pytest

from billing.ledger.commands import Refused, Reserve, Settle, Void
from completions.api.calls import fingerprint
from completions.dialects import DIALECTS, OPENAI_CHAT
from completions.dialects.base import Charge
from tests.kit import MODEL
from tests.kit.calls import PATH, Answer
from tests.kit.shouting import Shouting, ShoutWriter
from tests.kit.world import BALANCE_MICRO, CLAUDE, World, claude_stream, in_world, openrouter_stream

SHOUTING = Shouting()
BOTH = {**DIALECTS, SHOUTING.path: SHOUTING}


async def shout(world: World, **fields: object) -> Answer:
    body = json.dumps({"model": MODEL, "words": "What is the capital of France?", **fields}).encode()
    return await world.ask(body, {"x-shout-key": world.key, "authorization": ""}, path=SHOUTING.path)


def test_a_whole_answer_is_charged_as_at_any_other_door() -> None:
    async def work(world: World) -> None:
        answer = await shout(world)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/x-shout")
        assert answer.body == b"THE CAPITAL OF FRANCE IS PARIS.\n(25 words heard, 8 shouted, 2400 paid, 1000000 left)"
        reserve, *_, settle = world.wire.commands
        assert isinstance(reserve, Reserve)
        assert isinstance(settle, Settle)
        assert (reserve.endpoint, settle.actual) == ("/v1/shout", 2_400)
        assert answer.headers["x-generation-id"] == f"gen-{reserve.hold_id.hex}"

    in_world(work, dialects=BOTH)


@pytest.mark.parametrize(("model", "stream"), [(MODEL, openrouter_stream), (CLAUDE, claude_stream)])
def test_a_stream_of_either_wire_is_relayed_in_its_words(model: str, stream) -> None:
    async def work(world: World) -> None:
        world.upstream.streams(stream(3))
        answer = await shout(world, model=model, along=True, most=64)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/x-shout")
        text, _, paid = answer.body.decode().partition("\n")
        assert text == " CAPITAL" * 3
        assert paid.endswith(f"{world.wire.commands[-1].actual} paid, {BALANCE_MICRO} left)")
        assert json.loads(world.upstream.requests[0].body)["max_tokens"] == 64

    in_world(work, dialects=BOTH)


def test_its_refusals_are_in_its_words_and_hold_nothing() -> None:
    async def work(world: World) -> None:
        unknown = await shout(world, louder=True)
        assert (unknown.status, unknown.body[:19]) == (400, b"NO! UNKNOWN_FIELD: ")
        assert (await shout(world, model="nobody")).body.startswith(b"NO! MODEL_NOT_FOUND: ")
        nobody = await world.ask(b"{}", {"authorization": f"Bearer {world.key}"}, path=SHOUTING.path)
        assert (nobody.status, nobody.body[:21]) == (401, b"NO! INVALID_API_KEY: ")
        too_large = await world.ask(b"", {"content-length": "99999999999"}, path=SHOUTING.path)
        assert (too_large.status, too_large.body[:24]) == (413, b"NO! REQUEST_TOO_LARGE: T")
        assert world.wire.commands == []
        world.wire.decide = lambda _: Refused("credits", required=5, available=1)
        assert (await shout(world)).body.startswith(b"NO! INSUFFICIENT_CREDITS: ")
        assert world.upstream.requests == []

    in_world(work, dialects=BOTH)


def test_a_provider_that_fails_is_told_in_its_words_before_and_after_the_first_byte() -> None:
    async def work(world: World) -> None:
        world.upstream.answers(b"{}", status=503)
        assert (await shout(world)).body.startswith(b"NO! PROVIDER_UNAVAILABLE: ")
        assert isinstance(world.wire.commands[-1], Void)
        world.upstream.streams(openrouter_stream(3)[:2])
        answer = await shout(world, along=True)
        assert answer.body == b" CAPITAL\nNO MORE!"
        assert isinstance(world.wire.commands[-1], Settle)

    in_world(work, dialects=BOTH)


@pytest.mark.parametrize(
    ("along", "status", "body"), [(False, 500, b"NO! INTERNAL_ERROR: "), (True, 200, b"\nNO MORE!")]
)
def test_a_writer_that_fails_at_the_end_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, along: bool, status: int, body: bytes
) -> None:
    def end(_self: ShoutWriter, _charge: Charge) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(ShoutWriter, "end", end)

    async def work(world: World) -> None:
        if along:
            world.upstream.streams(openrouter_stream(3))
        answer = await asyncio.wait_for(shout(world, along=along), 5)
        assert (answer.status, body in answer.body) == (status, True)
        assert isinstance(world.wire.commands[-1], Settle)

    in_world(work, dialects=BOTH)


def test_its_answers_are_counted_by_their_address() -> None:
    async def work(world: World) -> None:
        await shout(world)
        await shout(world, louder=True)
        metrics = world.runtime.gateway.metrics
        assert metrics.answers == {("/v1/shout", 200): 1, ("/v1/shout", 400): 1}
        assert [key[3] for key in metrics.calls] == ["/v1/shout"]

    in_world(work, dialects=BOTH)


def test_an_idempotency_key_belongs_to_one_address() -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    ask = OPENAI_CHAT.parse(body)
    elsewhere = type(ask)(ask.operation, SHOUTING.path, ask.model, ask.stream, ask.body, ask.demand, ask.content)
    assert ask.endpoint == PATH
    assert fingerprint(ask, None) == fingerprint(OPENAI_CHAT.parse(body), None)
    assert len({fingerprint(ask, None), fingerprint(ask, "openrouter"), fingerprint(elsewhere, None)}) == 3


def test_the_house_has_no_such_address_without_it() -> None:
    assert SHOUTING.path not in DIALECTS
