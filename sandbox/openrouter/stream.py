"""The parts of a streamed reply: comments, chunks at their pace, finish, usage. The role is in every chunk."""

from collections.abc import Iterator
from typing import Any

from sandbox.conversation import CallPieces
from sandbox.exchange import Exchange
from sandbox.openrouter import message, shapes
from sandbox.openrouter.shapes import ENCODER, MARK
from sandbox.openrouter.usage import usage
from sandbox.pace import groups, until_first, wait
from sandbox.steps import Data, Head, Headers, Steps

COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
CHUNK = "chat.completion.chunk"
EVENT_STREAM: Headers = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), *MARK)


def opening(x: Exchange) -> Steps:
    """Everything before the first chunk: the head and comments are out long before it."""
    yield from wait(x.directive.head_ms)
    yield Head(200, (*EVENT_STREAM, *shapes.headers(x)))
    yield from until_first(x, COMMENT)


def closing(x: Exchange) -> Steps:
    """The finish, and the usage in one of the places OpenRouter has put it."""
    for _ in range(2 if x.directive.repeat_finish else 1):
        yield Data(_finish(x))
    shown = usage(x)
    if not shown:
        return
    if x.directive.usage_place == "empty_choices":  # March 2026
        yield Data(sse(shapes.envelope(x, CHUNK) | {"choices": []} | shown))
    elif x.directive.usage_place == "2025":
        yield Data(event(x, {"content": ""}, extra=shown))
    else:  # July 2026: the finish once more
        yield Data(_finish(x, {"service_tier": None, **shown}))


def _finish(x: Exchange, extra: dict[str, Any] | None = None) -> bytes:
    return event(x, {"content": ""}, finish=x.finish, native=shapes.native_finish(x), extra=extra)


def event(
    x: Exchange,
    delta: dict[str, Any],
    *,
    finish: str | None = None,
    native: str | None = None,
    logprobs: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> bytes:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", **delta},
        "finish_reason": finish,
        "native_finish_reason": native,
        "logprobs": logprobs,
    }
    chunk = shapes.envelope(x, CHUNK) | {"choices": [choice]}
    return sse(chunk | extra if extra else chunk)


def sse(value: dict[str, Any]) -> bytes:
    return b"data: " + ENCODER.encode(value) + b"\n\n"


def chunks(x: Exchange) -> Iterator[Data]:
    """The answer in chunks; each step says how many output tokens it carries."""
    if x.reasoning:
        yield from _reasoning_chunks(x)
    for group in groups(x.answer.pieces, x.directive.chunk):
        yield Data(event(x, _said(x, group), logprobs=message.logprobs(x, group)), len(group))
    for at, call in enumerate(x.answer.calls):
        yield from _call_chunks(x, at, call)
    if extras := message.extras(x):
        yield Data(event(x, {"content": "", **extras}))


def _said(x: Exchange, pieces: tuple[str, ...]) -> dict[str, Any]:
    if x.question.speech:
        return {"content": None, "audio": message.speech_piece(x, pieces)}
    return {"content": "".join(pieces)}


def _reasoning_chunks(x: Exchange) -> Iterator[Data]:
    for group in groups(x.reasoning, x.directive.chunk):
        text = "".join(group)
        delta = {"content": "", "reasoning": text, "reasoning_details": [message.detail(x, text)]}
        yield Data(event(x, delta), len(group))
    if sealed := message.seal(x):
        yield Data(event(x, {"content": "", "reasoning": None, "reasoning_details": [sealed]}))


def _call_chunks(x: Exchange, at: int, call: CallPieces) -> Iterator[Data]:
    opening = {"index": at, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield Data(event(x, {"content": None, "tool_calls": [opening]}), call.tokens - len(call.pieces))
    again = {"id": call.id, "type": "function"} if x.directive.repeat_ids else {}
    name = {"name": call.name} if x.directive.repeat_ids else {}
    for group in groups(call.pieces, x.directive.chunk):
        fragment = {"index": at, **again, "function": {**name, "arguments": "".join(group)}}
        yield Data(event(x, {"content": None, "tool_calls": [fragment]}), len(group))
