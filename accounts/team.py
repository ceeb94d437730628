"""Who belongs to an organization: invitations, roles, leaving. A door of this room for writers.

Everything here is done by a member (`actor`), whose role is read again under the organization's lock, so that nobody
acts on a role that was taken away in the meantime, and two owners who demote each other cannot both succeed.
Owners and admins manage the team; only an owner touches owners. There is always an owner.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts import keys, mail
from accounts.models import Invitation, Membership, Organization, User
from common.checks import Invalid, checked_choice, checked_email

INVITATION_LIFE = timedelta(days=7)
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 64
OPEN_INVITATIONS_MAX = 100  # each is an e-mail in our name
MANAGING_ROLES = frozenset({Membership.Role.OWNER, Membership.Role.ADMIN})


class Refused(Exception):
    """Cannot be done; the message tells the person why."""


class NotAllowed(Refused):
    """The actor's role does not permit it."""


class LastOwner(Refused):
    """Nobody would be left who may do everything."""


class Missing(Refused):
    """No such member or invitation in the actor's organization."""


class InvitationEnded(Refused):
    """The invitation was accepted, revoked, replaced or has expired."""


class OtherAddress(Refused):
    """It was sent to an address that this user has not confirmed."""


# --- Invitations ----------------------------------------------------------------------------------


def open_invitations(organization: Organization) -> Sequence[Invitation]:
    """The newest first; among them those that have expired and can be sent again."""
    waiting = organization.invitations.filter(accepted_at=None, revoked_at=None)
    return list(waiting.select_related("invited_by").order_by("-created_at", "pk"))


@transaction.atomic
def invite(actor: Membership, email: str, role: str) -> Invitation:
    """Mails a link that is good for a week. An invitation of this address that expired unanswered is replaced.

    Raises Invalid (`email`, `role`), and NotAllowed for a role that the actor may not give."""
    email = checked_email(email)
    checked_choice("role", role, Membership.Role.values)
    actor = locked(actor)
    require_may_give(actor, role)
    if Membership.objects.filter(organization_id=actor.organization_id, user__email=email).exists():
        raise Invalid("email", f"{email} is a member already")
    waiting = Invitation.objects.filter(organization_id=actor.organization_id, accepted_at=None, revoked_at=None)
    waiting.filter(email=email, expires_at__lte=Now()).update(revoked_at=Now())
    if waiting.filter(email=email).exists():
        raise Invalid("email", f"{email} has been invited already; send it again instead")
    if waiting.count() >= OPEN_INVITATIONS_MAX:
        raise Invalid("email", f"{OPEN_INVITATIONS_MAX} invitations are waiting already; revoke some first")
    invitation = Invitation(organization_id=actor.organization_id, email=email, role=role, invited_by_id=actor.user_id)
    return sent(invitation)


@transaction.atomic
def resend(actor: Membership, invitation_id: UUID) -> Invitation:
    """Mails a new link, good for another week; the old link ends. Raises Missing, InvitationEnded or NotAllowed."""
    actor = locked(actor)
    invitation = waiting_invitation(actor, invitation_id)
    require_may_give(actor, invitation.role)
    return sent(invitation)


@transaction.atomic
def revoke(actor: Membership, invitation_id: UUID) -> Invitation:
    actor = locked(actor)
    invitation = waiting_invitation(actor, invitation_id)
    require_may_give(actor, invitation.role)
    invitation.revoked_at = datetime.now(UTC)
    invitation.save(update_fields=["revoked_at"])
    return invitation


def invitation_of(token: str) -> Invitation | None:
    """The invitation that the link of this token can accept now; None if it was used, revoked or replaced, or is
    over."""
    found = Invitation.objects.filter(digest=digest(token), accepted_at=None, revoked_at=None, expires_at__gt=Now())
    return found.select_related("organization", "invited_by").first()


def accept(token: str, user: User) -> Membership:
    """Raises InvitationEnded or OtherAddress. Whoever is a member already stays what they are."""
    invitation = invitation_of(token)
    if invitation is None:
        raise InvitationEnded("This invitation was used, revoked or replaced, or it has expired. Ask for a new one.")
    return admit(invitation, user)


@transaction.atomic
def admit(invitation: Invitation, user: User) -> Membership:
    if not user.has_confirmed(invitation.email):
        raise OtherAddress("This invitation was sent to another e-mail address: log in with that one.")
    lock(invitation.organization_id)
    # One conditional UPDATE decides: of two who accept at once, only the first one finds the invitation usable.
    usable = Invitation.objects.filter(pk=invitation.pk, digest=bytes(invitation.digest), accepted_at=None)
    usable = usable.filter(revoked_at=None, expires_at__gt=Now())
    if not usable.update(accepted_at=Now(), accepted_by=user):
        raise InvitationEnded("This invitation was used, revoked or replaced, or it has expired. Ask for a new one.")
    membership, _ = Membership.objects.get_or_create(
        organization_id=invitation.organization_id, user=user, defaults={"role": invitation.role}
    )
    return membership


