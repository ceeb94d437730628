"""Saying no to a request: msgspec's words become ours, with the field and the rule by name. Pure.

Only runs when something is wrong, so it may be slow; `rules_of` alone when a dialect is loaded.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from completions import errors

SHOWN_CHARS_MAX = 100  # of a client's own field name in a message


class Refusal(ValueError):
    """What a rule between fields says no with; msgspec adds the place."""

    def __init__(self, kind: type[errors.InvalidRequest], field: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.message = message


_JSON_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}

_PLACE = re.compile(r" - at (?:`(?:key|value)` in )?`\$\.?(?P<path>[^`]*)`\Z")
_QUOTED_FIELD = re.compile(r"field `(?P<field>.*)`\Z", re.DOTALL)
_TYPES = re.compile(r"\AExpected `(?P<expected>[^`]*)`(?:, got `(?P<got>[^`]*)`)?\Z")
_INDEX = re.compile(r"\[[^\]]*\]")


class Words(NamedTuple):
    """What to say about one kind of request: its fields, what each must be, and what to use instead of others."""

    known: Sequence[str]
    rules: Mapping[str, str]
    hints: Mapping[str, str] = {}


def refused(exc: Exception, body: bytes, words: Words) -> errors.InvalidRequest:
    if isinstance(exc, RecursionError):
        return errors.InvalidJson("The request body is nested too deeply.")
    if isinstance(exc, msgspec.ValidationError):
        return invalid(exc, words)
    return errors.InvalidJson(_why_not_json(exc, body))


def _why_not_json(exc: Exception, body: bytes) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"The request body is not valid UTF-8 (byte {exc.start})."
    if not body.strip():
        return "The request body is empty."
    reason = str(exc).removeprefix("JSON is malformed: ").replace("Input data was truncated", "it is cut off")
    return f"The request body is not valid JSON: {reason}."


def invalid(exc: msgspec.ValidationError, words: Words) -> errors.InvalidRequest:
    text = str(exc)
    place = _PLACE.search(text)
    path = place["path"] if place else ""
    text = text[: place.start()] if place else text
    if isinstance(exc.__cause__, Refusal):
        return _by_rule(exc.__cause__, path)
    field = _QUOTED_FIELD.search(text)
    if field is not None and text.startswith("Object missing"):
        return errors.MissingField(_join(path, field["field"]))
    if field is not None and text.startswith("Object contains unknown"):
        return _unknown(path, field["field"], words)
    return _wrong(path, text, words)


def _by_rule(refusal: Refusal, path: str) -> errors.InvalidRequest:
    param = _join(path, refusal.field)
    if refusal.kind is errors.MissingField:
        return errors.MissingField(param)
    return refusal.kind(f"'{param}' {refusal.message}.", param=param)


def _unknown(path: str, field: str, words: Words) -> errors.UnknownField:
    shown = _join(path, field[:SHOWN_CHARS_MAX])
    if path:
        return errors.UnknownField(shown)
    return errors.UnknownField(shown, words.hints.get(field) or _nearest(field[:SHOWN_CHARS_MAX], words.known))


def _nearest(field: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(field.lower(), known, n=1)
    return f"Did you mean '{near[0]}'?" if near else ""


def _wrong(path: str, text: str, words: Words) -> errors.InvalidRequest:
    types = _TYPES.match(text)
    kind: type[errors.InvalidRequest] = errors.InvalidType if types else errors.OutOfRange
    rule = words.rules.get(_INDEX.sub("[]", path)) or _plain_rule(text, types)
    subject = f"'{path}'" if path else "The request body"
    got = f", not {_json_name(types['got'])}" if types and types["got"] else ""
    return kind(f"{subject} must be {rule}{got}.", param=_param(path))


def _plain_rule(text: str, types: re.Match[str] | None) -> str:
    """For a value without words of its own: msgspec's, in JSON's names."""
    if types is not None:
        return " or ".join(_json_name(name) for name in types["expected"].split(" | "))
    return "in range" if text.startswith(("Expected", "Number")) else "one of the allowed values"


def _json_name(name: str) -> str:
    return _JSON_NAMES.get(name, name)


def _join(path: str, field: str) -> str:
    return ".".join(part for part in (path, field) if part)


def _param(path: str) -> str | None:
    # msgspec writes `[...]` for the key of an object: the object is what we can name.
    return path.replace("[...]", "") or None


# --- The words of a type ------------------------------------------------------------------------


def rules_of(request: type[Struct]) -> dict[str, str]:
    """What the values of a request must be, by their path with indexes left out: `top_p` → "a number between 0 and 1".
    Only values whose type has bounds or choices have a rule; a path that several types share has the last one's. The
    types must not be recursive."""
    return dict(_rules("", request))


def _rules(path: str, hint: Any) -> Iterator[tuple[str, str]]:
    types = _types(hint)
    words = [_words(bare, meta) for bare, meta in types]
    if all(words) and not set(words).issubset(_JSON_NAMES.values()):
        yield path, " or ".join(words)
    structs = [bare for bare, _ in types if isinstance(bare, type) and issubclass(bare, Struct)]
    if len(structs) > 1:
        tags = [struct.__struct_config__.tag for struct in structs]
        yield _join(path, structs[0].__struct_config__.tag_field or ""), _choices(tags)
    for struct in structs:
        hints = get_type_hints(struct, include_extras=True)
        for name, written in zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True):
            yield from _rules(_join(path, written), hints[name])
    for bare, _ in types:
        if get_origin(bare) in (list, dict):
            yield from _rules(f"{path}[]", get_args(bare)[-1])


def _types(hint: Any) -> list[tuple[Any, Meta]]:
    """The types that a value may have beside null, each with its bounds."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    split = [get_args(member) if get_origin(member) is Annotated else (member, Meta()) for member in members]
    return [(bare, meta) for bare, meta in split if bare is not NoneType]


def _words(bare: Any, meta: Meta) -> str:
    """A type in words; none for an object, nor for what the bounds do not tell."""
    if get_origin(bare) is Literal:
        return _choices(get_args(bare))
    if get_origin(bare) is list:
        [(item, _), *others] = _types(get_args(bare)[0])
        if get_origin(item) is Literal:
            return f"an array of {', '.join(map(repr, get_args(item)))}"
        is_told = item is str and not others and meta.max_length is not None
        return f"an array of {meta.min_length or 0} to {meta.max_length} strings" if is_told else ""
    if bare in (int, float) and meta.ge is not None and meta.le is not None:
        return f"{_json_name(bare.__name__)} between {meta.ge} and {meta.le}"
    if bare is not str or meta.pattern is not None:
        return ""
    if meta.max_length is not None:
        return f"a string of {f'{meta.min_length} to' if meta.min_length else 'up to'} {meta.max_length} characters"
    return "a non-empty string" if meta.min_length == 1 else _json_name("str")


def _choices(values: Sequence[object]) -> str:
    said = [repr(value) for value in values]
    return f"one of {', '.join(said)}" if len(said) > 2 else " or ".join(said)
