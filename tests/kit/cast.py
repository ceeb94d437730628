"""The cast: alice owns an organization, bob is a member of it, charlie owns another one."""

from typing import NamedTuple

from accounts.models import Membership, Organization, User
from accounts.services import add_member, create_organization, create_user


class Cast(NamedTuple):
    organization: Organization
    alice: User
    bob: User
    others: Organization
    charlie: User


def make_cast(domain: str = "example.org") -> Cast:
    """Tests that commit for real give a domain nobody else has: what they make stays."""
    alice, bob, charlie = [create_user(f"{name}@{domain}") for name in ("alice", "bob", "charlie")]
    ours = create_organization("Alice & Co", alice.email).organization
    theirs = create_organization("Charlie's", charlie.email).organization
    add_member(ours, bob, Membership.Role.DEVELOPER)
    return Cast(ours, alice, bob, theirs, charlie)
