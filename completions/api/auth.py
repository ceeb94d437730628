"""`/v1/auth/...`: members log in, renew and end their sessions; the keys that tokens are signed with are public."""

from collections.abc import Sequence
from typing import Annotated, cast

from django.conf import settings
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import sessions, signing_keys
from accounts.current import memberships
from accounts.models import Membership
from common.addresses import client_address
from common.checks import as_uuid
from completions.api.documented import BODY, EndpointDoc, documented
from completions.api.inputs import body_of
from completions.api.shapes import JsonWebKeys, Revocation, Role, Session
from completions.decoding import Words
from completions.errors import (
    ExpiredToken,
    InvalidCode,
    InvalidCredentials,
    InvalidToken,
    MissingField,
    NotFound,
    OrganizationSuspended,
    RateLimited,
    SecondFactorRequired,
)

NO_STORE = {"Cache-Control": "no-store"}
JWKS_AGE_S = 300

EMAIL_CHARS_MAX = 254
PASSWORD_CHARS_MAX = 1024
CODE_CHARS_MAX = 64
TOKEN_CHARS_MAX = 256


class LogIn(Struct, frozen=True, forbid_unknown_fields=True):
    """`code` is the second factor, of those who have one: of an authenticator app, or a recovery code."""

    email: Annotated[str, Meta(min_length=1, max_length=EMAIL_CHARS_MAX, pattern=r"\A[^\x00-\x20\x7f]+\Z")]
    password: Annotated[str, Meta(min_length=1, max_length=PASSWORD_CHARS_MAX)]
    organization: str | None = None
    code: Annotated[str, Meta(max_length=CODE_CHARS_MAX)] | None = None


class Renewal(Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARS_MAX)]


LOG_IN_WORDS = Words(
    LogIn.__struct_fields__,
    {
        "email": f"an e-mail address of up to {EMAIL_CHARS_MAX} characters",
        "password": f"a string of 1 to {PASSWORD_CHARS_MAX} characters",
        "organization": "an organization's id, or null",
        "code": f"a string of up to {CODE_CHARS_MAX} characters, or null",
    },
)
RENEWAL_WORDS = Words(Renewal.__struct_fields__, {"refresh_token": f"a string of 1 to {TOKEN_CHARS_MAX} characters"})


class OpenView(APIView):
    """For those who have no token yet."""

    authentication_classes = ()
    permission_classes = ()


class TokenView(OpenView):
    @documented(
        EndpointDoc(
            answer=Session,
            body=LogIn,
            words=LOG_IN_WORDS,
            refusals=(
                *BODY,
                InvalidCredentials,
                SecondFactorRequired,
                InvalidCode,
                OrganizationSuspended,
                NotFound,
                RateLimited,
            ),
        )
    )
    def post(self, request: Request) -> Response:
        """Log in with e-mail and password, and the second factor if the user has one, for one organization."""
        asked = body_of(request, LogIn, LOG_IN_WORDS)
        user = sessions.log_in(asked.email, asked.password, asked.code, address_of(request))
        membership = chosen(memberships(user), asked.organization)
        return session_answer(sessions.begin(membership))


class RefreshView(OpenView):
    @documented(
        EndpointDoc(
            answer=Session,
            body=Renewal,
            words=RENEWAL_WORDS,
            refusals=(*BODY, InvalidToken, ExpiredToken, OrganizationSuspended),
        )
    )
    def post(self, request: Request) -> Response:
        """Use a refresh token up for the next two tokens. Shown a second time, it ends the session."""
        return session_answer(sessions.renew(body_of(request, Renewal, RENEWAL_WORDS).refresh_token))


class RevokeView(OpenView):
    @documented(EndpointDoc(answer=Revocation, body=Renewal, words=RENEWAL_WORDS, refusals=BODY))
    def post(self, request: Request) -> Response:
        """End a session: its access tokens too, everywhere within a second. A token that is none ends nothing."""
        sessions.revoke(body_of(request, Renewal, RENEWAL_WORDS).refresh_token)
        return Response(Revocation(), headers=NO_STORE)


class JwksView(OpenView):
    @documented(EndpointDoc(answer=JsonWebKeys))
    def get(self, request: Request) -> Response:
        """The public keys of access tokens, the active one first."""
        return Response(signing_keys.jwks(), headers={"Cache-Control": f"public, max-age={JWKS_AGE_S}"})


def session_answer(session: sessions.Session) -> Response:
    answer = Session(
        access_token=session.access_token,
        expires_in=session.expires_in_s,
        refresh_token=session.refresh_token,
        organization=session.organization_id,
        role=cast(Role, session.role),
    )
    return Response(answer, headers=NO_STORE)


def chosen(found: Sequence[Membership], organization: str | None) -> Membership:
    """The membership to log in for. `organization` is an id; None will do for a member of only one. Raises
    MissingField, with the choices as metadata, for a member of several, and NotFound for an organization that is not
    theirs."""
    if organization is None and len(found) > 1:
        choices = [{"id": str(each.organization_id), "name": each.organization.name} for each in found]
        raise MissingField(
            "organization", "You are a member of several: name one by its id.", {"organizations": choices}
        )
    wanted = as_uuid(organization) if organization is not None else None
    for membership in found:
        if organization is None or membership.organization_id == wanted:
            return membership
    raise NotFound("You are not a member of such an organization.", param="organization")


def address_of(request: Request) -> str:
    meta = request.META
    return client_address(meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", ""), settings.PROXY_COUNT)
