"""The blocks of an answer: thoughts, a search and what it found, text, calls."""

import json
from typing import Any, cast
from urllib.parse import quote

import msgspec

from sandbox.anthropic import seal, shapes
from sandbox.anthropic.question import ClaudeQuestion
from sandbox.conversation import CallPieces
from sandbox.exchange import Exchange

_CITED_CHARS_MAX = 80
SEARCH_ID = "srvtoolu_01sandbox"


class Piece(msgspec.Struct, frozen=True):
    """A delta of a block, and how many output tokens it carries."""

    delta: dict[str, Any]
    tokens: int = 0


class Told(msgspec.Struct, frozen=True):
    """A block as it stands whole, and as a stream tells it: how it starts, and its deltas."""

    whole: dict[str, Any]
    start: dict[str, Any]
    pieces: tuple[Piece, ...] = ()


def blocks(x: Exchange) -> list[Told]:
    told = [_thought(x)] if x.answer.reasoning else []
    if x.bill.usage.web_searches:
        told += _search(x)
    if x.answer.pieces:
        told.append(_text(x))
    return told + [_call(call) for call in x.answer.calls]


def _thought(x: Exchange) -> Told:
    asked = cast(ClaudeQuestion, x.question)
    if asked.redacted:
        block = {"type": "redacted_thinking", "data": seal.sealed("", asked.prefix)}
        return Told(block, block)
    shown = x.reasoning
    signature = seal.sealed("".join(shown), asked.prefix)
    whole = {"type": "thinking", "thinking": "".join(shown), "signature": signature}
    thinking = tuple(Piece({"type": "thinking_delta", "thinking": text}, 1) for text in shown)
    hidden = 0 if shown else len(x.answer.reasoning)
    sealing = Piece({"type": "signature_delta", "signature": signature}, hidden)
    return Told(whole, {"type": "thinking", "thinking": "", "signature": ""}, (*thinking, sealing))


def _text(x: Exchange) -> Told:
    text = "".join(x.answer.pieces)
    pieces = tuple(Piece({"type": "text_delta", "text": piece}, 1) for piece in x.answer.pieces)
    empty = {"type": "text", "text": ""}
    if not x.bill.usage.web_searches:
        return Told({"type": "text", "text": text}, empty, pieces)
    cited = _citation(x)
    whole = {"type": "text", "text": text, "citations": [cited]}
    return Told(whole, {**empty, "citations": []}, (Piece({"type": "citations_delta", "citation": cited}), *pieces))


def _search(x: Exchange) -> list[Told]:
    query = _words(x)
    call = {"type": "server_tool_use", "id": SEARCH_ID, "name": "web_search", "input": {"query": query}}
    found = {
        "type": "web_search_result",
        "url": _url(query),
        "title": query,
        "encrypted_content": "c2FuZGJveA==",
        "page_age": None,
    }
    result = {"type": "web_search_tool_result", "tool_use_id": SEARCH_ID, "content": [found]}
    pieces = (Piece({"type": "input_json_delta", "partial_json": json.dumps({"query": query})}),)
    return [Told(call, {**call, "input": {}}, pieces), Told(result, result)]


def _citation(x: Exchange) -> dict[str, Any]:
    query = _words(x)
    where = {"url": _url(query), "title": query}
    return {"type": "web_search_result_location", **where, "cited_text": query, "encrypted_index": "c2FuZGJveA=="}


def _words(x: Exchange) -> str:
    return next((turn.text for turn in reversed(x.question.turns) if turn.role == "user"), "")[:_CITED_CHARS_MAX]


def _url(words: str) -> str:
    return f"https://en.wikipedia.org/w/index.php?search={quote(words)}"


def _call(call: CallPieces) -> Told:
    """A call cut off by the bound has no whole input."""
    text = "".join(call.pieces)
    start = {"type": "tool_use", "id": shapes.call_id(call.id), "name": call.name, "input": {}}
    opening = Piece({"type": "input_json_delta", "partial_json": ""}, call.tokens - len(call.pieces))
    pieces = tuple(Piece({"type": "input_json_delta", "partial_json": piece}, 1) for piece in call.pieces)
    return Told({**start, "input": _object(text)}, start, (opening, *pieces) if text != "{}" else (opening,))


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {}
