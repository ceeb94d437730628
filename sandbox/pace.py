"""When the parts of a reply are sent."""

from collections.abc import Iterable, Iterator

from sandbox.steps import Data, Steps, Wait


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
