"""A deterministic tokenizer of the sandbox's own, in the manner of OpenAI's cl100k.

A word with the space before it is a token (long ones are split), three digits are, a run of
punctuation is. The pieces of a text joined are the text. Counts, not vocabulary, are what is real.
"""

import re

from sandbox.conversation import Tool, Turn

PROMPT_START_TOKENS = 1
TURN_TOKENS = 4
REPLY_PRIMER_TOKENS = 3
CALL_TOKENS = 3
TOOL_TOKENS = 7
NAME_TOKENS = 1
IMAGE_BASE_TOKENS = 85
IMAGE_TILE_TOKENS = 170
IMAGE_TILE_PX = 512
IMAGE_TILES_MAX = 16
IMAGE_TILES_UNSEEN = 4  # of an image behind a URL, which is never fetched
AUDIO_BYTES_PER_TOKEN = 3200
FILE_BYTES_PER_TOKEN = 64

_PIECE = re.compile(
    r" ?[A-Za-z]{1,12}"  # a word
    r"| ?[^\W\d_]{1,3}"  # letters of other scripts
    r"|\d{1,3}"
    r"| ?(?:[^\w\s]|_){1,8}"
    r"|\s+(?!\S)|\s+"
)


def split(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))


def count(text: str) -> int:
    return len(_PIECE.findall(text))


def prompt_tokens(turns: tuple[Turn, ...], tools: tuple[Tool, ...], tools_json: str) -> int:
    conversation = sum(turn_tokens(turn) for turn in turns)
    offered = TOOL_TOKENS * len(tools) + count(tools_json) if tools else 0
    return PROMPT_START_TOKENS + conversation + offered + REPLY_PRIMER_TOKENS


def turn_tokens(turn: Turn) -> int:
    total = TURN_TOKENS + count(turn.text)
    total += sum(attachment.tokens for attachment in turn.attachments)
    total += sum(call_tokens(call.name, call.arguments) for call in turn.tool_calls)
    return total + (NAME_TOKENS + count(turn.name) if turn.name else 0)


def call_tokens(name: str, arguments: str) -> int:
    return CALL_TOKENS + count(name) + count(arguments)


def image_tokens(width: int, height: int, low_detail: bool) -> int:
    """85 tokens, and 170 for each tile of 512 pixels unless the detail is low."""
    if low_detail:
        return IMAGE_BASE_TOKENS
    tiles = -(-width // IMAGE_TILE_PX) * -(-height // IMAGE_TILE_PX) or IMAGE_TILES_UNSEEN
    return IMAGE_BASE_TOKENS + IMAGE_TILE_TOKENS * min(tiles, IMAGE_TILES_MAX)


def audio_tokens(size_bytes: int) -> int:
    return -(-size_bytes // AUDIO_BYTES_PER_TOKEN)


def file_tokens(size_bytes: int) -> int:
    return -(-size_bytes // FILE_BYTES_PER_TOKEN)
