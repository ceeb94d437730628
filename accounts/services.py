"""Everything that is written about who is calling. The door of this room for writers.

Each function checks its input and names the field that is wrong (`Invalid`); the constraints behind it hold for
everybody else. Who may do what to whom is the caller's question.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import keys
from accounts.models import ApiKey, Membership, Organization, User
from common.checks import (
    Invalid,
    as_uuid,
    checked_choice,
    checked_email,
    checked_expiry,
    checked_positive,
    checked_text,
)
from common.numbers import BIGINT_MAX, INTEGER_MAX

RATE_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrency")
GENERATED_PASSWORD_BYTES = 15  # 20 characters


class Missing(Invalid):
    """A field that is required because another one is given."""


class KeyEnded(Invalid):
    """A key that was revoked, or has expired."""


class NewOrganization(msgspec.Struct, frozen=True):
    """A new organization. `password` is the owner's, told once, when it was generated."""

    organization: Organization
    owner: User
    password: str | None


# --- Users and organizations ----------------------------------------------------------------------


def create_user(email: str, password: str | None = None) -> User:
    """Whoever runs this vouches for the address. Without a password nobody can log in until one is set. Raises Invalid
    (`email`, `password`)."""
    email = checked_email(email)
    if password == "":
        raise Invalid("password", "must not be empty")
    try:
        with transaction.atomic():
            return User.objects.create_user(email, password)
    except IntegrityError:
        raise Invalid("email", f"{email} is already in use") from None


@transaction.atomic
def create_organization(name: str, owner_email: str, password: str | None = None) -> NewOrganization:
    """An owner we know already keeps their password; a new one gets the given or a generated one. Raises Invalid
    (`name`, `email`, `password`)."""
    organization = Organization.objects.create(name=checked_text("name", name, 200))
    email = checked_email(owner_email)
    owner = User.objects.filter(email=email).first()
    if owner is not None and password is not None:
        raise Invalid("password", f"{email} has one already; leave it out")
    generated = secrets.token_urlsafe(GENERATED_PASSWORD_BYTES) if owner is None and password is None else None
    owner = owner or create_user(email, password or generated)
    add_member(organization, owner, Membership.Role.OWNER)
    return NewOrganization(organization, owner, generated)


def add_member(organization: Organization, user: User, role: str) -> Membership:
    """`role` is one of Membership.Role. Raises Invalid for another (`role`), or for a member of today's (`user`)."""
    checked_choice("role", role, Membership.Role.values)
    try:
        with transaction.atomic():
            return Membership.objects.create(organization=organization, user=user, role=role)
    except IntegrityError:
        raise Invalid("user", f"{user} is a member already") from None


def suspend(organization_id: UUID) -> Organization:
    """Its keys stop working everywhere within a second; nothing is lost. Raises Invalid (`organization`)."""
    return set_status(organization_id, Organization.Status.SUSPENDED)


def reactivate(organization_id: UUID) -> Organization:
    return set_status(organization_id, Organization.Status.ACTIVE)


def set_status(organization_id: UUID, status: Organization.Status) -> Organization:
    if not Organization.objects.filter(pk=organization_id).update(status=status):
        raise Invalid("organization", f"there is none with the id {organization_id}")
    return Organization.objects.get(pk=organization_id)


def rename_organization(organization_id: UUID, name: str) -> Organization:
    if not Organization.objects.filter(pk=organization_id).update(name=checked_text("name", name, 200)):
        raise Invalid("organization", f"there is none with the id {organization_id}")
    return Organization.objects.get(pk=organization_id)


def find_organization(id_or_name: str) -> Organization:
    """By its id, or by its exact name while only one organization bears it. Raises Invalid (`organization`)."""
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
    """The new key's row, and the key itself, which nobody can read ever again. `limit_micro` is in micro-credits for
    each `limit_period` ("day", "week", "month", "total"); `concurrency` is calls at the same time; None: no limit, no
    end.

    Raises Missing for a limit without a period or the other way round, Invalid for any other value, by its name."""
    checked = checked_settings(
        {
            "name": name,
            "limit_micro": limit_micro,
            "limit_period": limit_period,
            "models": models,
            "expires_at": expires_at,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "concurrency": concurrency,
        }
    )
    return store_new_key(organization.pk, created_by, checked)


