"""Who is calling: users, organizations (the tenants), memberships, API keys, and what access tokens stand on.

What must hold is a constraint here, not code: `queryset.update()` and raw SQL meet the same rules.
Writes live in `accounts/services.py`.
"""

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models, transaction
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact

from common.checks import normal_email


class UserManager(BaseUserManager["User"]):
    """Addresses are kept in lower case (a CHECK says so), which makes the plain unique index case-insensitive."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """By an operator, who vouches for the address: it counts as confirmed. People sign up by accounts/sign_ups."""
        with transaction.atomic(using=self._db):
            user = self.model(email=normal_email(email), **fields)
            user.set_password(password)
            user.save(using=self._db)
            vouch(user)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=normal_email(username or ""))


class User(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    objects = UserManager()
    emailaddress_set: Any  # django-allauth's: which addresses are confirmed

    class Meta:
        constraints = (
            models.CheckConstraint(name="accounts_user_email_lower", condition=Exact(F("email"), Lower("email"))),
        )

    def clean(self) -> None:
        self.email = normal_email(self.email)

    def has_confirmed(self, email: str | None = None) -> bool:
        """This address, or any."""
        confirmed = self.emailaddress_set.filter(verified=True)
        return (confirmed if email is None else confirmed.filter(email=email)).exists()


def vouch(user: User) -> None:
    """The user's address is the only one, and confirmed."""
    user.emailaddress_set.exclude(email=user.email).delete()
    user.emailaddress_set.update_or_create(email=user.email, defaults={"verified": True, "primary": True})


class Organization(models.Model):
    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ACTIVE)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="accounts_organization_status", condition=Q(status__in=["active", "suspended"])
            ),
            models.CheckConstraint(name="accounts_organization_name", condition=~Q(name="")),
        )

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        DEVELOPER = "developer"
        BILLING = "billing"
        VIEWER = "viewer"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(name="accounts_membership_once", fields=["user", "organization"]),
            models.CheckConstraint(
                name="accounts_membership_role",
                condition=Q(role__in=["owner", "admin", "developer", "billing", "viewer"]),
            ),
        )

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class Invitation(models.Model):
    """To become a member. The link's secret is mailed and never stored, only its hash; it alone admits nobody: who
    accepts has confirmed the address that was invited. See accounts/team.py."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Membership.Role.choices)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True, editable=False)
    accepted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                name="accounts_invitation_one_open",
                fields=["organization", "email"],
                condition=Q(accepted_at=None, revoked_at=None),
            ),
            models.CheckConstraint(name="accounts_invitation_email_lower", condition=Exact(F("email"), Lower("email"))),
            models.CheckConstraint(
                name="accounts_invitation_role",
                condition=Q(role__in=["owner", "admin", "developer", "billing", "viewer"]),
            ),
            models.CheckConstraint(
                name="accounts_invitation_one_end", condition=Q(accepted_at=None) | Q(revoked_at=None)
            ),
        )

    def __str__(self) -> str:
        return f"{self.email} ({self.role})"


class SignUp(models.Model):
    """What somebody who signed up has asked for. They get it once: when their address is confirmed and they come in.
    Who was made by an operator, or was removed from every organization, has none and gets nothing here."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="sign_up")
    organization_name = models.CharField(max_length=200, blank=True, default="")  # empty: after their address
    invitation = models.ForeignKey(Invitation, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    completed_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.user} {'came in' if self.completed_at else 'has not come in yet'}"


def positive(field: str) -> models.CheckConstraint:
    condition = Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__gt": 0})
    return models.CheckConstraint(name=f"accounts_apikey_{field}", condition=condition)


