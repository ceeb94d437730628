"""A streamed reply: named events, blocks with their deltas at their pace, pings in between."""

from collections.abc import Iterator
from typing import Any

from sandbox.anthropic import content, shapes, usage
from sandbox.anthropic.content import Piece, Told
from sandbox.anthropic.shapes import ENCODER, EVENT_STREAM
from sandbox.exchange import Exchange
from sandbox.pace import until_first, wait
from sandbox.steps import Data, Head, Steps

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_TEXTS = ("text", "thinking", "partial_json")


def head(x: Exchange) -> Steps:
    yield from wait(x.directive.head_ms)
    yield Head(200, (*EVENT_STREAM, *shapes.request_id()))


def opening(x: Exchange) -> Steps:
    """The prompt's side of the story comes at once, the first words later."""
    yield from head(x)
    yield Data(event("message_start", message=_message(x)))
    yield from until_first(x, PING)


def chunks(x: Exchange) -> Iterator[Data]:
    """Each step is what a delta brings, with the start of its block before the first and the stop after the last."""
    for index, told in enumerate(content.blocks(x)):
        start = event("content_block_start", index=index, content_block=told.start)
        stop = event("content_block_stop", index=index)
        deltas = list(_deltas(told, index, x.directive.chunk))
        if not deltas:
            yield Data(start + stop, 1 if told.whole["type"] == "redacted_thinking" else 0)
        for at, (body, tokens) in enumerate(deltas):
            before, after = start if at == 0 else b"", stop if at == len(deltas) - 1 else b""
            yield Data(before + body + after, tokens)


def closing(x: Exchange) -> Steps:
    yield Data(event("message_delta", delta=shapes.stop(x), **usage.at_end(x)))


def event(kind: str, **parts: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), ENCODER.encode({"type": kind, **parts}))


def _message(x: Exchange) -> dict[str, Any]:
    nothing = {"stop_reason": None, "stop_sequence": None, "stop_details": None}
    about = {"model": x.model, "id": x.id, "type": "message", "role": "assistant", "content": []}
    return {**about, **nothing, **usage.at_start(x)}


def _deltas(told: Told, index: int, size: int) -> Iterator[tuple[bytes, int]]:
    """So many tokens of a text in one delta; other deltas stand alone."""
    for group in _grouped(told.pieces, size):
        delta = dict(group[0].delta)
        for name in _TEXTS:
            if name in delta:
                delta[name] = "".join(piece.delta[name] for piece in group)
        yield event("content_block_delta", index=index, delta=delta), sum(piece.tokens for piece in group)


def _grouped(pieces: tuple[Piece, ...], size: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in pieces:
        if group and (len(group) == size or not _joins(group[-1], piece)):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _joins(before: Piece, piece: Piece) -> bool:
    """The empty piece that opens a call's input stays alone, as recorded."""
    is_same = before.delta["type"] == piece.delta["type"]
    return is_same and any(name in piece.delta for name in _TEXTS) and before.delta.get("partial_json") != ""
