"""The OpenAPI document: drf-spectacular walks the URL map, our own structs give the shapes.

One source of truth: a request's schema comes from the struct that decodes it, an answer's from the struct that is
encoded, a field's words from its refusal (the dialects' and views' `Words`), a status's codes from the tree in
errors.py. What a handler takes and answers is said beside it (documented.py).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from completions import errors
from completions.api.documented import EndpointDoc, Header, Refusals
from completions.api.shapes import Error

Json = dict[str, Any]

BOTH_LANES: Refusals = (
    errors.InvalidHttp,
    errors.RequestTimeout,
    errors.RequestTooLarge,
    errors.RequestHeadTooLarge,
    errors.InternalError,
    errors.LedgerUnavailable,
)
WITH_AUTHORIZATION: Refusals = (
    errors.InvalidApiKey,
    errors.ExpiredApiKey,
    errors.RevokedApiKey,
    errors.InvalidToken,
    errors.ExpiredToken,
    errors.OrganizationSuspended,
)
MEANINGS = {
    400: "The request is wrong",
    401: "Who is asking is not known",
    402: "The credits do not cover what the call may cost",
    403: "Who is asking may not",
    404: "There is no such thing, or it is another organization's",
    408: "The request did not arrive in time",
    409: "The first request with this Idempotency-Key is still running",
    413: "The body is too large",
    429: "Too much at once",
    431: "The request's head is too large",
    500: "A fault of ours",
    503: "The provider or the service is unavailable; nothing was charged",
}
REQUEST_ID = Header("x-request-id", "Names the answer in any question to the operator: your own, or a new one.", True)
RETRY_AFTER = Header("retry-after", "Whole seconds to wait.")
TELLS = {
    401: (Header("www-authenticate", "Bearer", True),),
    429: (RETRY_AFTER,),
    503: (RETRY_AFTER,),
}
SECURITY_SCHEMES = {
    "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `sk-quantized-...`."},
    "access_token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A member's access token, from `POST /v1/auth/token`.",
    },
}
# Where the code's name of a struct says too little to a reader, or two structs have the same.
NAMES = {
    "Revocation": "Revoked",
    "Fields": "ChatCompletionRequest",
    "Completion": "ChatCompletion",
    "CompletionChunk": "ChatCompletionChunk",
    "UsageView": "CompletionUsage",
    "Message": "ChatCompletionMessage",
    "completions.chat.request.ToolCall": "EchoedToolCall",
    "completions.chat.answer.ToolCall": "ToolCall",
    "Spent": "KeyUsage",
    "Row": "UsageRow",
    "Figures": "UsageFigures",
}
TAGS = {"key": "keys", ".well-known": "auth"}
REF = "#/components/schemas/"
TEXT = {"type": "string"}


class PathEntry(AutoSchema):
    """The entry of one path and method. Named in settings.py."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Json:
        handler = getattr(self.view, method.lower())
        doc: EndpointDoc = handler.documented
        entry: Json = {
            "operationId": "_".join([method.lower(), *re.findall(r"\w+", path.removeprefix("/v1"))]),
            "summary": paragraph(handler.__doc__),
            "tags": [tag_of(path)],
            "security": [{caller: []} for caller in doc.callers],
            "parameters": [*path_parameters(path), *query_parameters(doc), *header_parameters(doc.asks)],
            "responses": {str(doc.status): answer(doc), **refusals(doc)},
        }
        if doc.query is not None:
            entry["description"] = paragraph(doc.query.__doc__)
        if doc.body is not None:
            entry["requestBody"] = {"required": doc.needs_body, "content": json_content(ref(doc.body))}
        return entry


def add_components(result: Json, generator: SchemaGenerator, **_: Any) -> Json:
    """The schemas that the entries refer to. A post-processing hook: msgspec names structs only when it sees all."""
    entries = [getattr(cls, method).documented for cls, method in handlers(generator)]
    structs = dict.fromkeys([Error, *(struct for doc in entries for struct in structs_of(doc))])
    schemas = msgspec.json.schema_components(structs, ref_template=REF + "{name}")[1]
    found = {NAMES.get(name, name): tidy(schema) for name, schema in schemas.items()}
    for doc in entries:
        if doc.body is not None and doc.words is not None:
            describe(found[name_of(doc.body)]["properties"], doc.words.rules)
    result["components"] = {"schemas": dict(sorted(found.items())), "securitySchemes": SECURITY_SCHEMES}
    return result


