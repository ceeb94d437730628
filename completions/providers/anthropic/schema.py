"""A client's JSON schema → the part of JSON Schema that Anthropic's structured outputs take. Pure.

    closed      every object gets `additionalProperties: false`; one with free keys is refused
    renamed     `oneOf` becomes `anyOf`
    told        limits (minimum, maxLength, unknown formats ...) go into the description, in words
    refused     by their place: what changes the shape and has no equivalent (`not`, `if`, `patternProperties` ...)

Words that JSON Schema does not know assert nothing and stay behind.
"""

import json
import re
from typing import Any

from completions.providers.base import Untranslatable

DEPTH_MAX = 64

_KEPT = ("type", "title", "description", "enum", "const", "default", "required")
_BRANCHES = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_NAMED = ("properties", "$defs", "definitions")
_LIMITS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
)
_REFUSED = (
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "prefixItems", "additionalItems"),
    *("patternProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    *("dependencies", "dependentRequired", "dependentSchemas", "$dynamicRef", "$recursiveRef"),
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_LOOKAROUND = re.compile(r"\(\?<?[=!]")


def closed_schema(schema: Any, where: str) -> dict[str, Any]:
    """Raises Untranslatable at what cannot be said; `where` is the schema's place in the request."""
    return _Translation(schema).translated(schema, where, 0)


class _Translation:
    """`root` is what references point into."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def translated(self, schema: Any, where: str, depth: int) -> dict[str, Any]:
        if not isinstance(schema, dict):
            raise Untranslatable(where, "only a schema that is an object can be used here")
        if depth > DEPTH_MAX:
            raise Untranslatable(where, f"a schema may be nested {DEPTH_MAX} levels deep")
        _refuse(schema, where)
        told = {word: schema[word] for word in _KEPT if word in schema}
        told |= self._parts(schema, where, depth + 1)
        told |= _pattern(schema, where)
        if "$ref" in schema:
            told["$ref"] = self._reference(schema["$ref"], where)
        if _is_object(schema):
            told["additionalProperties"] = _closed(schema, where)
        return _described(told, schema)

    def _parts(self, schema: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
        """The schemas inside a schema."""
        told: dict[str, Any] = {}
        for word in _NAMED:
            for name, part in _table(schema, word, where).items():
                told.setdefault(word, {})[name] = self.translated(part, f"{where}.{word}.{name}", depth)
        for word, branch in _BRANCHES.items():
            for at, part in enumerate(_list(schema, word, where)):
                told.setdefault(branch, []).append(self.translated(part, f"{where}.{word}[{at}]", depth))
        if "items" in schema:
            told["items"] = self.translated(schema["items"], f"{where}.items", depth)
        if schema.get("minItems") in (0, 1):
            told["minItems"] = schema["minItems"]
        return told

    def _reference(self, reference: Any, where: str) -> str:
        """A reference that leads to something inside this schema."""
        found = self._root
        for step in str(reference).removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if not str(reference).startswith("#") or not isinstance(found, dict):
            raise Untranslatable(f"{where}.$ref", "it leads to nothing inside the schema")
        return str(reference)


def _refuse(schema: dict[str, Any], where: str) -> None:
    for word in _REFUSED:
        if word in schema:
            raise Untranslatable(f"{where}.{word}")
    if "anyOf" in schema and "oneOf" in schema:
        raise Untranslatable(f"{where}.oneOf", "it cannot stand beside anyOf")


def _is_object(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or "properties" in schema or (isinstance(kind, list) and "object" in kind)


def _closed(schema: dict[str, Any], where: str) -> bool:
    free = schema.get("additionalProperties", not schema.get("properties"))
    if free is not False:
        raise Untranslatable(f"{where}.additionalProperties", "every key of an object must be named in its properties")
    return False


def _pattern(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """What a string looks like, as far as it can be enforced."""
    told = {}
    if "pattern" in schema:
        if _LOOKAROUND.search(str(schema["pattern"])):
            raise Untranslatable(f"{where}.pattern", "it looks ahead or behind")
        told["pattern"] = schema["pattern"]
    if schema.get("format") in _FORMATS:
        told["format"] = schema["format"]
    return told


def _described(told: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """With the limits that are not enforced told to the model in words."""
    limits = [word for word in _LIMITS if word in schema]
    limits += [word for word in ("minItems", "format") if word in schema and word not in told]
    if not limits:
        return told
    words = ", ".join(f"{word} {json.dumps(schema[word], ensure_ascii=False)}" for word in limits)
    return {**told, "description": f"{told.get('description') or ''} ({words})".lstrip()}


def _table(schema: dict[str, Any], word: str, where: str) -> dict[str, Any]:
    value = schema.get(word, {})
    if not isinstance(value, dict):
        raise Untranslatable(f"{where}.{word}", "it must be an object")
    return value


def _list(schema: dict[str, Any], word: str, where: str) -> list[Any]:
    value = schema.get(word, [])
    if not isinstance(value, list):
        raise Untranslatable(f"{where}.{word}", "it must be an array")
    return value
