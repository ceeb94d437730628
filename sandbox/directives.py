"""What a caller may tell the sandbox: `tokens=200 delay_ms=5 fault=die_after:3`.

A directive comes in the request's `metadata` under the key `sandbox`, or in `user` after the
prefix `sandbox:`; both are fields that gateways forward. What it does not say, the process-wide
default says. Words later in the text win.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from sandbox import faults

METADATA_KEY = "sandbox"
USER_PREFIX = "sandbox:"
CHARS_MAX = 2048

TOKENS_MAX = 1_000_000
Count = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=TOKENS_MAX)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]

USAGE_PLACES = ("repeat", "empty_choices", "2025")
USAGE_FORMS = ("full", "missing", "null", "zero", "negative", "absurd", "bare", "no_details", "wrong_types")


class Directive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field for each word; DOCS says what it does."""

    tokens: Positive | None = None
    think: Count | None = None
    chunk: Positive = 1
    head_ms: Milliseconds = 0
    first_ms: Milliseconds = 0
    delay_ms: Milliseconds = 0
    comments: Count = 1
    comment_ms: Milliseconds = 0
    usage: str = "repeat"
    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    audio: int | None = None
    cost: Decimal | None = None
    searches: Count | None = None
    finish: str | None = None
    repeat_finish: bool = False
    repeat_ids: bool = False
    model: str | None = None
    provider: str | None = None
    cancel: Literal["stop", "drain"] = "stop"
    generation_ms: Milliseconds = 500
    billed: Decimal | None = None
    retry_after: Count | None = None
    fault: str | None = None

    @property
    def damage(self) -> faults.Fault | None:
        return faults.parse(self.fault) if self.fault else None

    @property
    def letters(self) -> int:
        """The length of an answer that is one line of letters, 0 for an ordinary one."""
        return self.damage.number if self.damage and self.damage.name == "huge_line" else 0

    @property
    def usage_place(self) -> str:
        """Where a stream's usage goes."""
        return _one_of(self.usage, USAGE_PLACES)

    @property
    def usage_form(self) -> str:
        """What the usage object looks like."""
        return _one_of(self.usage, USAGE_FORMS)


DOCS = {
    "tokens": "Answer with prose of exactly this many output tokens (the end token included); no tool is called.",
    "think": "Reason with exactly this many tokens, asked or not.",
    "chunk": "Output tokens in one chunk of a stream.",
    "head_ms": "Wait before the response's first byte (the status line).",
    "first_ms": "Wait before the first chunk; a stream's head and comments come before it, a whole answer after it.",
    "delay_ms": "Wait before each further chunk; a whole answer waits as long as all its chunks would.",
    "comments": "Comments sent before the first chunk, and again before the last.",
    "comment_ms": "While waiting for the first chunk, another comment each time this has passed (0: none).",
    "usage": "Where a stream puts its usage: `repeat` (2026: a chunk that repeats the finish), "
    "`empty_choices` (a chunk with no choices), `2025` (a chunk with an empty delta and null finish). And, after a "
    "comma or alone, what it looks like: `full`, `missing`, `null`, `zero`, `negative`, `absurd` (10^18), "
    "`bare` (the three totals only), `no_details`, `wrong_types` (strings).",
    "prompt": "Report this many prompt tokens.",
    "completion": "Report this many completion tokens.",
    "cached": "Report this many cached prompt tokens.",
    "cache_write": "Report this many prompt tokens written to the cache.",
    "reasoning": "Report this many reasoning tokens.",
    "audio": "Report this many audio tokens of the prompt.",
    "cost": "Report this cost in USD.",
    "searches": "Do, report and charge this many web searches (by default one if `web_search_options` is given).",
    "finish": "Report this finish reason.",
    "repeat_finish": "Send the finish chunk twice.",
    "repeat_ids": "Repeat id, type and name in every fragment of a streamed tool call.",
    "model": "Name this model in the answer, as OpenRouter does with dated names.",
    "provider": "Name this provider in the answer.",
    "cancel": "When a stream's client leaves: `stop` and bill what was delivered, or `drain` and bill it all.",
    "generation_ms": "How long after its end a call stays unknown to `GET /generation`.",
    "billed": "The cost in USD that `GET /generation` and the cost report tell, if not the reported one.",
    "retry_after": "Send this `Retry-After` with an error status (by default 12 with 429 and 503).",
    "fault": "One of the faults below, its number after a colon.",
}


class BadDirective(ValueError):
    """A directive that cannot be read: a mistake in the test that wrote it."""


def of(default: str, metadata: dict[str, str] | None, user: str | None) -> Directive:
    """The directive of one request over the process-wide default."""
    words = [default]
    if user and user.startswith(USER_PREFIX):
        words.append(user[len(USER_PREFIX) :])
    if metadata and METADATA_KEY in metadata:
        words.append(metadata[METADATA_KEY])
    return parse(" ".join(words))


@lru_cache(maxsize=256)
def parse(text: str) -> Directive:
    """Raises BadDirective, which names the word."""
    if len(text) > CHARS_MAX:
        raise BadDirective(f"longer than {CHARS_MAX} characters")
    said = {}
    for word in text.split():
        name, _, value = word.partition("=")
        said[name] = value or "true"
    try:
        directive = msgspec.convert(said, Directive, strict=False)
        _check(directive)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadDirective(str(error)) from error
    return directive


def _check(directive: Directive) -> None:
    _ = directive.damage
    for word in directive.usage.split(","):
        if word not in USAGE_PLACES + USAGE_FORMS:
            raise ValueError(f"unknown usage {word!r}")


def _one_of(words: str, allowed: tuple[str, ...]) -> str:
    """The word of a list that is allowed; the first allowed one if none is."""
    return next((word for word in words.split(",") if word in allowed), allowed[0])


def default_of(name: str) -> str:
    """A word's default as the documentation writes it."""
    value = getattr(Directive(), name)
    return "" if value is None else "off" if value is False else str(value)
