"""Content parts → Anthropic's content blocks. Pure.

An image or a file goes as what its media type says, whichever part it came in. Nothing is fetched:
Anthropic loads https URLs itself and takes no others. Text that says nothing is left out, because
Anthropic refuses empty blocks. `detail` has no equivalent.
"""

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from completions.chat.request import AudioPart, FilePart, ImagePart, RefusalPart, TextPart, UserPart, given
from completions.providers.base import Untranslatable

Block = dict[str, Any]

_IMAGE_TYPES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_PDF = "application/pdf"


class _CacheMark(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


_mark_decoder = msgspec.json.Decoder(_CacheMark | None)


def blocks(content: str | list[Any] | None, where: str) -> list[Block]:
    """The blocks of a message's content; none if it says nothing."""
    if isinstance(content, str):
        return text_blocks(content)
    return [block for at, part in enumerate(content or ()) for block in _blocks_of(part, f"{where}[{at}]")]


def text_blocks(text: str, mark: Block | None = None) -> list[Block]:
    return [{"type": "text", "text": text, **(mark or {})}] if text.strip() else []


def cache_mark(raw: Raw, where: str) -> Block:
    """`cache_control` as it is, or nothing."""
    if not given(raw):
        return {}
    try:
        _mark_decoder.decode(raw)
    except msgspec.ValidationError as error:
        why = 'it must be {"type": "ephemeral"}, with a "ttl" of "5m" or "1h" if need be'
        raise Untranslatable(f"{where}.cache_control", why) from error
    return {"cache_control": raw}


def _blocks_of(part: UserPart | RefusalPart, where: str) -> list[Block]:
    match part:
        case TextPart():
            return text_blocks(part.text, cache_mark(part.cache_control, where))
        case ImagePart():
            source = _source(part.image_url.url, f"{where}.image_url.url", "image")
            return [source | cache_mark(part.cache_control, where)]
        case FilePart():
            source = _source(part.file.file_data or "", f"{where}.file.file_data", "document")
            return [_titled(source, part.file.filename) | cache_mark(part.cache_control, where)]
        case RefusalPart():
            return text_blocks(part.refusal)
        case AudioPart():
            raise Untranslatable(where)


def _source(url: str, where: str, kind: str) -> Block:
    """`kind` is what an https URL leads to: only data says of itself what it is."""
    if url.startswith("https://"):
        return {"type": kind, "source": {"type": "url", "url": url}}
    if not url.startswith("data:"):
        raise Untranslatable(where, "it must be an https URL or a base64 data URL")
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, *options = head.lower().split(";")
    if "base64" not in options or not data:
        raise Untranslatable(where, "the data URL must be in base64")
    return _inline(media_type, data, where)


def _inline(media_type: str, data: str, where: str) -> Block:
    kind = "document" if media_type == _PDF else "image"
    known = _PDF if kind == "document" else _IMAGE_TYPES.get(media_type)
    if known is None:
        raise Untranslatable(where, "it must be a JPEG, PNG, GIF or WebP image or a PDF")
    return {"type": kind, "source": {"type": "base64", "media_type": known, "data": data}}


def _titled(block: Block, filename: str | None) -> Block:
    return block | {"title": filename} if filename and block["type"] == "document" else block
