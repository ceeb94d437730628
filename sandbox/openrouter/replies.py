"""An exchange → the steps on the socket: whole or streamed, right or with a fault in OpenRouter's own words."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import msgspec

from sandbox import pace
from sandbox.exchange import Exchange
from sandbox.faults import Fault
from sandbox.openrouter import errors, message, shapes, stream
from sandbox.openrouter.shapes import ENCODER, JSON
from sandbox.openrouter.usage import usage
from sandbox.steps import Data, End, Steps, Whole

RETRY_AFTER_STATUSES = (429, 503)


def steps(x: Exchange) -> Steps:
    fault = x.directive.damage
    if fault and fault.name in _FAULTS:
        return _FAULTS[fault.name](x, fault)
    return _streamed(x, stream.chunks(x)) if x.question.stream else _whole(x, body(x))


def body(x: Exchange) -> dict[str, Any]:
    """Of a regular answer that is not streamed."""
    choice = {
        "index": 0,
        "logprobs": message.logprobs(x, x.answer.pieces),
        "finish_reason": x.finish,
        "native_finish_reason": shapes.native_finish(x),
        "message": message.message(x),
    }
    return {**shapes.envelope(x, "chat.completion"), "service_tier": "default", "choices": [choice], **usage(x)}


def _whole(x: Exchange, content: dict[str, Any]) -> Steps:
    yield from pace.until_whole(x)
    yield Whole(200, (*JSON, *shapes.headers(x)), ENCODER.encode(content), x.answer.tokens)


def _streamed(x: Exchange, chunks: Iterable[Data], last: bytes = stream.DONE) -> Steps:
    yield from stream.opening(x)
    yield from pace.paced(chunks, x.directive.delay_ms)
    yield from pace.idle(stream.COMMENT, x.directive.comments)
    yield from stream.closing(x)
    yield End(last)


# --- Faults ---------------------------------------------------------------------------------


def _http(x: Exchange, fault: Fault) -> Steps:
    yield from pace.wait(x.directive.head_ms + x.directive.first_ms)
    after_s = pace.retry_after_s(x, fault.number, RETRY_AFTER_STATUSES)
    yield errors.error(fault.number, *errors.saying(fault.number), after_s)


def _error_top(x: Exchange, _: Fault) -> Steps:
    error = errors.error_body(502, *errors.saying(502))
    if not x.question.stream:
        yield from _whole(x, error)
        return
    yield from stream.opening(x)
    yield End(stream.sse(error))


def _error_choice(x: Exchange, _: Fault) -> Steps:
    return _broken_off(x, len(x.answer.pieces) // x.directive.chunk // 2)


def _midstream_documented(x: Exchange, fault: Fault) -> Steps:
    return _broken_off(x, fault.number)


def _broken_off(x: Exchange, chunks: int) -> Steps:
    """So many chunks, then the error in the form OpenRouter documents."""
    metadata = {"error_type": "provider_unavailable", "provider_code": "stream_closed"}
    error = {"code": 502, "message": "Provider disconnected", "metadata": metadata}
    if not x.question.stream:
        return _whole_error(x, chunks, error)
    return _cut(x, chunks, stream.event(x, {"content": ""}, finish="error", extra={"error": error}))


def _midstream_recorded(x: Exchange, fault: Fault) -> Steps:
    """As recorded in November 2025: a null finish, usage in the same chunk, `[DONE]` after it."""
    error = {"code": 400, "message": "Token limit reached"}
    if not x.question.stream:
        return _whole_error(x, fault.number, error)
    free = msgspec.structs.replace(x, bill=msgspec.structs.replace(x.bill, cost_usd=Decimal(0)))
    last = stream.event(x, {"content": ""}, extra={"error": error, **usage(free)})
    return _cut(x, fault.number, last + stream.DONE)


def _whole_error(x: Exchange, chunks: int, error: dict[str, Any]) -> Steps:
    partial = {"role": "assistant", "content": "".join(x.answer.pieces[: chunks * x.directive.chunk])}
    choice = {"index": 0, "finish_reason": "error", "native_finish_reason": None, "message": partial, "error": error}
    return _whole(x, shapes.envelope(x, "chat.completion") | {"choices": [choice]})


def _cut(x: Exchange, chunks: int, last: bytes) -> Steps:
    yield from stream.opening(x)
    yield from pace.paced(islice(stream.chunks(x), chunks), x.directive.delay_ms)
    yield End(last)


def _comments_only(x: Exchange, fault: Fault) -> Steps:
    return pace.idle_only(x, stream.COMMENT, fault.number, stream.opening(x), (*JSON, *shapes.headers(x)))


def _no_done(x: Exchange, _: Fault) -> Steps:
    return _streamed(x, stream.chunks(x), b"") if x.question.stream else _whole(x, body(x))


def _no_choices(x: Exchange, _: Fault) -> Steps:
    if not x.question.stream:
        return _whole(x, {key: part for key, part in body(x).items() if key != "choices"})
    first = Data(stream.sse(shapes.envelope(x, stream.CHUNK)), 1)
    return _streamed(x, chain((first,), stream.chunks(x)))


_FAULTS: dict[str, Callable[[Exchange, Fault], Steps]] = {
    "http": _http,
    "200_error_top": _error_top,
    "200_error_choice": _error_choice,
    "midstream_documented": _midstream_documented,
    "midstream_recorded": _midstream_recorded,
    "comments_only": _comments_only,
    "no_done": _no_done,
    "no_choices": _no_choices,
}
