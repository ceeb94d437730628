"""The team page: invitations, roles, leaving; who may do what to whom, and who may not."""

from uuid import uuid4

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import team
from accounts.models import Invitation, Membership, User
from quantized.dashboard.team import ROLES
from tests.kit.dashboard import text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

HANNAH = "hannah@example.org"


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


def membership(email: str) -> Membership:
    return Membership.objects.get(user__email=email)


def roles() -> dict[str, str]:
    return dict(Membership.objects.values_list("user__email", "role"))


def invited(alice: Tenant, role: str = "viewer", email: str = HANNAH) -> Invitation:
    return team.invite(Membership.objects.get(organization_id=alice.organization_id, role="owner"), email, role)


def test_every_role_is_explained():
    assert [role for role, _ in ROLES] == Membership.Role.values


# --- Invitations ------------------------------------------------------------------------------------


def test_an_invitation_is_mailed_and_listed(owner: Client, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        page = owner.post("/team/invite", {"email": "Hannah@Example.org", "role": "billing"}, follow=True)
    assert "An invitation is on its way to hannah@example.org." in text(page)
    assert "hannah@example.org billing just now by alice@example.org ends in" in text(page)
    assert [letter.to for letter in mail.outbox] == [[HANNAH]]


@pytest.mark.parametrize(
    ("email", "says"),
    [
        ("", "This field is required."),
        ("nobody", "Enter a valid email address."),
        ("alice@example.org", "Alice@example.org is a member already."),
        ("twice@example.org", "Twice@example.org has been invited already; send it again instead."),
    ],
)
def test_what_cannot_be_invited_is_told_beside_the_field(email: str, says: str, alice: Tenant, owner: Client):
    invited(alice, email="twice@example.org")
    page = owner.post("/team/invite", {"email": email, "role": "developer"})
    assert page.status_code == 422
    assert says in text(page)
    assert 'aria-invalid="true"' in page.content.decode()
    assert Invitation.objects.count() == 1


def test_an_invitation_is_sent_again_and_revoked(alice: Tenant, owner: Client, django_capture_on_commit_callbacks):
    invitation = invited(alice)
    with django_capture_on_commit_callbacks(execute=True):
        page = owner.post(f"/team/invitations/{invitation.pk}/resend", follow=True)
    assert "A new link is on its way to hannah@example.org." in text(page)
    assert len(mail.outbox) == 1
    page = owner.post(f"/team/invitations/{invitation.pk}/revoke", follow=True)
    assert "The invitation of hannah@example.org is revoked" in text(page)
    assert Invitation.objects.get().revoked_at is not None
    page = owner.post(f"/team/invitations/{invitation.pk}/resend", follow=True)
    assert "This invitation was accepted or revoked already." in text(page)


# --- Members ----------------------------------------------------------------------------------------


def test_a_role_is_changed(alice: Tenant, owner: Client):
    alice.member("viewer", "bob@example.org")
    bob = membership("bob@example.org")
    assert "Change role bob@example.org" in text(owner.get(f"/team/{bob.pk}"))
    page = owner.post(f"/team/{bob.pk}", {"role": "admin"}, follow=True)
    assert "bob@example.org is admin now." in text(page)
    assert roles()["bob@example.org"] == "admin"
    assert "Choose one of these." in text(owner.post(f"/team/{bob.pk}", {"role": "emperor"}))
    assert roles()["bob@example.org"] == "admin"


def test_a_member_is_removed_after_one_question(alice: Tenant, owner: Client):
    bob_browser = alice.member("developer", "bob@example.org").client
    bob = membership("bob@example.org")
    assert "Remove bob@example.org?" in text(owner.get(f"/team/{bob.pk}/remove"))
    assert roles()["bob@example.org"] == "developer"
    page = owner.post(f"/team/{bob.pk}/remove", follow=True)
    assert "bob@example.org is no longer a member." in text(page)
    assert "You belong to no organization yet" in text(bob_browser.get("/team"))


def test_the_last_owner_stays_one(alice: Tenant, owner: Client):
    me = membership("alice@example.org")
    for address, data in ((f"/team/{me.pk}", {"role": "viewer"}), (f"/team/{me.pk}/remove", {}), ("/team/leave", {})):
        page = owner.post(address, data)
        assert page.status_code == 422
        assert "This is the only owner. Make somebody else an owner first." in text(page)
    assert roles() == {"alice@example.org": "owner"}


def test_everybody_else_leaves_when_they_like(alice: Tenant, owner: Client):
    bob = alice.member("viewer", "bob@example.org").client
    assert "Leave Alice &amp; Co" in text(bob.get("/team/leave"))
    page = bob.post("/team/leave", follow=True)
    assert "You belong to no organization yet" in text(page)
    assert roles() == {"alice@example.org": "owner"}


# --- Who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_others_see_the_team_and_cannot_change_it(role: str, alice: Tenant, owner: Client):
    invitation = invited(alice)
    member = alice.member(role, "bob@example.org").client
    before = (roles(), list(Invitation.objects.values()))
    page = text(member.get("/team"))
    assert "alice@example.org" in page
    for offered in ("Send the invitation", "Change role", "Remove", "Revoke", "Send again"):
        assert offered not in page
    me = membership("bob@example.org").pk
    for address, data in (
        ("/team/invite", {"email": "x@example.org", "role": "viewer"}),
        (f"/team/invitations/{invitation.pk}/resend", {}),
        (f"/team/invitations/{invitation.pk}/revoke", {}),
        (f"/team/{me}", {"role": "owner"}),
        (f"/team/{me}/remove", {}),
    ):
        assert member.post(address, data).status_code == 403
    assert (roles(), list(Invitation.objects.values())) == before


def test_an_admin_leaves_owners_alone_and_makes_none(alice: Tenant, owner: Client):
    invitation = invited(alice, "owner")
    admin = alice.member("admin", "adam@example.org").client
    boss, adam = membership("alice@example.org").pk, membership("adam@example.org").pk
    before = (roles(), list(Invitation.objects.values()))
    page = admin.get("/team").content.decode()
    assert f'href="/team/{boss}"' not in page
    assert f"/team/invitations/{invitation.pk}/revoke" not in page
    assert '<option value="owner"' not in page
    for address, data, status in (
        ("/team/invite", {"email": "x@example.org", "role": "owner"}, 422),
        (f"/team/invitations/{invitation.pk}/resend", {}, 403),
        (f"/team/invitations/{invitation.pk}/revoke", {}, 403),
        (f"/team/{boss}", {"role": "viewer"}, 403),
        (f"/team/{boss}/remove", {}, 403),
        (f"/team/{adam}", {"role": "owner"}, 403),
    ):
        assert admin.post(address, data).status_code == status, address
    assert (roles(), list(Invitation.objects.values())) == before


def test_charlie_finds_nobody_of_ours_and_changes_nothing(alice: Tenant, owner: Client, client: Client):
    invitation = invited(alice)
    alice.member("viewer", "bob@example.org")
    charlie = Tenant(5, email="charlie@example.org").client
    before = (roles(), list(Invitation.objects.values()))
    bob = membership("bob@example.org").pk
    for address in (
        f"/team/{bob}",
        f"/team/{bob}/remove",
        f"/team/{10**30}",
        f"/team/invitations/{invitation.pk}/resend",
        f"/team/invitations/{invitation.pk}/revoke",
        f"/team/invitations/{uuid4()}/revoke",
    ):
        assert charlie.post(address, {"role": "viewer"}).status_code == 404
        assert client.post(address).headers["location"] == f"/accounts/login/?next={address}"
    page = charlie.get("/team").content.decode()
    assert HANNAH not in page
    assert "bob@example.org" not in page
    assert (roles(), list(Invitation.objects.values())) == before


def test_thirty_members_and_invitations_cost_the_queries_of_one(alice: Tenant, owner: Client):
    invited(alice)
    owner.get("/team")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert owner.get("/team").status_code == 200
        return len(captured)

    before = queries()
    for number in range(30):
        alice.member("viewer", f"member-{number}@example.org")
        invited(alice, email=f"invited-{number}@example.org")
    assert User.objects.count() >= 31
    assert queries() == before <= 10
