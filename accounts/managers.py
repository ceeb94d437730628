from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager
from django.db import transaction

from common.checks import normal_email

if TYPE_CHECKING:
    from accounts.models import User


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


def vouch(user: "User") -> None:
    """The user's address is the only one, and confirmed."""
    user.emailaddress_set.exclude(email=user.email).delete()
    user.emailaddress_set.update_or_create(email=user.email, defaults={"verified": True, "primary": True})
