"""What a view's handler takes, answers and refuses, said beside it: material for the OpenAPI document (openapi.py).

Nothing of it runs when a request is served. A handler that is not documented fails the document, and so a test.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from msgspec import Struct

from completions import errors
from completions.chat.request import Fields
from completions.decoding import Words
from completions.dialects.openai_chat.answers import Completion, CompletionChunk
from completions.dialects.openai_chat.schema import WORDS

Handler = TypeVar("Handler", bound=Callable[..., Any])
Caller = Literal["api_key", "access_token"]
Refusals = tuple[type[errors.GatewayError], ...]

BODY: Refusals = (
    errors.InvalidJson,
    errors.InvalidType,
    errors.OutOfRange,
    errors.MissingField,
    errors.UnknownField,
)
QUERY: Refusals = (errors.InvalidRequest, errors.InvalidType, errors.OutOfRange, errors.UnknownField)


class Header(Struct, frozen=True):
    name: str
    description: str
    required: bool = False
    pattern: str | None = None


class EndpointDoc(Struct, frozen=True, kw_only=True):
    """What one method of an endpoint takes and gives. `asks` and `tells` are headers, of the request and of the answer;
    `refusals`, the leaves of errors.py beyond those that every endpoint may answer with."""

    answer: Any  # a struct
    status: int = 200
    media: tuple[tuple[str, str], ...] = ()  # other forms of the answer: (media type, description)
    also: tuple[Any, ...] = ()  # structs to publish that a description names
    body: Any = None  # a struct
    needs_body: bool = True
    query: Any = None  # a struct
    words: Words | None = None  # what each field of body or query must be
    callers: tuple[Caller, ...] = ()  # empty: no credentials needed
    refusals: Refusals = ()
    asks: tuple[Header, ...] = ()
    tells: tuple[Header, ...] = ()


def documented(doc: EndpointDoc) -> Callable[[Handler], Handler]:
    def attach(handler: Handler) -> Handler:
        handler.documented = doc  # type: ignore[attr-defined]
        return handler

    return attach


# --- The completions --------------------------------------------------------------------------------

UNITS = ("requests", "tokens")


def per_limit(figure: str, what: str) -> tuple[Header, ...]:
    return tuple(Header(f"x-ratelimit-{figure}-{unit}", f"{what} of {unit}, for a key that has one.") for unit in UNITS)


COMPLETIONS = EndpointDoc(
    answer=Completion,
    media=(
        (
            "text/event-stream",
            "With `stream`: server-sent events, each a ChatCompletionChunk; `data: [DONE]` ends a whole stream.",
        ),
    ),
    also=(CompletionChunk,),
    body=Fields,
    words=WORDS,
    callers=("api_key", "access_token"),
    asks=(
        Header("X-Quantized-Provider", "Only this provider, by its name in `/v1/models`."),
        Header(
            "Idempotency-Key",
            "1 to 255 printable characters: the same again is answered, and charged, once.",
            pattern="^[!-~]([ -~]{0,253}[!-~])?$",
        ),
    ),
    tells=(
        Header("x-generation-id", "The id of the receipt, see `/v1/generation`.", required=True),
        Header("x-quantized-provider", "Who served.", required=True),
        Header("x-quantized-attempts", "What was tried, when something failed on the way."),
        Header("idempotent-replayed", "`true` when the answer is a stored one."),
        *per_limit("limit", "The limit"),
        *per_limit("remaining", "What is left of it"),
        *per_limit("reset", "When all of it is back"),
    ),
    refusals=(
        *BODY,
        errors.InvalidRequest,
        errors.UnsupportedParameter,
        errors.UnknownProvider,
        errors.ContextLengthExceeded,
        errors.ContentPolicy,
        errors.IdempotencyKeyReused,
        errors.InsufficientCredits,
        errors.ModelNotAllowed,
        errors.RoleForbidden,
        errors.ModelNotFound,
        errors.IdempotencyInProgress,
        errors.RateLimited,
        errors.ProviderUnavailable,
    ),
)
