"""`/v1/keys`: an organization's API keys, managed by its owners and admins.

By a member's access token only: a key that leaked must not make others. Another tenant's key is not found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.db.models import Q, QuerySet
from msgspec import UNSET, Meta, Struct, UnsetType
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import services
from accounts.models import ApiKey, Organization, User
from accounts.principals import KEY_MANAGERS
from common import checks
from common.numbers import BIGINT_MAX, INTEGER_MAX
from completions.api.account import key_body, principal
from completions.api.documented import BODY, QUERY, Caller, EndpointDoc, documented
from completions.api.inputs import body_of, query_of
from completions.api.shapes import Key, KeyList, NewKey, Period
from completions.decoding import Words
from completions.errors import InvalidRequest, MissingField, NotFound, OutOfRange, RoleForbidden

PAGE_KEYS = 50
PAGE_KEYS_MAX = 100
MODELS_MAX = 1000
FIELD_OF = {"limit": "limit_micro"}
OVERLAP_S = 3600
OVERLAP_S_MAX = 7 * 24 * 3600

Rate = Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | UnsetType | None
ModelId = Annotated[str, Meta(min_length=1, max_length=200)]


class RateLimitsInput(Struct, frozen=True, forbid_unknown_fields=True):
    """Null: no limit of its own. Left out: as it was."""

    requests_per_minute: Rate = UNSET
    tokens_per_minute: Rate = UNSET
    concurrency: Rate = UNSET


class KeyInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said about a key. Null: no such limit. Left out: none for a new key, as it was for another."""

    name: Annotated[str, Meta(max_length=100)] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=BIGINT_MAX)] | UnsetType | None = UNSET
    limit_period: Period | UnsetType | None = UNSET
    models: Annotated[list[ModelId], Meta(min_length=1, max_length=MODELS_MAX)] | UnsetType | None = UNSET
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = UNSET
    rate_limits: RateLimitsInput | UnsetType | None = UNSET


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """For how long the old key works on beside the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_S_MAX)] = OVERLAP_S


class KeyPage(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: the last key of the page before."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_KEYS_MAX)] = PAGE_KEYS
    after: UUID | None = None
    include_revoked: bool = False


KEY_WORDS = Words(
    KeyInput.__struct_fields__,
    {
        "name": "a string of up to 100 characters",
        "limit": f"micro-credits between 1 and {BIGINT_MAX}, or null",
        "limit_period": "one of 'day', 'week', 'month', 'total', or null",
        "models": f"an array of 1 to {MODELS_MAX} model ids, or null",
        "models[]": "a model id of 1 to 200 characters",
        "expires_at": "a time with its zone, like 2027-01-31T12:00:00Z, or null",
        "rate_limits": "an object, or null",
        **{f"rate_limits.{name}": f"an integer between 1 and {INTEGER_MAX}, or null" for name in services.RATE_LIMITS},
    },
)
ROTATION_WORDS = Words(
    Rotation.__struct_fields__, {"overlap_seconds": f"an integer between 0 and {OVERLAP_S_MAX} (seven days)"}
)
PAGE_WORDS = Words(
    KeyPage.__struct_fields__,
    {
        "limit": f"an integer between 1 and {PAGE_KEYS_MAX}",
        "after": "the id of a key",
        "include_revoked": "true or false",
    },
)


MEMBERS: tuple[Caller, ...] = ("access_token",)


class ManagesKeys(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        role = principal(request).role
        if role == "key":
            raise RoleForbidden("An API key cannot manage keys: send the access token of an owner or admin.")
        if role not in KEY_MANAGERS:
            raise RoleForbidden(f"Keys are managed by owners and admins; your role is '{role}'.")
        return True


class KeysView(APIView):
    permission_classes = (IsAuthenticated, ManagesKeys)


class KeyListView(KeysView):
    @documented(
        EndpointDoc(
            answer=KeyList, query=KeyPage, words=PAGE_WORDS, callers=MEMBERS, refusals=(*QUERY, RoleForbidden, NotFound)
        )
    )
    def get(self, request: Request) -> Response:
        """The organization's keys, the newest first."""
        page = query_of(request, KeyPage, PAGE_WORDS)
        keys = keys_of(request)
        if page.after is not None:
            last = find(request, page.after, param="after")
            keys = keys.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk))
        if not page.include_revoked:
            keys = keys.filter(revoked_at=None)
        found = list(keys.select_related("meter").order_by("-created_at", "-pk")[: page.limit + 1])
        shown = [key_body(key) for key in found[: page.limit]]
        return Response(KeyList(data=shown, has_more=len(found) > page.limit))

    @documented(
        EndpointDoc(
            answer=NewKey,
            status=201,
            body=KeyInput,
            words=KEY_WORDS,
            callers=MEMBERS,
            refusals=(*BODY, RoleForbidden),
        )
    )
    def post(self, request: Request) -> Response:
        """A new key. The key itself is in the answer this once."""
        settings = settings_of(body_of(request, KeyInput, KEY_WORDS))
        organization = Organization.objects.get(pk=principal(request).organization_id)
        with refused_by_name():
            key, api_key = services.issue_key(organization, **settings, created_by=creator(request))
        return Response(new_key_body(key, api_key), status=201)


