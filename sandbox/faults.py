"""What can go wrong on the way, whatever the wire format: transformations of a reply's steps. Pure.

Faults that need a provider's own words (error bodies, error events) are the dialect's part; all
names are listed here.
"""

import http
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from sandbox.steps import Data, Die, Dribble, End, Hang, Head, Headers, Reset, Step, Steps, Wait, Whole

HTML = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"
NOT_JSON = b'{"id": "gen-1", "choices": [oops'


Bills = Literal["full", "delivered", "free", "nothing"]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault does and what is billed then: all of the answer, what was delivered, that at no
    cost, or nothing. `number` is the default of its number, None if it takes none."""

    doc: str
    number: int | None = None
    bills: Bills = "full"


KINDS = {
    "http": Kind(
        doc="Answer with this HTTP status and the provider's error body, before anything else.",
        number=500,
        bills="nothing",
    ),
    "200_error_top": Kind(
        doc="HTTP 200 with a top-level `error` instead of choices.",
        bills="nothing",
    ),
    "200_error_choice": Kind(
        doc="HTTP 200 with the error inside the first choice, after half of the answer.",
        bills="free",
    ),
    "midstream_documented": Kind(
        doc="An error chunk with `finish_reason: error` after N chunks; the stream ends.",
        number=2,
        bills="free",
    ),
    "midstream_recorded": Kind(
        doc="An error chunk with null `finish_reason` and usage after N chunks, then `[DONE]`.",
        number=2,
        bills="free",
    ),
    "die_before": Kind(
        doc="Close the connection without a response.",
        bills="nothing",
    ),
    "die_after": Kind(
        doc="Close the connection after N chunks (half of the body if not streamed).",
        number=2,
        bills="delivered",
    ),
    "reset_after": Kind(
        doc="Reset the connection after N chunks (half of the body if not streamed).",
        number=2,
        bills="delivered",
    ),
    "stall_before": Kind(
        doc="Never answer; keep the connection open.",
        bills="nothing",
    ),
    "stall_after": Kind(
        doc="Send no more after N chunks (half of the body if not streamed); keep it open.",
        number=2,
        bills="delivered",
    ),
    "slow_headers": Kind(
        doc="Dribble the response's head over N milliseconds, close after the body.",
        number=1000,
    ),
    "html": Kind(
        doc="An HTML page with this HTTP status.",
        number=200,
        bills="nothing",
    ),
    "empty_body": Kind(
        doc="HTTP 200 and no body at all.",
        bills="nothing",
    ),
    "invalid_json": Kind(
        doc="Something that is not JSON: the body, or the first event.",
    ),
    "truncated_json": Kind(
        doc="Half of the JSON: of the body, or of the first event.",
    ),
    "wrong_content_type": Kind(
        doc="The right body as `text/plain`.",
    ),
    "no_choices": Kind(
        doc="A whole answer, or a first chunk, without the key `choices`.",
    ),
    "huge_line": Kind(
        doc="An answer of N letters in one line.",
        number=4 * 1024 * 1024,
    ),
    "comments_only": Kind(
        doc="N comments and the end (if not streamed: N blank lines); 0 goes on for ever.",
        number=5,
        bills="nothing",
    ),
    "no_done": Kind(
        doc="The regular stream without `[DONE]`.",
    ),
}


_BY_STATUS = frozenset({"http", "html"})


class Fault(msgspec.Struct, frozen=True):
    name: str
    number: int

    @property
    def bills(self) -> Bills:
        return KINDS[self.name].bills


def parse(text: str) -> Fault:
    """`die_after:3` → Fault. Raises ValueError for an unknown name or a number it does not take."""
    name, colon, number = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"unknown fault {name!r}")
    if colon and (kind.number is None or not number.isdecimal()):
        raise ValueError(f"fault {name!r} takes {'no' if kind.number is None else 'a whole'} number")
    fault = Fault(name, int(number) if number else kind.number or 0)
    if name in _BY_STATUS and not 200 <= fault.number <= 599:
        raise ValueError(f"fault {name!r} takes an HTTP status")
    return fault


def damaged(steps: Steps, fault: Fault | None) -> Steps:
    """The steps with what the fault does to them; unchanged if the fault is the dialect's."""
    return _DAMAGE[fault.name](steps, fault.number) if fault and fault.name in _DAMAGE else steps


