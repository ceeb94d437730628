"""An exchange → the steps on the socket: whole or streamed, right or with a fault in Anthropic's own words."""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

from sandbox import pace
from sandbox.anthropic import content, errors, shapes, stream
from sandbox.anthropic.shapes import ENCODER, JSON
from sandbox.anthropic.usage import usage
from sandbox.exchange import Exchange
from sandbox.faults import Fault
from sandbox.steps import Data, End, Steps, Whole

RETRY_AFTER_STATUSES = (429,)
OVERLOADED, BROKEN = 529, 500


def steps(x: Exchange) -> Steps:
    fault = x.directive.damage
    if fault and fault.name in _FAULTS:
        return _FAULTS[fault.name](x, fault)
    return _streamed(x, stream.chunks(x)) if x.question.stream else _whole(x, body(x))


def body(x: Exchange) -> dict[str, Any]:
    told = [block.whole for block in content.blocks(x)]
    about = {"id": x.id, "type": "message", "role": "assistant", "model": x.model, "content": told}
    return {**about, **shapes.stop(x), **usage(x)}


def _whole(x: Exchange, told: dict[str, Any], status: int = 200) -> Steps:
    yield from pace.until_whole(x)
    yield Whole(status, (*JSON, *shapes.request_id()), ENCODER.encode(told), x.answer.tokens if status == 200 else 0)


def _streamed(x: Exchange, chunks: Iterable[Data], last: bytes = stream.STOP) -> Steps:
    yield from stream.opening(x)
    yield from pace.paced(chunks, x.directive.delay_ms)
    yield from pace.idle(stream.PING, x.directive.comments)
    yield from stream.closing(x)
    yield End(last)


# --- Faults ---------------------------------------------------------------------------------


def _http(x: Exchange, fault: Fault) -> Steps:
    yield from pace.wait(x.directive.head_ms + x.directive.first_ms)
    yield errors.error(fault.number, None, pace.retry_after_s(x, fault.number, RETRY_AFTER_STATUSES))


def _error_first(x: Exchange, _: Fault) -> Steps:
    """A 200 whose first event is the error; a whole answer is the error's body."""
    if not x.question.stream:
        yield from _whole(x, errors.body(OVERLOADED))
        return
    yield from stream.head(x)
    yield from pace.wait(x.directive.first_ms)
    yield End(_error_event(OVERLOADED))


def _error_half(x: Exchange, _: Fault) -> Steps:
    return _broken_off(x, len(x.answer.pieces) // x.directive.chunk // 2)


def _error_midstream(x: Exchange, fault: Fault) -> Steps:
    return _broken_off(x, fault.number)


def _broken_off(x: Exchange, chunks: int) -> Steps:
    """So many chunks, then the error. What is not streamed fails as a whole, with its status."""
    if not x.question.stream:
        yield from _whole(x, errors.body(BROKEN), BROKEN)
        return
    yield from stream.opening(x)
    yield from pace.paced(islice(stream.chunks(x), chunks), x.directive.delay_ms)
    yield End(_error_event(OVERLOADED))


def _error_event(status: int) -> bytes:
    return b"event: error\ndata: %b\n\n" % ENCODER.encode(errors.body(status))


def _pings_only(x: Exchange, fault: Fault) -> Steps:
    return pace.idle_only(x, stream.PING, fault.number, stream.head(x), (*JSON, *shapes.request_id()))


def _no_stop(x: Exchange, _: Fault) -> Steps:
    return _streamed(x, stream.chunks(x), b"") if x.question.stream else _whole(x, body(x))


def _no_content(x: Exchange, _: Fault) -> Steps:
    """A stream begins with an event of a kind that nobody knows yet."""
    if not x.question.stream:
        return _whole(x, {key: part for key, part in body(x).items() if key != "content"})
    return _streamed(x, chain((Data(stream.event("surprise", index=0, delta="unknown")),), stream.chunks(x)))


_FAULTS: dict[str, Callable[[Exchange, Fault], Steps]] = {
    "http": _http,
    "200_error_top": _error_first,
    "200_error_choice": _error_half,
    "midstream_documented": _error_midstream,
    "midstream_recorded": _error_midstream,
    "comments_only": _pings_only,
    "no_done": _no_stop,
    "no_choices": _no_content,
}