def handlers(generator: SchemaGenerator) -> Iterator[tuple[Any, str]]:
    for endpoint in generator.endpoints or ():
        method, callback = endpoint[-2:]
        yield callback.cls, method.lower()


def structs_of(doc: EndpointDoc) -> Iterator[Any]:
    yield doc.answer
    yield from doc.also
    if doc.body is not None:
        yield doc.body


def tag_of(path: str) -> str:
    name = path.removeprefix("/v1").split("/")[1]
    return TAGS.get(name, name)


# --- What a request takes ---------------------------------------------------------------------------


def path_parameters(path: str) -> list[Json]:
    names = re.findall(r"{(\w+)}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def query_parameters(doc: EndpointDoc) -> list[Json]:
    if doc.query is None:
        return []
    [schema] = tidy(list(msgspec.json.schema_components([doc.query])[1].values()))
    describe(schema["properties"], doc.words.rules if doc.words else {})
    required = schema.get("required", [])
    return [query_parameter(name, kind, name in required) for name, kind in schema["properties"].items()]


def query_parameter(name: str, schema: Json, required: bool) -> Json:
    description = schema.pop("description", "")
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": without_null(schema),
    }


def without_null(schema: Json) -> Json:
    """A query string cannot say null: it leaves the parameter out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def header_parameters(headers: Sequence[Header]) -> list[Json]:
    return [{"name": each.name, "in": "header", **header(each)} for each in headers]


# --- What an answer gives ---------------------------------------------------------------------------


def answer(doc: EndpointDoc) -> Json:
    content = json_content(ref(doc.answer))
    content |= {media: {"schema": {**TEXT, "description": words}} for media, words in doc.media}
    return {
        "description": paragraph(doc.answer.__doc__),
        "headers": response_headers((REQUEST_ID, *doc.tells)),
        "content": content,
    }


def refusals(doc: EndpointDoc) -> Json:
    """By status, with every code it may have."""
    leaves: dict[int, list[type[errors.GatewayError]]] = defaultdict(list)
    for leaf in dict.fromkeys((*doc.refusals, *(WITH_AUTHORIZATION if doc.callers else ()), *BOTH_LANES)):
        leaves[leaf.status].append(leaf)
    return {str(status): refusal(status, leaves[status]) for status in sorted(leaves)}


def refusal(status: int, leaves: Sequence[type[errors.GatewayError]]) -> Json:
    codes = sorted({leaf.code for leaf in leaves})
    fixed = {"type": {"enum": sorted({leaf.type for leaf in leaves})}, "code": {"enum": codes}}
    schema = {"allOf": [ref(Error), {"properties": {"error": {"properties": fixed}}}]}
    return {
        "description": f"{MEANINGS[status]}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": response_headers((REQUEST_ID, *TELLS.get(status, ()))),
        "content": json_content(schema),
    }


def response_headers(headers: Sequence[Header]) -> Json:
    return {each.name: header(each) for each in headers}


def header(each: Header) -> Json:
    schema = TEXT if each.pattern is None else {**TEXT, "pattern": each.pattern}
    return {"description": each.description, "required": each.required, "schema": schema}


# --- Schemas ----------------------------------------------------------------------------------------


def json_content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def ref(struct: Any) -> Json:
    return {"$ref": REF + name_of(struct)}


def name_of(struct: Any) -> str:
    return NAMES.get(struct.__name__, struct.__name__)


def paragraph(doc: str | None) -> str:
    return " ".join((doc or "").split())


def describe(properties: Json, rules: Mapping[str, str]) -> None:
    for name, schema in properties.items():
        if name in rules:
            schema["description"] = f"{rules[name][0].upper()}{rules[name][1:]}."


def tidy(schema: Any) -> Any:
    """msgspec's schema for readers: our names, JSON's regular expressions, no titles, no obvious defaults."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if isinstance(schema, str):
        return tidy_text(schema)
    if not isinstance(schema, dict):
        return schema
    kept = {key: tidy(value) for key, value in schema.items() if not is_obvious(key, value)}
    return kept | {"anyOf": typed(kept["anyOf"])} if "anyOf" in kept else kept


def tidy_text(text: str) -> str:
    if text.startswith(REF):
        name = text.removeprefix(REF)
        return REF + NAMES.get(name, name)
    return text.replace(r"\A", "^").replace(r"\Z", "$")


def is_obvious(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or (key, value) in (("default", None), ("required", []))


def typed(kinds: list[Json]) -> list[Json]:
    """A Raw beside a type is the same thing as bytes, passed on as they came."""
    known = [kind for kind in kinds if kind]
    return kinds if known in ([], [{"type": "null"}]) else known
