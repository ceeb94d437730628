"""JSON schemas that structured outputs refuse. Pure; every object is closed and little else is allowed."""

from typing import Any

from sandbox.anthropic.request import invalid

_KNOWN = frozenset(
    {"type", "title", "description", "enum", "const", "default", "properties", "required", "additionalProperties"}
    | {"items", "minItems", "anyOf", "allOf", "$ref", "$defs", "definitions", "pattern", "format"}
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")


def check(schema: Any, where: str, root: Any = None) -> None:
    root = schema if root is None else root
    if not isinstance(schema, dict):
        raise invalid(f"{where}: a schema must be an object")
    for word in sorted(schema.keys() - _KNOWN):
        raise invalid(f"{where}: For '{schema.get('type', 'schema')}' type, property '{word}' is not supported")
    if "object" in _types(schema) and schema.get("additionalProperties") is not False:
        raise invalid(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    if schema.get("minItems", 0) not in (0, 1):
        raise invalid(f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if schema.get("format", "date") not in _FORMATS:
        raise invalid(f"{where}: String format '{schema['format']}' is not supported")
    if any(sign in str(schema.get("pattern")) for sign in ("(?=", "(?!", "(?<")):
        raise invalid(f"{where}: Lookaround in 'pattern' is not supported")
    if "$ref" in schema and not _leads(schema["$ref"], root):
        raise invalid(f"{where}: Unresolvable $ref '{schema['$ref']}'")
    for part, place in _parts(schema, where):
        check(part, place, root)


def _types(schema: dict[str, Any]) -> list[Any]:
    kind = schema.get("type")
    found = kind if isinstance(kind, list) else [kind]
    return [*found, "object"] if "properties" in schema else found


def _parts(schema: dict[str, Any], where: str) -> list[tuple[Any, str]]:
    parts = [(schema["items"], f"{where}.items")] if "items" in schema else []
    for word in ("properties", "$defs", "definitions"):
        parts += [(part, f"{where}.{word}.{name}") for name, part in schema.get(word, {}).items()]
    for word in ("anyOf", "allOf"):
        parts += [(part, f"{where}.{word}.{at}") for at, part in enumerate(schema.get(word, []))]
    return parts


def _leads(reference: str, root: Any) -> bool:
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return reference.startswith("#") and isinstance(found, dict)
