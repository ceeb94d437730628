"""The link in the e-mail: for strangers through sign-up, for others by a button; for one address, once, for a week."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from accounts import team
from accounts.models import Invitation, Membership, Organization, User
from accounts.services import create_user, suspend
from billing.models import Entry
from tests.kit.people import PASSWORD, confirm, is_logged_in, log_in, sign_up, visible

pytestmark = pytest.mark.django_db

LATER = "This invitation has ended"


@pytest.fixture
def credits_micro() -> int:
    return 0


@pytest.fixture
def invite(cast, mailoutbox, django_capture_on_commit_callbacks):
    """Mails an invitation by alice; the path of its link."""

    def act(email="dora@example.org", role="developer", send=None):
        alice = Membership.objects.get(user=cast.alice.user)
        with django_capture_on_commit_callbacks(execute=True):
            if send is None:
                team.invite(alice, email, role)
            else:
                team.resend(alice, send.pk)
        return path_in(mailoutbox[-1])

    return act


def path_in(letter):
    return re.search(r"^http://localhost:8000(/invitations/[\w-]{43}/)$", letter.body, re.MULTILINE)[1]


def members(cast):
    return {each.user.email: each.role for each in team.members(cast.alice.organization)}


def logged_in(email, password=PASSWORD):
    client = Client()
    log_in(client, email, password)
    assert is_logged_in(client)
    return client


def test_the_letter_says_who_invites_whom_to_what(cast, invite, mailoutbox):
    path = invite()
    [letter] = mailoutbox
    assert (letter.to, letter.subject) == (["dora@example.org"], "Join Alice & Co on Quantized")
    assert "alice@example.org invites you to join Alice & Co on Quantized as developer." in letter.body
    [(html, _)] = letter.alternatives
    assert f'<a href="http://localhost:8000{path}"' in html
    assert "Alice &amp; Co" in html
    assert path.split("/")[2].encode() not in bytes(Invitation.objects.get().digest)


def test_a_stranger_signs_up_and_is_a_member(cast, invite, mailoutbox, client, settings):
    settings.SIGNUP_CREDIT_MICRO = 5_000_000
    organizations = Organization.objects.count()
    page = client.get(invite())
    assert "Join Alice &amp; Co" in page.content.decode()
    form = client.get("/accounts/signup/").context["form"]
    assert form["email"].value() == "dora@example.org"
    sign_up(client, "dora@example.org", organization_name="")
    assert "dora@example.org" not in members(cast)
    confirm(client, mailoutbox[-1])
    assert is_logged_in(client)
    assert members(cast)["dora@example.org"] == "developer"
    assert (Organization.objects.count(), Entry.objects.count()) == (organizations, 0)
    assert "Alice &amp; Co" in client.get("/").content.decode()


def test_somebody_with_an_account_accepts_by_a_button(cast, invite, client):
    dora = create_user("dora@example.org", PASSWORD)
    path = invite()
    client.get(path)
    assert log_in(client, dora.email, next=path).headers["location"] == path
    assert "dora@example.org" not in members(cast)
    assert "Join as dora@example.org" in visible(client.get(path))
    assert client.post(path).headers["location"] == "/"
    assert members(cast)["dora@example.org"] == "developer"
    assert client.session["organization"] == str(cast.alice.organization_id)


def test_it_is_good_once(cast, invite):
    path = invite()
    create_user("dora@example.org", PASSWORD)
    client = logged_in("dora@example.org")
    client.post(path)
    team.remove(Membership.objects.get(user=cast.alice.user), Membership.objects.get(user__email="dora@example.org").pk)
    for page in (client.get(path), client.post(path)):
        assert page.status_code == 410
        assert LATER in visible(page)
    assert "dora@example.org" not in members(cast)


@pytest.mark.parametrize("end", ["expired", "revoked", "replaced", "changed"])
def test_an_ended_one_admits_nobody(cast, invite, end):
    path = invite()
    invitation = Invitation.objects.get()
    create_user("dora@example.org", PASSWORD)
    if end == "expired":
        Invitation.objects.update(expires_at=timezone.now())
    elif end == "revoked":
        team.revoke(Membership.objects.get(user=cast.alice.user), invitation.pk)
    elif end == "replaced":
        assert invite(send=invitation) != path
    else:
        path = path[:-4] + ("abc/" if path[-4:] != "abc/" else "abd/")
    page = logged_in("dora@example.org").post(path)
    assert (page.status_code, LATER in visible(page)) == (410, True)
    assert members(cast) == {"alice@example.org": "owner", "bob@example.org": "developer"}


def test_a_link_sent_again_works(cast, invite):
    invite()
    path = invite(send=Invitation.objects.get())
    create_user("dora@example.org", PASSWORD)
    logged_in("dora@example.org").post(path)
    assert members(cast)["dora@example.org"] == "developer"
    assert Invitation.objects.get().accepted_by.email == "dora@example.org"


def test_charlie_cannot_use_an_invitation_to_somebody_else(cast, invite):
    path = invite()
    cast.charlie.user.set_password(PASSWORD)
    cast.charlie.user.save()
    client = logged_in(cast.charlie.user.email)
    page = client.post(path)
    assert page.status_code == 409
    assert "This invitation was sent to another e-mail address: log in with that one." in visible(page)
    assert members(cast) == {"alice@example.org": "owner", "bob@example.org": "developer"}
    assert Invitation.objects.get().accepted_at is None


def test_an_address_that_is_not_confirmed_is_not_the_invited_one(cast, invite):
    path = invite()
    dora = create_user("dora@example.org", PASSWORD)
    dora.emailaddress_set.update(verified=False)
    with pytest.raises(team.OtherAddress):
        team.accept(path.split("/")[2], dora)
    assert Invitation.objects.get().accepted_at is None


def test_who_is_a_member_already_stays_what_they_are(cast, invite):
    path = invite("dora@example.org", "viewer")
    dora = create_user("dora@example.org", PASSWORD)
    Membership.objects.create(user=dora, organization=cast.alice.organization, role="admin")
    logged_in("dora@example.org").post(path)
    assert members(cast)["dora@example.org"] == "admin"


# --- While sign-up is closed ------------------------------------------------------------------------


def test_the_invited_sign_up_while_it_is_closed_for_others(cast, invite, mailoutbox, settings, client):
    settings.SIGNUP_OPEN = False
    client.get(invite())
    page = sign_up(client, "eve@example.org")
    assert "The invitation was sent to another e-mail address." in visible(page)
    assert not User.objects.filter(email="eve@example.org").exists()
    sign_up(client, "dora@example.org")
    confirm(client, mailoutbox[-1])
    assert members(cast)["dora@example.org"] == "developer"


def test_an_invitation_revoked_in_the_meantime_gives_nothing_while_it_is_closed(
    cast, invite, mailoutbox, settings, client
):
    settings.SIGNUP_OPEN = False
    organizations = Organization.objects.count()
    client.get(invite())
    sign_up(client, "dora@example.org")
    team.revoke(Membership.objects.get(user=cast.alice.user), Invitation.objects.get().pk)
    confirm(client, mailoutbox[-1])
    assert is_logged_in(client)
    assert "dora@example.org" not in members(cast)
    assert Organization.objects.count() == organizations


def test_who_signs_up_with_another_address_gets_their_own_organization(cast, invite, mailoutbox, client):
    client.get(invite())
    sign_up(client, "eve@example.org")
    confirm(client, mailoutbox[-1])
    assert "eve@example.org" not in members(cast)
    assert Membership.objects.get(user__email="eve@example.org").organization.name == "eve"


# --- Switching --------------------------------------------------------------------------------------


def test_a_member_of_two_switches_and_stays(cast, client, django_assert_num_queries, rf):
    Membership.objects.create(user=cast.bob.user, organization=cast.charlie.organization, role="viewer")
    client.force_login(cast.bob.user)
    page = client.post(f"/organizations/{cast.charlie.organization_id}/switch")
    assert (page.status_code, page.headers["location"]) == (302, "/")
    assert client.session["organization"] == str(cast.charlie.organization_id)


@pytest.mark.parametrize("whose", ["other", "nobody"])
def test_charlie_switches_to_nothing_of_ours(cast, client, whose):
    client.force_login(cast.charlie.user)
    target = cast.alice.organization_id if whose == "other" else "11111111-1111-4111-8111-111111111111"
    assert client.post(f"/organizations/{target}/switch").status_code == 404
    assert "organization" not in client.session


def test_switching_is_a_post_with_a_token(cast):
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.alice.user)
    assert client.get(f"/organizations/{cast.alice.organization_id}/switch").status_code == 405
    assert client.post(f"/organizations/{cast.alice.organization_id}/switch").status_code == 403


def test_a_suspended_organization_can_be_joined_and_looked_at(cast, invite):
    path = invite()
    suspend(cast.alice.organization_id)
    create_user("dora@example.org", PASSWORD)
    logged_in("dora@example.org").post(path)
    assert members(cast)["dora@example.org"] == "developer"
