"""The kind and size of an image from its first bytes. Nothing is decoded, nothing is fetched."""

import struct

import msgspec


class Size(msgspec.Struct, frozen=True):
    media_type: str
    width: int
    height: int


def measure(data: bytes) -> Size | None:
    """None when the bytes are none of PNG, JPEG, GIF and WebP, or end before the size."""
    try:
        return _png(data) or _gif(data) or _webp(data) or _jpeg(data)
    except (struct.error, IndexError):
        return None


def _png(data: bytes) -> Size | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return Size("image/png", width, height)


def _gif(data: bytes) -> Size | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    width, height = struct.unpack_from("<HH", data, 6)
    return Size("image/gif", width, height)


def _webp(data: bytes) -> Size | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    width, height = _WEBP_SIZES[data[12:16]](data) if data[12:16] in _WEBP_SIZES else (0, 0)
    return Size("image/webp", width, height) if width else None


def _webp_lossy(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _webp_lossless(data: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", data, 21)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _webp_extended(data: bytes) -> tuple[int, int]:
    low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
    return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1


_WEBP_SIZES = {b"VP8 ": _webp_lossy, b"VP8L": _webp_lossless, b"VP8X": _webp_extended}

# Start-of-frame markers; C4, C8 and CC in that range are tables, not frames.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes) -> Size | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while data[at] == 0xFF and data[at + 1] not in _JPEG_FRAMES:
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + length
    if data[at] != 0xFF:
        return None
    height, width = struct.unpack_from(">HH", data, at + 5)
    return Size("image/jpeg", width, height)
