"""People who make their own account. A door of this room for writers.

Signing up only writes down what was asked for. The organization is founded, or the invitation accepted, when the
address is confirmed: whoever types a stranger's address gets nothing, and leaves nothing but a row that is swept.
"""

from datetime import timedelta

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from accounts import team
from accounts.models import Invitation, Membership, Organization, SignUp, User
from accounts.services import add_member
from common.checks import Invalid, checked_text

UNCONFIRMED_LIFE = timedelta(days=7)
NAME_CHARACTERS_MAX = 200


class Arrival(msgspec.Struct, frozen=True):
    """A new member; `is_founder`: of an organization that was made for them."""

    membership: Membership
    is_founder: bool


@transaction.atomic
def sign_up(user: User, organization_name: str, invitation: Invitation | None) -> User:
    """Keeps a new user, whose address is not confirmed yet, with what they asked for."""
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        raise Invalid("email", f"{user.email} is already in use") from None
    SignUp.objects.create(user=user, organization_name=organization_name, invitation=invitation)
    return user


@transaction.atomic
def complete(user: User) -> Arrival | None:
    """Once, for somebody who has signed up and whose address is confirmed; None for everybody else."""
    if not user.has_confirmed():
        return None
    # One statement decides: a log-in in a second window founds no second organization.
    if not SignUp.objects.filter(user=user, completed_at=None).update(completed_at=Now()):
        return None
    asked = SignUp.objects.select_related("invitation").get(user=user)
    if asked.invitation is not None:
        return joined(asked.invitation, user) or founded_if_open(asked, user)
    return founded(asked, user)


def joined(invitation: Invitation, user: User) -> Arrival | None:
    try:
        return Arrival(team.admit(invitation, user), is_founder=False)
    except team.Refused:  # revoked or expired in the meantime, or the address was changed before it was confirmed
        return None


def founded_if_open(asked: SignUp, user: User) -> Arrival | None:
    """Nobody gets an organization of their own by an invitation that came to nothing while sign-up is closed."""
    return founded(asked, user) if settings.SIGNUP_OPEN else None


def founded(asked: SignUp, user: User) -> Arrival:
    before_the_at = user.email.partition("@")[0]
    name = asked.organization_name or checked_text("organization_name", before_the_at, NAME_CHARACTERS_MAX)
    organization = Organization.objects.create(name=name)
    return Arrival(add_member(organization, user, Membership.Role.OWNER), is_founder=True)


def forget_unconfirmed() -> None:
    """Who never confirmed their address, so that its owner can sign up. Nothing of value hangs on such a row."""
    late = SignUp.objects.filter(user=OuterRef("pk"), completed_at=None, created_at__lte=Now() - UNCONFIRMED_LIFE)
    unused = User.objects.filter(Exists(late), is_staff=False, last_login=None, memberships=None)
    unused.exclude(emailaddress__verified=True).delete()
