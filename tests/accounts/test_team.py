"""Who may change a team, and how: roles, leaving, the last owner, and two at the same moment."""

from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection
from django.utils import timezone

from accounts import team
from accounts.models import Invitation, Membership
from accounts.services import add_member, create_user
from common.checks import Invalid
from tests.kit.tenants import make_cast


def of(user, organization):
    return Membership.objects.select_related("organization", "user").get(user=user, organization=organization)


@pytest.fixture
def credits_micro() -> int:
    return 0


@pytest.fixture
def owner(cast):
    return cast.alice.membership


@pytest.fixture
def developer(cast):
    return cast.bob.membership


def roles(organization):
    return {each.user.email.split("@")[0]: each.role for each in team.members(organization)}


def adam(cast):
    """An admin."""
    return add_member(cast.alice.organization, create_user("adam@example.org"), "admin")


# --- Roles ------------------------------------------------------------------------------------------


def test_an_owner_changes_roles(cast, owner, developer):
    assert team.change_role(owner, developer.pk, "billing").role == "billing"
    assert roles(cast.alice.organization) == {"alice": "owner", "bob": "billing"}


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_others_manage_nobody(cast, owner, developer, role):
    team.change_role(owner, developer.pk, role)
    eve = add_member(cast.alice.organization, create_user("eve@example.org"), "viewer")
    invitation = team.invite(owner, "dora@example.org", "viewer")
    for act in (
        lambda: team.invite(developer, "x@example.org", "viewer"),
        lambda: team.resend(developer, invitation.pk),
        lambda: team.revoke(developer, invitation.pk),
        lambda: team.change_role(developer, eve.pk, "developer"),
        lambda: team.remove(developer, eve.pk),
    ):
        with pytest.raises(team.NotAllowed, match=r"Only owners and admins manage the team."):
            act()
    assert roles(cast.alice.organization) == {"alice": "owner", "bob": role, "eve": "viewer"}
    assert [each.email for each in team.open_invitations(cast.alice.organization)] == ["dora@example.org"]


def test_an_admin_manages_all_but_owners(cast, owner, developer):
    admin = adam(cast)
    team.change_role(admin, developer.pk, "admin")
    team.invite(admin, "dora@example.org", "admin")
    owners = team.invite(owner, "olga@example.org", "owner")
    for act in (
        lambda: team.invite(admin, "x@example.org", "owner"),
        lambda: team.revoke(admin, owners.pk),
        lambda: team.resend(admin, owners.pk),
        lambda: team.change_role(admin, developer.pk, "owner"),
        lambda: team.change_role(admin, owner.pk, "viewer"),
        lambda: team.remove(admin, owner.pk),
    ):
        with pytest.raises(team.NotAllowed, match=r"Only an owner"):
            act()
    assert roles(cast.alice.organization) == {"alice": "owner", "adam": "admin", "bob": "admin"}
    assert len(team.open_invitations(cast.alice.organization)) == 2


def test_a_role_that_is_none_is_named(cast, owner, developer):
    with pytest.raises(Invalid, match=r"role: must be one of owner, admin, developer, billing, viewer, not 'king'"):
        team.change_role(owner, developer.pk, "king")
    with pytest.raises(Invalid, match=r"role: must be one of"):
        team.invite(owner, "dora@example.org", "king")


def test_there_is_always_an_owner(cast, owner, developer):
    for act in (
        lambda: team.change_role(owner, owner.pk, "admin"),
        lambda: team.remove(owner, owner.pk),
        lambda: team.leave(owner),
    ):
        with pytest.raises(team.LastOwner, match=r"Make somebody else an owner first."):
            act()
    team.change_role(owner, developer.pk, "owner")
    team.leave(owner)
    assert roles(cast.alice.organization) == {"bob": "owner"}


def test_a_member_leaves(cast, developer):
    team.leave(developer)
    assert roles(cast.alice.organization) == {"alice": "owner"}
    with pytest.raises(team.NotAllowed, match=r"You are no longer a member"):
        team.leave(developer)


def test_what_counts_is_the_role_of_now(cast, owner, developer):
    """The page was opened while developer was an admin."""
    team.change_role(owner, developer.pk, "admin")
    stale = cast.bob.membership
    team.change_role(owner, developer.pk, "viewer")
    with pytest.raises(team.NotAllowed):
        team.invite(stale, "dora@example.org", "viewer")
    assert not Invitation.objects.exists()


