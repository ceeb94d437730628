"""A dialect that nobody speaks: what is said comes back in capitals. It has everything a dialect must have, and words
that no other one has: its own address, credentials, request, whole answers, streams and errors.

    POST /v1/shout   X-Shout-Key: ...        {"model": "...", "words": "...", "along": true, "most": 64}
    CAPITALS\n  (3 words heard, 8 shouted, 2400 paid, 997600 left)
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from completions.ask import Ask, Progress
from completions.chat.ask import ask_of
from completions.decoding import Words, refused
from completions.dialects.base import AnswerWriter, Charge, Head
from completions.dialects.openai_chat.schema import parse_chat
from completions.errors import GatewayError


class Shout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    words: str
    along: bool = False
    most: int | None = None


WORDS = Words(Shout.__struct_fields__, {"words": "a string"})


class Shouting:
    """See `Dialect`."""

    path = "/v1/shout"
    name = "shouting"

    def credentials(self, headers: Mapping[str, str]) -> str | None:
        key = headers.get("HTTP_X_SHOUT_KEY")
        return f"Bearer {key}" if key else None

    def parse(self, body: bytes) -> Ask:
        try:
            shout = msgspec.json.decode(body, type=Shout)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refused(error, body, WORDS) from None
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": shout.words}], "max_tokens": shout.most}
        chat = parse_chat(msgspec.json.encode({"model": shout.model, "stream": shout.along, **asked}))
        return msgspec.structs.replace(ask_of(chat, self.path), body=body)

    def writer(self, ask: Ask, head: Head, written: bytes = b"") -> AnswerWriter:
        return ShoutWriter(head, written, is_whole=not ask.stream)

    def error(self, error: GatewayError) -> bytes:
        return f"NO! {error.code.upper()}: {error.message}".encode()


class ShoutWriter:
    """See `AnswerWriter`."""

    media_type = "text/x-shout"
    keepalive = b"...\n"

    def __init__(self, head: Head, written: bytes, *, is_whole: bool) -> None:
        self._head = head
        self._written = written
        self._is_whole = is_whole

    def piece(self, progress: Progress) -> bytes:
        texts = [(one.message if self._is_whole else one.delta).content or "" for one in progress.payload]
        piece = "".join(texts).upper().encode()
        if self._is_whole:
            self._written = piece
        return piece

    def end(self, charge: Charge) -> bytes:
        heard, shouted = charge.usage.prompt_tokens, charge.usage.completion_tokens
        paid = (
            f"\n({heard} words heard, {shouted} shouted, {charge.credits_used} paid, {charge.credits_remaining} left)"
        )
        return self._written + paid.encode()

    def failed(self, error: GatewayError) -> bytes:
        return b"\nNO MORE!"
