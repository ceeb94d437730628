"""Body → Chat: the one place where a chat completion's request is read. Pure."""

import msgspec
from msgspec import Raw

from completions.chat.request import Chat, Fields
from completions.decoding import Words, refused
from completions.dialects.openai_chat.words import HINTS, RULES

WORDS = Words(Fields.__struct_fields__, RULES, HINTS)
_fields_decoder = msgspec.json.Decoder(Fields)
_raw_decoder = msgspec.json.Decoder(dict[str, Raw])


def parse_chat(body: bytes) -> Chat:
    """Raises a leaf of `errors.InvalidRequest`, and nothing else, whatever the bytes are."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into strings it passes over
        return Chat(_fields_decoder.decode(body), _raw_decoder.decode(body), body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise refused(exc, body, WORDS) from None
