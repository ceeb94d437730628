"""Everything that is written about who is calling. The door of this room for writers.

Each function checks its input and names the field that is wrong (`Invalid`); the constraints behind it hold for
everybody else. Who may do what to whom is the caller's question.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import keys
from accounts.managers import normal_email
from accounts.models import ApiKey, Membership, Organization, User

BIGINT_MAX = 2**63 - 1
INTEGER_MAX = 2**31 - 1
GENERATED_PASSWORD_BYTES = 15  # 20 characters


class Invalid(ValueError):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Founding(msgspec.Struct, frozen=True):
    """A new organization. `password` is the owner's, told once, when it was generated."""

    organization: Organization
    owner: User
    password: str | None


# --- Users and organizations ----------------------------------------------------------------------


def create_user(email: str, password: str | None = None) -> User:
    """Without a password nobody can log in as this user until one is set."""
    email = checked_email(email)
    if password == "":
        raise Invalid("password", "must not be empty")
    try:
        with transaction.atomic():
            return User.objects.create_user(email, password)
    except IntegrityError:
        raise Invalid("email", f"{email} is already in use") from None


@transaction.atomic
def create_organization(name: str, owner_email: str, password: str | None = None) -> Founding:
    """An owner we know already keeps their password; a new one gets the given or a generated one."""
    organization = Organization.objects.create(name=checked_text("name", name, 200))
    email = checked_email(owner_email)
    owner = User.objects.filter(email=email).first()
    if owner is not None and password is not None:
        raise Invalid("password", f"{email} has one already; leave it out")
    generated = secrets.token_urlsafe(GENERATED_PASSWORD_BYTES) if owner is None and password is None else None
    owner = owner or create_user(email, password or generated)
    add_member(organization, owner, Membership.Role.OWNER)
    return Founding(organization, owner, generated)


def add_member(organization: Organization, user: User, role: str) -> Membership:
    checked_choice("role", role, Membership.Role.values)
    try:
        with transaction.atomic():
            return Membership.objects.create(organization=organization, user=user, role=role)
    except IntegrityError:
        raise Invalid("user", f"{user} is a member already") from None


def suspend(organization_id: UUID) -> Organization:
    """Its keys stop working everywhere within a second; nothing is lost."""
    return set_status(organization_id, Organization.Status.SUSPENDED)


def reactivate(organization_id: UUID) -> Organization:
    return set_status(organization_id, Organization.Status.ACTIVE)


def set_status(organization_id: UUID, status: Organization.Status) -> Organization:
    if not Organization.objects.filter(pk=organization_id).update(status=status):
        raise Invalid("organization", f"there is none with the id {organization_id}")
    return Organization.objects.get(pk=organization_id)


def find_organization(id_or_name: str) -> Organization:
    """By its id, or by its exact name while only one organization bears it."""
    organization_id = as_uuid(id_or_name)
    if organization_id is not None:
        found = list(Organization.objects.filter(pk=organization_id))
    else:
        found = list(Organization.objects.filter(name=id_or_name)[:2])
    if not found:
        raise Invalid("organization", f"there is none called {id_or_name!r}")
    if len(found) > 1:
        raise Invalid("organization", f"several are called {id_or_name!r}; give the id")
    return found[0]


# --- Keys -------------------------------------------------------------------------------------------


def issue_key(
    organization: Organization,
    name: str = "",
    *,
    limit_micro: int | None = None,
    limit_period: str | None = None,
    models: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    concurrency: int | None = None,
    created_by: User | None = None,
) -> tuple[ApiKey, str]:
    """The new key's row, and the key itself, which nobody can read ever again."""
    fields = {
        "name": checked_text("name", name, 100) if name else "",
        **checked_limit(limit_micro, limit_period),
        "models": checked_models(models),
        "expires_at": checked_expiry(expires_at),
        "requests_per_minute": checked_positive("requests_per_minute", requests_per_minute, INTEGER_MAX),
        "tokens_per_minute": checked_positive("tokens_per_minute", tokens_per_minute, INTEGER_MAX),
        "concurrency": checked_positive("concurrency", concurrency, INTEGER_MAX),
        "created_by": created_by,
    }
    plain_key = keys.mint()
    prefix, last_four = keys.display(plain_key)
    digest = keys.digest(plain_key, settings.KEY_PEPPER)
    row = ApiKey.objects.create(organization=organization, digest=digest, prefix=prefix, last_four=last_four, **fields)
    return row, plain_key


def revoke_key(key_id: UUID | str) -> ApiKey:
    """For good. Revoking again changes nothing: the first time stays."""
    found = as_uuid(key_id)
    if found is None or not ApiKey.objects.filter(pk=found).exists():
        raise Invalid("key", f"there is none with the id {key_id}")
    ApiKey.objects.filter(pk=found, revoked_at=None).update(revoked_at=Now())
    return ApiKey.objects.get(pk=found)


# --- What is accepted -------------------------------------------------------------------------------


def checked_email(email: str) -> str:
    email = normal_email(email)
    try:
        validate_email(email)
    except ValidationError:
        raise Invalid("email", f"{email!r} is not an e-mail address") from None
    return email


def checked_text(field: str, text: str, characters_max: int) -> str:
    text = text.strip()
    if not text:
        raise Invalid(field, "must not be empty")
    if len(text) > characters_max:
        raise Invalid(field, f"must have at most {characters_max} characters, not {len(text)}")
    if not text.isprintable():
        raise Invalid(field, "must not contain control characters")
    return text


def checked_choice(field: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise Invalid(field, f"must be one of {', '.join(choices)}, not {value!r}")
    return value


def checked_positive(field: str, value: int | None, most: int) -> int | None:
    if value is not None and not 0 < value <= most:
        raise Invalid(field, f"must be between 1 and {most}, not {value}")
    return value


def checked_limit(limit_micro: int | None, period: str | None) -> dict[str, Any]:
    if limit_micro is not None and period is None:
        raise Invalid("limit_period", "must be given with a limit")
    if period is not None and limit_micro is None:
        raise Invalid("limit", "must be given with a period")
    if period is not None:
        checked_choice("limit_period", period, ApiKey.Period.values)
    return {"limit_micro": checked_positive("limit", limit_micro, BIGINT_MAX), "limit_period": period}


def checked_models(models: Sequence[str] | None) -> list[str] | None:
    """Ids are not looked up: a key may name a model that the catalog gets tomorrow."""
    if models is None:
        return None
    if not models:
        raise Invalid("models", "must name at least one model; leave it out to allow all")
    return list(dict.fromkeys(checked_text("models", model, 200) for model in models))


def checked_expiry(expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        raise Invalid("expires_at", "must have a time zone")
    if expires_at <= datetime.now(UTC):
        raise Invalid("expires_at", f"must be in the future, not {expires_at.isoformat()}")
    return expires_at


def as_uuid(text: UUID | str) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
