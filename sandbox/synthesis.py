"""JSON values that conform to a JSON schema, taken from the text of a prompt where it offers them."""

import re
from typing import Final

from sandbox.conversation import Json

_DEPTH_MAX: Final = 12
_DEPTH_OPTIONAL: Final = 4  # deeper than this a value takes the shortest way out (null, an empty list)
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_NAME = re.compile(r"\b[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*)*")
_ENUMERATED = re.compile(r",| and\b")
_OBJECT_OF = re.compile(r"\b(?:in|for|at|about|of|to|from)\s+([^?.!,;]+)", re.IGNORECASE)
_SENTENCE_OPENERS = """
what what's what’s who where when why how which is are was do does did can could please tell give get find show look
say the a an and i it in for at of to search call use book send make add create list name write should would will you
my me compare check fetch reply answer return extract describe
"""
_NOT_NAMES = frozenset(_SENTENCE_OPENERS.split())
_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "alice@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Hints:
    """What a text offers to fill a schema with. `facts` answer a property by its name, `plain` any string."""

    def __init__(self, text: str, facts: dict[str, Json] | None = None, plain: str = "") -> None:
        self.text = text
        self.facts = facts or {}
        self.numbers = [float(found) if "." in found else int(found) for found in _NUMBER.findall(text)]
        self.strings = [plain] if plain else _QUOTED.findall(text) or names(text) or _objects(text) or [text]

    def number(self, position: int) -> float | int | None:
        return self.numbers[min(position, len(self.numbers) - 1)] if self.numbers else None

    def string(self, position: int) -> str:
        return self.strings[min(position, len(self.strings) - 1)]


def names(text: str) -> list[str]:
    """The proper names in a text: capitalised words that are no question words."""
    found = [(match.start(), _named(match[0])) for match in _NAME.finditer(text)]
    found = [(start, name) for start, name in found if name]
    # The first word of a sentence is capitalised for being first: a name only if there is no other.
    if len(found) > 1 and found[0][0] == 0 and not _ENUMERATED.match(text, len(found[0][1])):
        found = found[1:]
    return [name for _, name in found]


def _named(capitalised: str) -> str:
    words = capitalised.split(" ")
    while words and words[0].lower() in _NOT_NAMES:
        words.pop(0)
    return " ".join(words)


def _objects(text: str) -> list[str]:
    return [found.strip() for found in _OBJECT_OF.findall(text)]


def value(schema: Json, hints: Hints) -> Json:
    """A value that conforms to the schema."""
    return _Builder(schema if isinstance(schema, dict) else {}, hints).build()


class _Builder:
    def __init__(self, root: dict[str, Json], hints: Hints) -> None:
        self.root = root
        self.hints = hints
        self.strings_used = 0
        self.numbers_used = 0

    def build(self) -> Json:
        return self._value(self.root, "", 0)

    def _value(self, schema: Json, name: str, depth: int) -> Json:
        if not isinstance(schema, dict):
            return None
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._mentioned(schema["enum"])
        return self._typed(schema, name, depth)

    def _typed(self, schema: dict[str, Json], name: str, depth: int) -> Json:
        kind = _kind(schema, depth)
        if name in self.hints.facts and _is(kind, self.hints.facts[name]):
            return self.hints.facts[name]
        if "default" in schema and _is(kind, schema["default"]):
            return schema["default"]
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        return self._scalar(kind, schema)

    def _scalar(self, kind: str, schema: dict[str, Json]) -> Json:
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind == "boolean":
            return True
        return None if kind == "null" else self._string(schema)

    def _resolved(self, schema: dict[str, Json], depth: int) -> dict[str, Json]:
        """The schema behind references, and the first (or shortest) branch of alternatives."""
        for _ in range(_DEPTH_MAX):
            if "$ref" in schema:
                schema = self._referred(schema["$ref"])
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                rest = {key: part for key, part in schema.items() if key not in ("anyOf", "oneOf")}
                schema = {**rest, **_branch(branches, depth)}
            elif parts := schema.get("allOf"):
                rest = {key: part for key, part in schema.items() if key != "allOf"}
                schema = _merged([rest, *(self._resolved(part, depth) for part in parts)])
            else:
                return schema
        return {}

    def _referred(self, reference: str) -> dict[str, Json]:
        found: Json = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key, {}) if key and isinstance(found, dict) else found
        return found if isinstance(found, dict) else {}

    def _object(self, schema: dict[str, Json], depth: int) -> dict[str, Json]:
        properties = schema.get("properties") or {}
        wanted = schema.get("required") or (list(properties) if depth <= _DEPTH_OPTIONAL else [])
        if depth > _DEPTH_MAX:
            return {}
        return {key: self._value(properties.get(key, {"type": "string"}), key, depth + 1) for key in wanted}

    def _array(self, schema: dict[str, Json], name: str, depth: int) -> list[Json]:
        least = max(schema.get("minItems", 0), 1 if depth <= _DEPTH_OPTIONAL else 0)
        length = min(least, schema.get("maxItems", least))
        prefix = schema.get("prefixItems") or []
        items = schema.get("items", {})
        return [self._value(prefix[k] if k < len(prefix) else items, name, depth + 1) for k in range(length)]

    def _mentioned(self, options: list[Json]) -> Json:
        """The first option the text speaks of, else the first."""
        text = self.hints.text.lower()
        return next((one for one in options if isinstance(one, str) and one and one.lower() in text), options[0])

    def _string(self, schema: dict[str, Json]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self.hints.string(self.strings_used)
        self.strings_used += 1
        text = text.ljust(schema.get("minLength", 0), ".")
        return text[: schema["maxLength"]] if "maxLength" in schema else text

    def _number(self, schema: dict[str, Json], kind: str) -> float | int:
        found = self.hints.number(self.numbers_used)
        self.numbers_used += 1
        number = 1 if found is None else found
        return _within(int(number) if kind == "integer" else number, schema, kind)


def _kind(schema: dict[str, Json], depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        shortest = depth > _DEPTH_OPTIONAL and "null" in kind
        return "null" if shortest else next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def _is(kind: str, found: Json) -> bool:
    """Whether a value is of a JSON type (in Python a bool is an int, in JSON it is not)."""
    if isinstance(found, bool):
        return kind == "boolean"
    return kind in _TYPES and isinstance(found, _TYPES[kind])


def _branch(branches: list[Json], depth: int) -> dict[str, Json]:
    nulls = [one for one in branches if isinstance(one, dict) and one.get("type") == "null"]
    others = [one for one in branches if isinstance(one, dict) and one.get("type") != "null"]
    chosen = nulls or others if depth > _DEPTH_OPTIONAL else others or nulls
    return chosen[0] if chosen else {}


def _merged(parts: list[dict[str, Json]]) -> dict[str, Json]:
    merged: dict[str, Json] = {}
    for part in parts:
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", []), *part.get("required", [])]
        merged = {**merged, **part}
        if properties:
            merged["properties"], merged["required"] = properties, required
    return merged


def _within(number: float | int, schema: dict[str, Json], kind: str) -> float | int:
    """The number moved into the schema's range, a multiple of what it asks."""
    number = max(number, schema.get("minimum", number))
    number = min(number, schema.get("maximum", number))
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    between = above is not None and below is not None and kind == "number"
    if above is not None and number <= above:
        number = (above + below) / 2 if between else above + 1
    if below is not None and number >= below:
        number = (above + below) / 2 if between else below - 1
    step = schema.get("multipleOf")
    return -(-number // step) * step if step else number