class KeyItemView(KeysView):
    @documented(EndpointDoc(answer=Key, callers=MEMBERS, refusals=(RoleForbidden, NotFound)))
    def get(self, request: Request, key_id: str) -> Response:
        """One key of the organization."""
        return Response(key_body(find(request, key_id)))

    @documented(
        EndpointDoc(
            answer=Key,
            body=KeyInput,
            words=KEY_WORDS,
            callers=MEMBERS,
            refusals=(*BODY, RoleForbidden, NotFound),
        )
    )
    def patch(self, request: Request, key_id: str) -> Response:
        """Change what the body names. A lowered limit holds for the next request."""
        key = find(request, key_id)
        changes = settings_of(body_of(request, KeyInput, KEY_WORDS))
        with refused_by_name():
            return Response(key_body(services.change_key(key.pk, changes)))

    @documented(EndpointDoc(answer=Key, callers=MEMBERS, refusals=(RoleForbidden, NotFound)))
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke the key, for good. Again changes nothing."""
        return Response(key_body(services.revoke_key(find(request, key_id).pk)))


class KeyRotationView(KeysView):
    @documented(
        EndpointDoc(
            answer=NewKey,
            status=201,
            body=Rotation,
            needs_body=False,
            words=ROTATION_WORDS,
            callers=MEMBERS,
            refusals=(*BODY, InvalidRequest, RoleForbidden, NotFound),
        )
    )
    def post(self, request: Request, key_id: str) -> Response:
        """A new key with the same settings; the old one works on for the overlap."""
        key = find(request, key_id)
        asked = body_of(request, Rotation, ROTATION_WORDS) if request._request.body else Rotation()
        with refused_by_name():
            new, api_key = services.rotate_key(key.pk, timedelta(seconds=asked.overlap_seconds), creator(request))
        return Response(new_key_body(new, api_key), status=201)


# --- Which key ------------------------------------------------------------------------------------


def keys_of(request: Request) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(organization_id=principal(request).organization_id)


def find(request: Request, key_id: UUID | str, param: str | None = None) -> ApiKey:
    """A key of the caller's organization. Raises NotFound for any other id, alike for another tenant's key and for one
    that never was."""
    known_id = checks.as_uuid(key_id)
    key = keys_of(request).filter(pk=known_id).first() if known_id else None
    if key is None:
        raise NotFound("There is no such key.", param=param)
    return key


def creator(request: Request) -> User | None:
    """The member who asks; None for one deleted since their access token was checked, and for an API key."""
    user_id = principal(request).user_id
    return User.objects.filter(pk=user_id).first() if user_id else None


# --- What is said about it ------------------------------------------------------------------------


def settings_of(given: KeyInput) -> dict[str, Any]:
    """The fields that the request has, by the names of accounts/services.py; `rate_limits: null` takes all three
    away."""
    said = said_in(given)
    rate_limits = said.pop("rate_limits", UNSET)
    if rate_limits is None:
        said |= dict.fromkeys(services.RATE_LIMITS)
    elif rate_limits is not UNSET:
        said |= said_in(rate_limits)
    return {FIELD_OF.get(name, name): value for name, value in said.items()}


def said_in(struct: Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(struct).items() if value is not UNSET}


@contextmanager
def refused_by_name() -> Iterator[None]:
    """A refusal of accounts/services.py in the API's words, with the field as the API calls it."""
    try:
        yield
    except services.KeyEnded as ended:
        raise InvalidRequest(f"This key {ended.message}.") from None
    except checks.Invalid as invalid:
        param = f"rate_limits.{invalid.field}" if invalid.field in services.RATE_LIMITS else invalid.field
        if isinstance(invalid, services.Missing):
            raise MissingField(param) from None
        raise OutOfRange(f"'{param}' {invalid.message}.", param=param) from None


def new_key_body(key: ApiKey, api_key: str) -> NewKey:
    return NewKey(**msgspec.structs.asdict(key_body(key)), api_key=api_key)