def test_charlie_touches_nothing_of_ours(cast, owner, developer):
    charlie = cast.charlie.membership
    invitation = team.invite(owner, "dora@example.org", "viewer")
    for act in (
        lambda: team.change_role(charlie, developer.pk, "owner"),
        lambda: team.remove(charlie, developer.pk),
        lambda: team.resend(charlie, invitation.pk),
        lambda: team.revoke(charlie, invitation.pk),
    ):
        with pytest.raises(team.Missing):
            act()
    assert roles(cast.alice.organization) == {"alice": "owner", "bob": "developer"}
    assert [each.pk for each in team.open_invitations(cast.alice.organization)] == [invitation.pk]
    assert team.open_invitations(cast.charlie.organization) == []


# --- Invitations ------------------------------------------------------------------------------------


def test_an_invitation_is_for_somebody_new_and_once(cast, owner):
    team.invite(owner, "Dora@Example.org", "viewer")
    with pytest.raises(Invalid, match=r"email: dora@example.org has been invited already; send it again instead"):
        team.invite(owner, "dora@example.org", "admin")
    with pytest.raises(Invalid, match=r"email: bob@example.org is a member already"):
        team.invite(owner, "bob@example.org", "viewer")
    with pytest.raises(Invalid, match=r"is not an e-mail address"):
        team.invite(owner, "nonsense", "viewer")
    assert Invitation.objects.count() == 1


def test_an_expired_one_makes_place_for_another(cast, owner):
    old = team.invite(owner, "dora@example.org", "viewer")
    Invitation.objects.update(expires_at=timezone.now())
    new = team.invite(owner, "dora@example.org", "admin")
    assert [each.pk for each in team.open_invitations(cast.alice.organization)] == [new.pk]
    old.refresh_from_db()
    assert old.revoked_at is not None


def test_who_may_no_longer_invite_has_invited_nobody(cast, owner, developer):
    for demote in (lambda: team.change_role(owner, developer.pk, "viewer"), lambda: team.remove(owner, developer.pk)):
        team.change_role(owner, developer.pk, "admin")
        team.invite(developer, "dora@example.org", "admin")
        demote()
        assert team.open_invitations(cast.alice.organization) == []


def test_there_are_so_many_open_ones_and_no_more(cast, owner, monkeypatch):
    monkeypatch.setattr(team, "OPEN_INVITATIONS_MAX", 2)
    team.invite(owner, "one@example.org", "viewer")
    team.invite(owner, "two@example.org", "viewer")
    with pytest.raises(Invalid, match=r"2 invitations are waiting already"):
        team.invite(owner, "three@example.org", "viewer")
    assert len(team.open_invitations(cast.alice.organization)) == 2


def test_a_list_of_invitations_and_members_costs_the_same_for_any_number(cast, owner, django_assert_num_queries):
    for number in range(5):
        team.invite(owner, f"{number}@example.org", "viewer")
    with django_assert_num_queries(2):
        assert [each.invited_by.email for each in team.open_invitations(cast.alice.organization)] == [
            cast.alice.user.email
        ] * 5
        assert [each.user.email for each in team.members(cast.alice.organization)] == [
            cast.alice.user.email,
            cast.bob.user.email,
        ]


def test_of_two_owners_who_demote_each_other_one_stays(live_db):
    cast = make_cast("demote.example")
    owner, developer = cast.alice.membership, cast.bob.membership
    team.change_role(owner, developer.pk, "owner")
    barrier, refused = Barrier(2), []

    def demote(actor, other):
        barrier.wait()
        try:
            team.change_role(actor, other.pk, "viewer")
        except team.Refused as error:
            refused.append(type(error))
        finally:
            connection.close()

    threads = [Thread(target=demote, args=pair) for pair in ((owner, developer), (developer, owner))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [team.NotAllowed]
    assert sorted(roles(cast.alice.organization).values()) == ["owner", "viewer"]


def test_an_open_invitation_lives_a_week(cast, owner):
    invitation = team.invite(owner, "dora@example.org", "viewer")
    assert abs(invitation.expires_at - timezone.now() - timedelta(days=7)) < timedelta(minutes=1)