# --- Members --------------------------------------------------------------------------------------


def members(organization: Organization) -> Sequence[Membership]:
    """Of every role, with their users, who came first at the top. One query."""
    return list(organization.memberships.select_related("user").order_by("created_at", "pk"))


@transaction.atomic
def change_role(actor: Membership, membership_id: int, role: str) -> Membership:
    """Holds for the next request, and within a second for access tokens."""
    checked_choice("role", role, Membership.Role.values)
    actor = locked(actor)
    membership = member_of(actor, membership_id)
    require_may_give(actor, membership.role)
    require_may_give(actor, role)
    if role != Membership.Role.OWNER:
        require_another_owner(membership)
        revoke_invitations_by(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    return membership


@transaction.atomic
def remove(actor: Membership, membership_id: int) -> None:
    """Their sessions with this organization end; keys that they made are the organization's, and work on."""
    actor = locked(actor)
    membership = member_of(actor, membership_id)
    require_may_give(actor, membership.role)
    end(membership)


@transaction.atomic
def leave(membership: Membership) -> None:
    """Everybody may, but the last owner."""
    end(locked(membership))


# --- The paragraphs -------------------------------------------------------------------------------


def lock(organization_id: UUID) -> None:
    """Changes to one team happen one after the other. Always taken before any row of the team."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)


def locked(actor: Membership) -> Membership:
    """As they are now, with their team locked."""
    lock(actor.organization_id)
    found = Membership.objects.select_related("organization", "user").filter(pk=actor.pk).first()
    if found is None:
        raise NotAllowed("You are no longer a member of this organization.")
    return found


def member_of(actor: Membership, membership_id: int) -> Membership:
    found = Membership.objects.select_related("user").filter(pk=membership_id, organization_id=actor.organization_id)
    membership = found.first()
    if membership is None:
        raise Missing("There is no such member.")
    return membership


def waiting_invitation(actor: Membership, invitation_id: UUID) -> Invitation:
    found = Invitation.objects.filter(pk=invitation_id, organization_id=actor.organization_id)
    invitation = found.first()
    if invitation is None:
        raise Missing("There is no such invitation.")
    if invitation.accepted_at or invitation.revoked_at:
        raise InvitationEnded("This invitation was accepted or revoked already.")
    return invitation


def require_may_give(actor: Membership, role: str) -> None:
    """A role, or what concerns somebody who has it."""
    if actor.role not in MANAGING_ROLES:
        raise NotAllowed("Only owners and admins manage the team.")
    if role == Membership.Role.OWNER and actor.role != Membership.Role.OWNER:
        raise NotAllowed("Only an owner can do this to or for an owner.")


def require_another_owner(membership: Membership) -> None:
    owners = Membership.objects.filter(organization_id=membership.organization_id, role=Membership.Role.OWNER)
    if membership.role == Membership.Role.OWNER and not owners.exclude(pk=membership.pk).exists():
        raise LastOwner("This is the only owner. Make somebody else an owner first.")


def end(membership: Membership) -> None:
    require_another_owner(membership)
    revoke_invitations_by(membership)
    membership.delete()


def revoke_invitations_by(membership: Membership) -> None:
    """Who may no longer invite has invited nobody."""
    waiting = Invitation.objects.filter(organization_id=membership.organization_id, invited_by_id=membership.user_id)
    waiting.filter(accepted_at=None, revoked_at=None).update(revoked_at=Now())


def sent(invitation: Invitation) -> Invitation:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    invitation.digest = digest(token)
    invitation.expires_at = datetime.now(UTC) + INVITATION_LIFE
    invitation.save()
    transaction.on_commit(partial(mail_invitation, invitation, token))
    return invitation


def mail_invitation(invitation: Invitation, token: str) -> None:
    context = {
        "organization": invitation.organization,
        "invited_by": invitation.invited_by,
        "role": invitation.role,
        "days": INVITATION_LIFE.days,
        "link": f"{settings.PUBLIC_URL}/invitations/{token}/",
    }
    mail.send("accounts/email/invitation", invitation.email, context)


def digest(token: str) -> bytes:
    return keys.digest(f"invitation {token[:TOKEN_CHARACTERS_MAX]}", settings.KEY_PEPPER)
