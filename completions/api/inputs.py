"""Small bodies and query strings of the management API → structs, refused in the same words as completions."""

from typing import TypeVar

import msgspec
from rest_framework.request import Request

from completions.decoding import Words, invalid, refused
from completions.errors import InvalidRequest

T = TypeVar("T")


def body_of(request: Request, kind: type[T], words: Words) -> T:
    """The JSON body, whatever its content type says. Raises InvalidJson, MissingField, UnknownField, InvalidType or
    OutOfRange, which name the field; `words` says what each must be."""
    body: bytes = request._request.body
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise refused(exc, body, words) from None


def query_of(request: Request, kind: type[T], words: Words) -> T:
    """The query string: every parameter known, and given once. Raises InvalidRequest for one given twice, otherwise as
    `body_of`."""
    query = request._request.GET
    for name, values in query.lists():
        if len(values) > 1:
            raise InvalidRequest(f"'{name}' is given {len(values)} times.", param=name)
    try:
        return msgspec.convert(query.dict(), kind, strict=False)
    except msgspec.ValidationError as exc:
        raise invalid(exc, words) from None
