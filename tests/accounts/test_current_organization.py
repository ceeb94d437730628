"""Which organization a page shows: the one in the session, while one is a member of it."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import Http404

from accounts import current
from accounts.models import Membership
from accounts.services import add_member
from tests.kit.tenants import make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def ask(rf):
    """A request by a user with such a session."""

    def made(user, session=()):
        request = rf.get("/")
        request.user, request.session = user, dict(session)
        return request

    return made


def test_it_is_the_oldest_until_one_chooses(ask, django_assert_num_queries):
    cast = make_cast()
    add_member(cast.charlie.organization, cast.bob.user, "viewer")
    request = ask(cast.bob.user)
    with django_assert_num_queries(1):
        membership = current.current_membership(request)
        assert membership.organization.name == "Alice & Co"
        assert current.current_membership(request) is membership
        assert [each.organization.name for each in current.memberships_of_request(request)] == [
            "Alice & Co",
            "Charlie's",
        ]
        current.switch(request, cast.charlie.organization_id)
        assert current.current_membership(request).organization.name == "Charlie's"
    again = ask(cast.bob.user, request.session)
    assert (current.current_membership(again).organization, current.current_membership(again).role) == (
        cast.charlie.organization,
        "viewer",
    )


def test_who_was_removed_from_it_sees_another(ask):
    cast = make_cast()
    add_member(cast.charlie.organization, cast.bob.user, "viewer")
    Membership.objects.filter(user=cast.bob.user, organization=cast.charlie.organization).delete()
    request = ask(cast.bob.user, {"organization": str(cast.charlie.organization_id)})
    assert current.current_membership(request).organization == cast.alice.organization


@pytest.mark.parametrize("kept", ["nonsense", "", "11111111-1111-4111-8111-111111111111"])
def test_whatever_the_session_holds_one_sees_ones_own(ask, kept):
    cast = make_cast()
    assert (
        current.current_membership(ask(cast.alice.user, {"organization": kept})).organization == cast.alice.organization
    )


def test_strangers_and_people_without_one_have_none(ask, django_user_model, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert current.current_membership(ask(AnonymousUser())) is None
    assert current.current_membership(ask(django_user_model.objects.create_user("dora@example.org"))) is None


def test_charlie_does_not_reach_ours(ask):
    cast = make_cast()
    request = ask(cast.charlie.user, {"organization": str(cast.alice.organization_id)})
    assert current.current_membership(request).organization == cast.charlie.organization
    with pytest.raises(Http404):
        current.switch(request, cast.alice.organization_id)
    assert request.session == {"organization": str(cast.alice.organization_id)}
    assert current.current_membership(request).organization == cast.charlie.organization
