"""When the parts of a reply are sent, and when to come again, whatever the wire format. Pure."""

from collections.abc import Collection, Iterable, Iterator

from sandbox.exchange import Exchange
from sandbox.steps import Data, End, Headers, Steps, Wait, Whole

ENDLESS_PACE_MS = 100
RETRY_AFTER_S = 12


def wait(ms: float) -> Steps:
    if ms:
        yield Wait(ms)


def paced(chunks: Iterable[Data], delay_ms: float) -> Steps:
    for position, chunk in enumerate(chunks):
        if position:
            yield from wait(delay_ms)
        yield chunk


def groups(pieces: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """A text's tokens, so many for each chunk."""
    return (pieces[at : at + size] for at in range(0, len(pieces), size))


def until_whole(x: Exchange) -> Steps:
    """A whole answer comes when the last chunk of a stream would."""
    d = x.directive
    chunks = -(-x.answer.tokens // d.chunk)
    yield from wait(d.head_ms + d.first_ms + d.delay_ms * (chunks - 1))


def retry_after_s(x: Exchange, status: int, statuses: Collection[int]) -> int | None:
    """What an error says of coming again: as the directive has it, else RETRY_AFTER_S with these statuses."""
    usual = RETRY_AFTER_S if status in statuses else None
    return usual if x.directive.retry_after is None else x.directive.retry_after


# --- Lines that say nothing: comments, pings --------------------------------------------------


def until_first(x: Exchange, idle_line: bytes) -> Steps:
    """The time between head and first chunk, with idle lines in it as the directive has them."""
    yield from idle(idle_line, x.directive.comments)
    left_ms, step_ms = x.directive.first_ms, x.directive.comment_ms
    while step_ms and left_ms > step_ms:
        yield Wait(step_ms)
        yield Data(idle_line)
        left_ms -= step_ms
    yield from wait(left_ms)


def idle(line: bytes, number: int) -> Steps:
    for _ in range(number):
        yield Data(line)


def idle_only(x: Exchange, line: bytes, number: int, opening: Steps, headers: Headers) -> Steps:
    """After the opening so many idle lines and the end, or with 0 no end. What is not streamed is blank lines, with
    these headers."""
    if not x.question.stream:
        yield from wait(x.directive.head_ms + x.directive.first_ms)
        yield Whole(200, headers, b"\n" * number)
        return
    yield from opening
    yield from idle(line, number) if number else _endless(x, line)
    yield End(b"")


def _endless(x: Exchange, line: bytes) -> Steps:
    pace_ms = x.directive.comment_ms or x.directive.delay_ms or ENDLESS_PACE_MS
    while True:
        yield Wait(pace_ms)
        yield Data(line)