def _instead(last: Step) -> Callable[[Steps, int], Steps]:
    def damage(steps: Steps, _: int) -> Steps:
        yield from _waits(steps)
        yield last

    return damage


def _waits(steps: Steps) -> Steps:
    """The delay before the response's first byte."""
    for step in steps:
        if not isinstance(step, Wait):
            return
        yield step


def _after(last: Step) -> Callable[[Steps, int], Steps]:
    """Cut before chunk N+1: a step that carries tokens is a chunk."""

    def damage(steps: Steps, chunks: int) -> Steps:
        for step in steps:
            if isinstance(step, Whole):
                half = len(step.body) // 2
                yield msgspec.structs.replace(step, sent_bytes=half)
                break
            if isinstance(step, Data) and step.tokens and chunks == 0:
                break
            chunks -= isinstance(step, Data) and step.tokens > 0
            yield step
        yield last

    return damage


def _html(steps: Steps, status: int) -> Steps:
    yield from _waits(steps)
    yield Whole(status, ((b"content-type", b"text/html"),), HTML)


def _empty(steps: Steps, _: int) -> Steps:
    for step in steps:
        if isinstance(step, Whole):
            yield msgspec.structs.replace(step, body=b"", tokens=0)
        elif isinstance(step, End):
            yield End()
        elif not isinstance(step, Data):
            yield step


def _first(change: Callable[[bytes], bytes]) -> Callable[[Steps, int], Steps]:
    """Change the body, or the first event that is a chunk."""

    def damage(steps: Steps, _: int) -> Steps:
        changed = False
        for step in steps:
            if isinstance(step, Whole | Data) and step.tokens and not changed:
                changed = True
                yield msgspec.structs.replace(step, body=change(step.body))
            else:
                yield step

    return damage


def _truncated(body: bytes) -> bytes:
    return body[: len(body) // 2] + _event_end(body)


def _not_json(body: bytes) -> bytes:
    return (b"data: " if _event_end(body) else b"") + NOT_JSON + _event_end(body)


def _event_end(body: bytes) -> bytes:
    return b"\n\n" if body.startswith((b"data:", b"event:")) else b""


def _wrong_content_type(steps: Steps, _: int) -> Steps:
    for step in steps:
        yield msgspec.structs.replace(step, headers=_as_text(step.headers)) if isinstance(step, Whole | Head) else step


def _as_text(headers: Headers) -> Headers:
    others = tuple(pair for pair in headers if pair[0] != b"content-type")
    return ((b"content-type", b"text/plain; charset=utf-8"), *others)


def _slow_headers(steps: Steps, ms: int) -> Steps:
    """The head in drops, the body at once, its end marked by the end of the connection."""
    for step in steps:
        if isinstance(step, Wait):
            yield step
        elif isinstance(step, Whole | Head):
            yield Dribble(_raw_head(step.status, step.headers), ms)
            yield from _raw_body(step, steps)
            yield Die(complete=True)
            return


def _raw_head(status: int, headers: Headers) -> bytes:
    phrase = http.HTTPStatus(status).phrase.encode()
    lines = [b"HTTP/1.1 %d %s" % (status, phrase), *(b"%s: %s" % pair for pair in headers), b"connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _raw_body(first: Whole | Head, rest: Iterator[Step]) -> Steps:
    if isinstance(first, Whole):
        yield Dribble(first.body, 0)
    for step in rest:
        if isinstance(step, Wait):
            yield step
        elif isinstance(step, Data | End):
            yield Dribble(step.body, 0)


_DAMAGE: dict[str, Callable[[Steps, int], Steps]] = {
    "die_before": _instead(Die()),
    "die_after": _after(Die()),
    "reset_after": _after(Reset()),
    "stall_before": _instead(Hang()),
    "stall_after": _after(Hang()),
    "slow_headers": _slow_headers,
    "html": _html,
    "empty_body": _empty,
    "invalid_json": _first(_not_json),
    "truncated_json": _first(_truncated),
    "wrong_content_type": _wrong_content_type,
}