def store_new_key(organization_id: UUID, created_by: User | None, checked: Mapping[str, Any]) -> tuple[ApiKey, str]:
    plain_key = keys.mint()
    prefix, last_four = keys.display(plain_key)
    row = ApiKey.objects.create(
        organization_id=organization_id,
        created_by=created_by,
        digest=keys.digest(plain_key, settings.KEY_PEPPER),
        prefix=prefix,
        last_four=last_four,
        **checked,
    )
    return row, plain_key


@transaction.atomic
def change_key(key_id: UUID, changes: Mapping[str, Any]) -> ApiKey:
    """Only what is named in `changes` changes, by the names and rules of `issue_key`; a limit of None ends its period
    too. Holds everywhere within a second. Raises Missing or Invalid, and ApiKey.DoesNotExist."""
    key = ApiKey.objects.select_for_update(no_key=True).get(pk=key_id)
    if "limit_micro" in changes or "limit_period" in changes:
        period = key.limit_period if changes.get("limit_micro", key.limit_micro) is not None else None
        changes = {"limit_micro": key.limit_micro, "limit_period": period} | dict(changes)
    checked = checked_settings(changes)
    for name, value in checked.items():
        setattr(key, name, value)
    if checked:
        key.save(update_fields=list(checked))
    return key


@transaction.atomic
def rotate_key(key_id: UUID, overlap: timedelta, created_by: User | None = None) -> tuple[ApiKey, str]:
    """A new key with the old one's settings; the old one works on for the overlap, or less if it ends earlier.

    The new key's spend windows begin at zero: what a key has spent stays with that key. Raises KeyEnded for a key that
    was revoked or has expired, and ApiKey.DoesNotExist.
    """
    old = ApiKey.objects.select_for_update(no_key=True).get(pk=key_id)
    now = datetime.now(UTC)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise KeyEnded("key", "has ended and cannot be rotated: issue a new one")
    inherited = {name: getattr(old, name) for name in KEY_SETTINGS}
    ends_at = now + overlap
    old.expires_at = ends_at if old.expires_at is None else min(old.expires_at, ends_at)
    old.save(update_fields=["expires_at"])
    return store_new_key(old.organization_id, created_by, inherited)


def revoke_key(key_id: UUID | str) -> ApiKey:
    """For good, everywhere within a second. Revoking again changes nothing: the first time stays. Raises Invalid
    (`key`)."""
    found = as_uuid(key_id)
    if found is None or not ApiKey.objects.filter(pk=found).exists():
        raise Invalid("key", f"there is none with the id {key_id}")
    ApiKey.objects.filter(pk=found, revoked_at=None).update(revoked_at=Now())
    return ApiKey.objects.get(pk=found)


def require_both(limit_micro: int | None, period: str | None) -> None:
    if limit_micro is not None and period is None:
        raise Missing("limit_period", "must be given with a limit")
    if period is not None and limit_micro is None:
        raise Missing("limit", "must be given with a period")


def checked_models(models: Sequence[str] | None) -> list[str] | None:
    """Ids are not looked up: a key may name a model that the catalog gets tomorrow."""
    if models is None:
        return None
    if not models:
        raise Invalid("models", "must name at least one model; leave it out to allow all")
    return list(dict.fromkeys(checked_text("models", model, 200) for model in models))


KEY_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "name": lambda name: checked_text("name", name, 100) if name else "",
    "limit_micro": partial(checked_positive, "limit", most=BIGINT_MAX),
    "limit_period": lambda period: period and checked_choice("limit_period", period, ApiKey.Period.values),
    "models": checked_models,
    "expires_at": checked_expiry,
    **{name: partial(checked_positive, name, most=INTEGER_MAX) for name in RATE_LIMITS},
}


def checked_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a key is told, each by its own rule. A limit and its period are given together or not at all."""
    if "limit_micro" in given or "limit_period" in given:
        require_both(given.get("limit_micro"), given.get("limit_period"))
    return {name: KEY_SETTINGS[name](value) for name, value in given.items()}
