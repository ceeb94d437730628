"""Prose of any length from a seed: the same seed, the same words."""

from collections.abc import Iterator

from sandbox.knowledge import PROSE_WORDS

_MULTIPLIER = 6364136223846793005
_INCREMENT = 1442695040888963407
_MASK = (1 << 64) - 1
_SENTENCE_WORDS_MIN = 6
_SENTENCE_WORDS_SPREAD = 8


def tokens(seed: int, length: int) -> tuple[str, ...]:
    """Exactly `length` tokens, the last a full stop."""
    if length <= 0:
        return ()
    words = _words(seed)
    pieces = [next(words) for _ in range(length - 1)]
    if pieces and pieces[-1] == ".":
        pieces[-1] = " again"
    return (*pieces, ".")


def _words(seed: int) -> Iterator[str]:
    """An endless stream of sentences, one token at a time."""
    numbers = _numbers(seed)
    lead = ""
    while True:
        yield lead + PROSE_WORDS[next(numbers) % len(PROSE_WORDS)].capitalize()
        for _ in range(_SENTENCE_WORDS_MIN + next(numbers) % _SENTENCE_WORDS_SPREAD):
            yield " " + PROSE_WORDS[next(numbers) % len(PROSE_WORDS)]
        yield "."
        lead = " "


def _numbers(seed: int) -> Iterator[int]:
    """A linear congruential generator: the same on every machine and Python."""
    state = seed & _MASK
    while True:
        state = (state * _MULTIPLIER + _INCREMENT) & _MASK
        yield state >> 33
