"""What the sandbox does on the socket, as data: a dialect writes the steps, `app.py` plays them.

A reply is either one `Whole`, or a `Head`, any number of `Data` and an `End`. `tokens` says how
many output tokens were produced with a step, so that what was delivered can be billed when the
client leaves in between.
"""

from collections.abc import Iterator

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]


class Wait(msgspec.Struct, frozen=True):
    ms: float


class Whole(msgspec.Struct, frozen=True):
    """A complete response with its length. With `sent_bytes` only that much of the body is sent."""

    status: int
    headers: Headers
    body: bytes
    tokens: int = 0
    sent_bytes: int | None = None


class Head(msgspec.Struct, frozen=True):
    status: int
    headers: Headers


class Data(msgspec.Struct, frozen=True):
    """A piece of a streamed body. Comments and closing events count no tokens."""

    body: bytes
    tokens: int = 0


class End(msgspec.Struct, frozen=True):
    """The last of a streamed body, and its regular end."""

    body: bytes = b""


class Hang(msgspec.Struct, frozen=True):
    """Keep the connection open and say nothing until the client leaves."""


class Die(msgspec.Struct, frozen=True):
    """Close the connection: what was sent arrives, then the end of file, in the middle unless `complete`."""

    complete: bool = False


class Reset(msgspec.Struct, frozen=True):
    """Reset the connection: what was sent may not arrive."""


class Dribble(msgspec.Struct, frozen=True):
    """Raw bytes, written a few at a time over `ms` milliseconds."""

    body: bytes
    ms: float


Step = Wait | Whole | Head | Data | End | Hang | Die | Reset | Dribble
Steps = Iterator[Step]