class ApiKey(models.Model):
    """A credential of an organization. The key itself is shown once and never stored: `digest` is its keyed hash.

    Never deleted, only revoked: usage rows point here for years.
    """

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        TOTAL = "total"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100, blank=True, default="")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    prefix = models.CharField(max_length=16, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    # What the key may do; null is "no limit of its own".
    limit_micro = models.BigIntegerField(null=True, blank=True)
    limit_period = models.CharField(max_length=8, choices=Period.choices, null=True, blank=True)
    requests_per_minute = models.IntegerField(null=True, blank=True)
    tokens_per_minute = models.IntegerField(null=True, blank=True)
    concurrency = models.IntegerField(null=True, blank=True)
    models = models.JSONField(null=True, blank=True)  # the last field: its name hides the module from here on

    class Meta:
        verbose_name = "API key"
        constraints = (
            models.CheckConstraint(
                name="accounts_apikey_limit_with_period",
                condition=Q(limit_micro__isnull=True, limit_period__isnull=True)
                # NULL IN (...) is unknown, which a CHECK lets pass: so both columns are also said to be set.
                | Q(
                    limit_micro__isnull=False,
                    limit_period__isnull=False,
                    limit_period__in=["day", "week", "month", "total"],
                ),
            ),
            models.CheckConstraint(
                name="accounts_apikey_models_list",
                condition=Q(models__isnull=True)
                | Q(Exact(Func(F("models"), function="jsonb_typeof", output_field=models.TextField()), Value("array"))),
            ),
            *map(positive, ("limit_micro", "requests_per_minute", "tokens_per_minute", "concurrency")),
        )

    def __str__(self) -> str:
        return f"{self.name or 'key'} {self.prefix}…{self.last_four}"


class SigningKey(models.Model):
    """Signs access tokens. One is active; a retired one has lost its private half and only verifies, while its last
    tokens live. See accounts/signing_keys.py."""

    class Algorithm(models.TextChoices):
        EDDSA = "EdDSA", "Ed25519"

    kid = models.CharField(max_length=16, primary_key=True)
    algorithm = models.CharField(max_length=8, choices=Algorithm.choices, default=Algorithm.EDDSA)
    public_key = models.CharField(max_length=43)  # a JWK's `x`
    private_key_sealed = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(name="accounts_signingkey_algorithm", condition=Q(algorithm__in=["EdDSA"])),
            models.CheckConstraint(
                name="accounts_signingkey_retired_without_private_half",
                condition=Q(Q(retired_at__isnull=True), ~Q(private_key_sealed=""))
                | Q(retired_at__isnull=False, private_key_sealed=""),
            ),
            models.UniqueConstraint(
                name="accounts_signingkey_one_active", fields=["algorithm"], condition=Q(retired_at=None)
            ),
        )

    def __str__(self) -> str:
        return self.kid


class TokenFamily(models.Model):
    """One log-in by password, and all tokens that came of it. Revoked, none of them works any more.

    Holds no role: that is the membership's, read whenever it matters.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="token_families")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="token_families")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "token families"

    def __str__(self) -> str:
        return f"{self.user} since {self.created_at:%Y-%m-%d %H:%M}"


class RefreshToken(models.Model):
    """Good for one renewal. Kept after its use until it would have expired: who shows it again has stolen it, or was
    stolen from."""

    family = models.ForeignKey(TokenFamily, on_delete=models.CASCADE, related_name="refresh_tokens")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                name="accounts_refreshtoken_one_unused", fields=["family"], condition=Q(used_at=None)
            ),
        )

    def __str__(self) -> str:
        return f"until {self.expires_at:%Y-%m-%d %H:%M}"


class LogInThrottle(models.Model):
    """Failed log-ins of the running window, by e-mail address and by client address; see accounts/throttle.py."""

    subject = models.BinaryField(max_length=32, primary_key=True)
    attempts = models.IntegerField()
    window_started_at = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(name="accounts_loginthrottle_attempts", condition=Q(attempts__gte=0)),)

    def __str__(self) -> str:
        return f"{self.attempts} since {self.window_started_at:%Y-%m-%d %H:%M}"


class AuditEntry(models.Model):
    """Who did what, to whom and why: added by accounts/audit.py, and never changed (migration 0008).

    No foreign keys: it has to outlive whom it names.
    """

    at = models.DateTimeField(db_default=Now(), editable=False)
    actor = models.CharField(max_length=254)  # an e-mail address, or the name of a command or task
    action = models.CharField(max_length=64)  # e.g. "grant", "suspend", "price.change"
    target = models.CharField(max_length=200)  # e.g. "organization 3f2a…", "route 12"
    organization_id = models.UUIDField(null=True, blank=True)
    reason = models.TextField(blank=True, default="")
    details = models.JSONField(default=dict, blank=True)  # figures and names; never a secret, never text of a call

    class Meta:
        verbose_name_plural = "audit log"
        constraints = (
            models.CheckConstraint(
                name="accounts_auditentry_says_who_and_what", condition=~Q(actor="") & ~Q(action="")
            ),
        )
        indexes = (
            models.Index(fields=["-at"], name="audit_by_time"),
            models.Index(fields=["organization_id", "-at"], name="audit_by_organization"),
        )

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"
