"""The prompt cache: what was sent up to a mark is read again, as long as the mark lives."""

import hashlib
import time
from collections import OrderedDict

import msgspec

ENTRIES_MAX = 10_000
LIFE_S = 300
LONG_LIFE_S = 3600


class CacheMark(msgspec.Struct, frozen=True):
    """A marked place: all that leads to it, how many tokens that is, and whether it lives for an hour."""

    prefix: bytes
    tokens: int
    is_long: bool


class Cached(msgspec.Struct, frozen=True):
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0


class PromptCache:
    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def pass_through(self, marks: list[CacheMark], tokens_min: int) -> Cached:
        """What is read and what is written; a prompt shorter than the model's minimum is silently neither."""
        now = time.time()
        worth = [mark for mark in marks if mark.tokens >= tokens_min]
        read = max((mark.tokens for mark in worth if self._lives(mark, now)), default=0)
        for mark in worth:
            self._keep(mark, now)
        last = max((mark.tokens for mark in worth), default=0)
        last_long = max((mark.tokens for mark in worth if mark.is_long), default=0)
        written_1h = max(0, last_long - read)
        return Cached(read, max(0, last - read - written_1h), written_1h)

    def _lives(self, mark: CacheMark, now: float) -> bool:
        return self._until.get(_key(mark), 0) > now

    def _keep(self, mark: CacheMark, now: float) -> None:
        key = _key(mark)
        self._until[key] = max(self._until.pop(key, 0), now + (LONG_LIFE_S if mark.is_long else LIFE_S))
        if len(self._until) > ENTRIES_MAX:
            self._until.popitem(last=False)


def _key(mark: CacheMark) -> bytes:
    return hashlib.blake2b(mark.prefix, digest_size=16).digest()
