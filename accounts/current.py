"""Which organization a person who is logged in is looking at. A door of this room for pages.

The choice is kept in the session. What is kept there is only a wish: whether one is a member, and as what, is read
anew with every request.
"""

from collections.abc import Sequence
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest

from accounts.models import Membership, User
from common.checks import as_uuid

SESSION_KEY = "organization"
READ = "quantized_memberships"  # the attribute of a request that has read them


def memberships(user: User) -> Sequence[Membership]:
    """The oldest first, each with its organization."""
    return list(user.memberships.select_related("organization").order_by("created_at", "pk"))


def memberships_of_request(request: HttpRequest) -> Sequence[Membership]:
    """Read once for a request, however many of its parts ask; none for a stranger."""
    if isinstance(request.user, AnonymousUser):
        return ()
    found: Sequence[Membership] | None = getattr(request, READ, None)
    if found is None:
        found = memberships(request.user)
        setattr(request, READ, found)
    return found


def current_membership(request: HttpRequest) -> Membership | None:
    """The chosen one, or the oldest: also when one has been removed from what was chosen. One query in a request."""
    found = memberships_of_request(request)
    wanted = as_uuid(request.session.get(SESSION_KEY, "")) if found else None
    return next((each for each in found if each.organization_id == wanted), next(iter(found), None))


def switch(request: HttpRequest, organization_id: UUID) -> Membership:
    """From now on this one. Another tenant's id is not found, whether it exists or not."""
    for membership in memberships_of_request(request):
        if membership.organization_id == organization_id:
            request.session[SESSION_KEY] = str(organization_id)
            return membership
    raise Http404
