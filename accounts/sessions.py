"""Log in, renew, end: how a member gets tokens, and loses them. A door of this room for writers.

A log-in begins a family of tokens. Each renewal uses one refresh token up and gives the next one; a used one that is
shown again ends the family, because two hold what only one should. Whoever calls is looked up anew every time: the
role, the membership, the user and the organization count as they are now, not as they were at the log-in.
"""

import uuid
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from accounts import keys, second_factor, signing_keys, throttle, tokens
from accounts.callers import Forbidden, Unauthenticated
from accounts.models import Membership, Organization, RefreshToken, TokenFamily, User
from accounts.principals import ENDED
from common.checks import normal_email

REFRESH_LIFE = timedelta(days=30)


class Session(msgspec.Struct, frozen=True):
    """The tokens that a member is given. `expires_in_s` is the access token's; only a hash of the refresh token is
    stored."""

    access_token: str
    expires_in_s: int
    refresh_token: str
    organization_id: UUID
    role: str


def log_in(email: str, password: str, code: str | None, address: str) -> User:
    """The same work and the same words for a wrong password, an address nobody has, one that was never confirmed, and
    a user who may not. Only who knows the password learns whether a second factor is asked for. Raises Unauthenticated
    (`invalid_credentials`, `second_factor_required`, `invalid_code`) and TooManyAttempts."""
    throttle.count_attempt(email, address)
    user = authenticate(username=normal_email(email), password=password)
    if not isinstance(user, User) or not user.has_confirmed():
        raise Unauthenticated("invalid_credentials", "No account has this e-mail address and password.")
    if second_factor.has_one(user):
        require_code(user, code, email, address)
    throttle.take_back(email, address)
    update_last_login(User, user)
    return user


def require_code(user: User, code: str | None, email: str, address: str) -> None:
    """A wrong code counts like a wrong password; one that was not given is no guess."""
    if code is None:
        throttle.take_back(email, address)
        raise Unauthenticated(
            "second_factor_required", "This account has a second factor: send its code too, or a recovery code."
        )
    if second_factor.use_code(user, code) is None:
        raise Unauthenticated("invalid_code", "This code is wrong, or it was used already.")


@transaction.atomic
def begin(membership: Membership) -> Session:
    """The first tokens of a new family."""
    return issue(TokenFamily(user_id=membership.user_id, organization_id=membership.organization_id), membership)


@transaction.atomic
def lend(membership: Membership) -> Session:
    """For a member's browser: an access token that nothing renews, and no refresh token. It ends by itself."""
    family = TokenFamily(user_id=membership.user_id, organization_id=membership.organization_id)
    return msgspec.structs.replace(issue(family, membership, timedelta(seconds=tokens.LIFE_S)), refresh_token="")


def renew(refresh_token: str) -> Session:
    """The next two tokens, for a refresh token that is used up by this. Raises Unauthenticated (`invalid_token`,
    `expired_token`), or Forbidden for a suspended organization, whose token stays unused."""
    found = refresh_tokens(refresh_token)
    with transaction.atomic():
        # One conditional UPDATE decides which of two renewals is first. Its condition is of this row alone: after
        # waiting for the other one's lock, PostgreSQL checks the row's new version again, but no other table.
        if found.filter(used_at=None, expires_at__gt=Now()).update(used_at=Now()):
            family = TokenFamily.objects.get(refresh_tokens__in=found)
            return issue(family, living_membership(family))
    raise refusal(found)


def revoke(refresh_token: str) -> None:
    """Whatever its state, its family ends; a token we do not know ends nothing."""
    TokenFamily.objects.filter(refresh_tokens__in=refresh_tokens(refresh_token), revoked_at=None).update(
        revoked_at=Now()
    )


def forget_old() -> None:
    """Delete refresh tokens whose time is over, families without any, and finished windows of failed log-ins."""
    RefreshToken.objects.filter(expires_at__lte=Now()).delete()
    TokenFamily.objects.filter(~Exists(RefreshToken.objects.filter(family=OuterRef("pk")))).delete()
    throttle.forget_old()


# --- The paragraphs ---------------------------------------------------------------------------------


def refresh_tokens(plain: str) -> QuerySet[RefreshToken]:
    """The one of this text, if any; a misshapen one costs no query."""
    if not tokens.refresh_well_formed(plain):
        return RefreshToken.objects.none()
    return RefreshToken.objects.filter(digest=keys.digest(plain, settings.KEY_PEPPER))


def living_membership(family: TokenFamily) -> Membership:
    found = Membership.objects.filter(user_id=family.user_id, organization_id=family.organization_id)
    membership = found.filter(user__is_active=True).select_related("organization").first()
    if family.revoked_at is not None or membership is None:
        raise Unauthenticated("invalid_token", ENDED)
    return membership


def issue(family: TokenFamily, membership: Membership, life: timedelta = REFRESH_LIFE) -> Session:
    if membership.organization.status != Organization.Status.ACTIVE:
        raise Forbidden("organization_suspended", "This organization is suspended.")
    if family._state.adding:
        family.save(force_insert=True)
    plain = tokens.mint_refresh()
    now = datetime.now(UTC)
    digest = keys.digest(plain, settings.KEY_PEPPER)
    RefreshToken.objects.create(family=family, digest=digest, expires_at=now + life)
    access = access_token(family, membership.role, now)
    return Session(access, tokens.LIFE_S, plain, family.organization_id, membership.role)


def access_token(family: TokenFamily, role: str, now: datetime) -> str:
    kid, private_key = signing_keys.active()
    now_s = int(now.timestamp())
    claims = tokens.Claims(
        iss=settings.PUBLIC_URL,
        aud=tokens.AUDIENCE,
        sub=str(family.user_id),
        org=family.organization_id,
        role=role,
        sid=family.pk,
        jti=uuid.uuid4(),
        iat=now_s,
        exp=now_s + tokens.LIFE_S,
    )
    return tokens.sign(claims, kid, private_key)


def refusal(found: QuerySet[RefreshToken]) -> Unauthenticated:
    """Why this refresh token could not be used up. One used before ends its family."""
    token = found.first()
    if token is None:
        return Unauthenticated("invalid_token", "This refresh token was not issued by this server.")
    if token.used_at is None:
        return Unauthenticated("expired_token", "This refresh token has expired: log in again.")
    TokenFamily.objects.filter(pk=token.family_id, revoked_at=None).update(revoked_at=Now())
    return Unauthenticated(
        "invalid_token", "This refresh token was used before, so its session was ended: log in again."
    )
