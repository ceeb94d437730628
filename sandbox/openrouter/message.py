"""The assistant's message: text, reasoning, tool calls, what comes with them, and log probabilities."""

import hashlib
import math
import zlib
from typing import Any
from urllib.parse import quote

from sandbox import media
from sandbox.conversation import CallPieces
from sandbox.exchange import Exchange

SPEECH_S = 3600
_CITED_CHARS_MAX = 80
_REASONING_FORMATS = {"openai": "openai-responses-v1", "anthropic": "anthropic-claude-v1"}
_VARIANTS = (*"sednryl.,;:!?-'", "ly", "ing", "ed", "er", "es")


def message(x: Exchange) -> dict[str, Any]:
    """Of a whole answer. Next to tool calls the content is "", not null, as recorded."""
    said: dict[str, Any] = {"role": "assistant", "content": "".join(x.answer.pieces), "refusal": None}
    shown = "".join(x.reasoning)
    said["reasoning"] = shown or None
    if shown:
        said["reasoning_details"] = _details(x, shown)
    if x.answer.calls:
        said["tool_calls"] = [_call(at, call) for at, call in enumerate(x.answer.calls)]
    if x.question.speech:
        said |= {"content": None, "audio": _speech(x)}
    return said | extras(x)


def extras(x: Exchange) -> dict[str, Any]:
    """What comes with the text if it was asked for: sources of a search, images."""
    found: dict[str, Any] = {}
    if x.bill.usage.web_searches:
        found["annotations"] = [_citation(x)]
    if x.question.pictures:
        url = f"data:image/png;base64,{media.as_base64(media.picture(''.join(x.answer.pieces)))}"
        found["images"] = [{"type": "image_url", "image_url": {"url": url}, "index": 0}]
    return found


def _call(at: int, call: CallPieces) -> dict[str, Any]:
    function = {"name": call.name, "arguments": "".join(call.pieces)}
    return {"index": at, "id": call.id, "type": "function", "function": function}


def _citation(x: Exchange) -> dict[str, Any]:
    words = next((turn.text for turn in reversed(x.question.turns) if turn.role == "user"), "")[:_CITED_CHARS_MAX]
    end = len("".join(x.answer.pieces))
    url = f"https://en.wikipedia.org/w/index.php?search={quote(words)}"
    cited = {"url": url, "title": words, "start_index": 0, "end_index": end, "content": ""}
    return {"type": "url_citation", "url_citation": cited}


# --- Speech ---------------------------------------------------------------------------------


def _speech(x: Exchange) -> dict[str, Any]:
    """Silence as long as the text would take, and what it says."""
    samples = media.silence(len(x.answer.pieces))
    sound = media.wav(samples) if x.question.speech == "wav" else samples
    return {**_speech_head(x), "data": media.as_base64(sound), "transcript": "".join(x.answer.pieces)}


def speech_piece(x: Exchange, pieces: tuple[str, ...]) -> dict[str, Any]:
    """A stream carries bare samples: a sound file's head would have to know its length."""
    data = media.as_base64(media.silence(len(pieces)))
    return {**_speech_head(x), "data": data, "transcript": "".join(pieces)}


def _speech_head(x: Exchange) -> dict[str, Any]:
    return {"id": "audio_" + x.id.rpartition("-")[2], "expires_at": x.created + SPEECH_S}


# --- Reasoning ------------------------------------------------------------------------------


def detail(x: Exchange, text: str) -> dict[str, Any]:
    """OpenAI gives summaries, the others the text itself."""
    kind = "summary" if x.maker == "openai" else "text"
    how = _REASONING_FORMATS.get(x.maker, "unknown")
    return {"type": f"reasoning.{kind}", kind: text, "format": how, "index": 0}


def seal(x: Exchange) -> dict[str, Any] | None:
    """What closes the reasoning of a maker that wants it back unchanged."""
    sealed = media.as_base64(hashlib.blake2b("".join(x.answer.reasoning).encode(), digest_size=24).digest())
    if x.maker == "anthropic":
        return {"type": "reasoning.text", "text": "", "signature": sealed, "format": "anthropic-claude-v1", "index": 0}
    if x.maker == "openai":
        return {"type": "reasoning.encrypted", "data": sealed, "format": "openai-responses-v1", "index": 1}
    return None


def _details(x: Exchange, text: str) -> list[dict[str, Any]]:
    told, sealed = detail(x, text), seal(x)
    if sealed and "signature" in sealed:
        return [told | {"signature": sealed["signature"]}]
    return [told, sealed] if sealed else [told]


# --- Log probabilities ----------------------------------------------------------------------


def logprobs(x: Exchange, pieces: tuple[str, ...]) -> dict[str, Any] | None:
    if x.question.top_logprobs is None:
        return None
    return {"content": [_logprob(piece, x.question.top_logprobs) for piece in pieces], "refusal": None}


def _logprob(piece: str, top: int) -> dict[str, Any]:
    """The chosen token is the likeliest; the others are its variants, each half as likely as the one before."""
    chance = 0.5 + zlib.crc32(piece.encode()) % 4000 / 10_000
    ranked = (piece, *(piece + variant for variant in _VARIANTS))[:top]
    chances = (chance, *((1 - chance) / 2**rank for rank in range(1, len(ranked))))
    shown = [_token(token, odds) for token, odds in zip(ranked, chances, strict=False)]
    return {**_token(piece, chance), "top_logprobs": shown}


def _token(piece: str, chance: float) -> dict[str, Any]:
    return {"token": piece, "logprob": round(math.log(chance), 6), "bytes": list(piece.encode())}
