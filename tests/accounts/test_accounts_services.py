from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.conf import settings

from accounts import keys
from accounts.models import ApiKey, Membership, Organization, User
from accounts.services import (
    add_member,
    create_organization,
    create_user,
    find_organization,
    issue_key,
    reactivate,
    revoke_key,
    suspend,
)
from common.checks import Invalid
from tests.kit.tenants import make_cast

pytestmark = pytest.mark.django_db

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def test_an_organization_begins_with_an_owner_who_can_log_in():
    founding = create_organization("Acme", "Dora@Example.org")
    assert founding.owner.email == "dora@example.org"
    assert len(founding.password) == 20
    assert founding.owner.check_password(founding.password)
    membership = Membership.objects.get()
    assert (membership.organization, membership.user, membership.role) == (
        founding.organization,
        founding.owner,
        "owner",
    )


def test_a_given_password_is_not_told_back():
    founding = create_organization("Acme", "dora@example.org", "dora-secret-1")
    assert founding.password is None
    assert founding.owner.check_password("dora-secret-1")


def test_an_owner_we_know_keeps_the_password():
    dora = create_user("dora@example.org", "dora-secret-1")
    founding = create_organization("Acme", "dora@example.org")
    dora.refresh_from_db()
    assert (founding.owner, founding.password) == (dora, None)
    assert dora.check_password("dora-secret-1")
    with pytest.raises(Invalid, match=r"password: dora@example\.org has one already"):
        create_organization("Acme 2", "dora@example.org", "other-secret-1")
    assert not Organization.objects.filter(name="Acme 2").exists()


@pytest.mark.parametrize("name", ["", "   ", "a" * 201, "two\nlines", "nul\0"])
def test_an_organization_has_a_decent_name(name):
    with pytest.raises(Invalid, match="name: must"):
        create_organization(name, "dora@example.org")
    assert User.objects.count() == 0


@pytest.mark.parametrize("email", ["", "dora", "dora@", "do ra@example.org", "dora@example.org\n.evil"])
def test_an_owner_has_a_real_address(email):
    with pytest.raises(Invalid, match="is not an e-mail address") as caught:
        create_organization("Acme", email)
    assert caught.value.field == "email"
    assert Organization.objects.count() == 0


def test_an_address_is_taken_once():
    create_user("dora@example.org")
    with pytest.raises(Invalid, match=r"email: dora@example\.org is already in use"):
        create_user("Dora@example.org")


def test_an_empty_password_is_no_password():
    with pytest.raises(Invalid, match="password: must not be empty"):
        create_user("dora@example.org", "")


def test_without_a_password_nobody_logs_in():
    assert not create_user("dora@example.org").has_usable_password()


def test_members_have_a_known_role_and_join_once():
    cast = make_cast()
    with pytest.raises(Invalid, match="role: must be one of owner, admin, developer, billing, viewer, not 'king'"):
        add_member(cast.alice.organization, cast.charlie.user, "king")
    with pytest.raises(Invalid, match=r"user: bob@example\.org is a member already"):
        add_member(cast.alice.organization, cast.bob.user, "viewer")


def test_organizations_are_found_by_id_or_by_an_unambiguous_name():
    cast = make_cast()
    assert find_organization(str(cast.alice.organization_id)) == cast.alice.organization
    assert find_organization("Alice & Co") == cast.alice.organization
    create_organization("Alice & Co", "dora@example.org")
    with pytest.raises(Invalid, match="several are called 'Alice & Co'; give the id"):
        find_organization("Alice & Co")
    with pytest.raises(Invalid, match="organization: there is none called 'alice & co'"):
        find_organization("alice & co")
    with pytest.raises(Invalid, match="there is none called"):
        find_organization(str(uuid4()))


def test_suspension_and_back():
    cast = make_cast()
    assert suspend(cast.alice.organization_id).status == "suspended"
    assert reactivate(cast.alice.organization_id).status == "active"
    with pytest.raises(Invalid, match="organization: there is none with the id"):
        suspend(uuid4())


def test_a_key_is_stored_as_its_digest_only():
    cast = make_cast()
    row, key = issue_key(cast.alice.organization, "production")
    row.refresh_from_db()
    assert keys.well_formed(key)
    assert bytes(row.digest) == keys.digest(key, settings.KEY_PEPPER)
    assert (row.prefix, row.last_four) == (key[:16], key[-4:])
    assert key[16:-4] not in str(ApiKey.objects.values().get())


def test_a_key_has_no_limits_unless_told():
    row, _ = issue_key(make_cast().alice.organization)
    limits = (row.limit_micro, row.limit_period, row.models, row.expires_at)
    assert limits == (None, None, None, None)
    assert (row.requests_per_minute, row.tokens_per_minute, row.concurrency) == (None, None, None)


def test_a_key_keeps_the_limits_it_is_given():
    cast = make_cast()
    row, _ = issue_key(
        cast.alice.organization,
        " nightly ",
        limit_micro=5_000_000,
        limit_period="week",
        models=["a/b", " c/d", "a/b"],
        expires_at=TOMORROW,
        requests_per_minute=60,
        tokens_per_minute=100_000,
        concurrency=4,
        created_by=cast.alice.user,
    )
    row.refresh_from_db()
    assert (row.name, row.limit_micro, row.limit_period, row.models) == ("nightly", 5_000_000, "week", ["a/b", "c/d"])
    assert (row.expires_at, row.requests_per_minute, row.tokens_per_minute) == (TOMORROW, 60, 100_000)
    assert (row.concurrency, row.created_by) == (4, cast.alice.user)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit_micro": 5}, "limit_period: must be given with a limit"),
        ({"limit_period": "day"}, "limit: must be given with a period"),
        (
            {"limit_micro": 5, "limit_period": "year"},
            "limit_period: must be one of day, week, month, total, not 'year'",
        ),
        ({"limit_micro": 0, "limit_period": "day"}, "limit: must be between 1 and 9223372036854775807, not 0"),
        ({"limit_micro": 2**63, "limit_period": "day"}, "limit: must be between 1 and"),
        ({"requests_per_minute": 0}, "requests_per_minute: must be between 1 and 2147483647, not 0"),
        ({"tokens_per_minute": -1}, "tokens_per_minute: must be between"),
        ({"concurrency": 2**31}, "concurrency: must be between"),
        ({"models": []}, "models: must name at least one model"),
        ({"models": ["a/b", ""]}, "models: must not be empty"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at: must be in the future, not 2020-01-01"),
        ({"expires_at": datetime(2999, 1, 1)}, "expires_at: must have a time zone"),
        ({"name": "a" * 101}, "name: must have at most 100 characters, not 101"),
        ({"name": "a\tb"}, "name: must not contain control characters"),
    ],
)
def test_a_wrong_limit_is_named_and_no_key_is_made(wrong, message):
    with pytest.raises(Invalid, match=message):
        issue_key(make_cast().alice.organization, **wrong)
    assert ApiKey.objects.count() == 0


def test_a_key_is_revoked_once():
    row, _ = issue_key(make_cast().alice.organization)
    first = revoke_key(row.pk).revoked_at
    assert first is not None
    assert revoke_key(str(row.pk)).revoked_at == first


@pytest.mark.parametrize("unknown", [pytest.param(UUID(int=7, version=4), id="an id"), "not-an-id"])
def test_a_key_that_is_not_there_cannot_be_revoked(unknown):
    row, _ = issue_key(make_cast().alice.organization)
    with pytest.raises(Invalid, match="key: there is none with the id"):
        revoke_key(unknown)
    row.refresh_from_db()
    assert row.revoked_at is None
