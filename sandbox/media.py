"""Sounds and images the sandbox's model makes: silence, and squares of one colour. Pure."""

import base64
import hashlib
import struct
import zlib

IMAGE_PX = 64
SAMPLE_RATE_HZ = 24_000
SAMPLES_PER_TOKEN = 1_200  # a twentieth of a second for each token that is spoken


def silence(tokens: int) -> bytes:
    """16-bit mono samples, as long as it takes to say so many tokens."""
    return bytes(2 * SAMPLES_PER_TOKEN * tokens)


def wav(samples: bytes) -> bytes:
    layout = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
    parts = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    parts += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def picture(text: str) -> bytes:
    """A PNG of one colour, which depends on the text."""
    color = hashlib.blake2b(text.encode(), digest_size=3).digest()
    rows = (b"\0" + color * IMAGE_PX) * IMAGE_PX
    head = _png_part(b"IHDR", struct.pack(">IIBBBBB", IMAGE_PX, IMAGE_PX, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _png_part(b"IDAT", zlib.compress(rows)) + _png_part(b"IEND", b"")


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png_part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
