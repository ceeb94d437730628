"""What the database refuses, whoever asks."""

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts.models import ApiKey, Membership, Organization, User
from accounts.services import issue_key
from tests.kit.tenants import make_cast

pytestmark = pytest.mark.django_db


def expect_refusal_by(constraint):
    return pytest.raises(IntegrityError, match=constraint)


def test_an_address_is_one_user_whatever_its_case():
    User.objects.create_user("Dora@Example.org", "dora-secret-1")
    assert User.objects.get().email == "dora@example.org"
    with expect_refusal_by("accounts_user_email_key"), transaction.atomic():
        User.objects.create_user("DORA@example.ORG")
    with expect_refusal_by("accounts_user_email_lower"), transaction.atomic():
        User.objects.create(email="Dora@example.org")


def test_people_log_in_with_their_address_in_any_case():
    user = User.objects.create_user("dora@example.org", "dora-secret-1")
    assert authenticate(username="DORA@example.org", password="dora-secret-1") == user
    assert authenticate(username="dora@example.org", password="dora-secret-2") is None


def test_a_superuser_may_enter_the_admin():
    user = User.objects.create_superuser("root@example.org", "root-secret-1")
    assert (user.is_staff, user.is_superuser, user.is_active) == (True, True, True)


def test_a_user_is_a_member_once():
    cast = make_cast()
    with expect_refusal_by("accounts_membership_once"):
        Membership.objects.create(user=cast.bob.user, organization=cast.alice.organization, role="viewer")


def test_roles_and_states_are_those_of_the_contract():
    cast = make_cast()
    assert Membership.Role.values == ["owner", "admin", "developer", "billing", "viewer"]
    with expect_refusal_by("accounts_membership_role"), transaction.atomic():
        Membership.objects.update(role="king")
    with expect_refusal_by("accounts_organization_status"), transaction.atomic():
        Organization.objects.filter(pk=cast.alice.organization_id).update(status="asleep")
    with expect_refusal_by("accounts_organization_name"), transaction.atomic():
        Organization.objects.filter(pk=cast.alice.organization_id).update(name="")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"limit_micro": 1}, "accounts_apikey_limit_with_period"),
        ({"limit_period": "day"}, "accounts_apikey_limit_with_period"),
        ({"limit_micro": 1, "limit_period": "year"}, "accounts_apikey_limit_with_period"),
        ({"limit_micro": 0, "limit_period": "day"}, "accounts_apikey_limit_micro"),
        ({"requests_per_minute": 0}, "accounts_apikey_requests_per_minute"),
        ({"tokens_per_minute": -1}, "accounts_apikey_tokens_per_minute"),
        ({"concurrency": 0}, "accounts_apikey_concurrency"),
        ({"models": {"a": 1}}, "accounts_apikey_models_list"),
        ({"models": "openai/gpt-4.1-mini"}, "accounts_apikey_models_list"),
    ],
)
def test_a_key_with_a_senseless_limit_is_refused(change, constraint):
    issue_key(make_cast().alice.organization)
    with expect_refusal_by(constraint):
        ApiKey.objects.update(**change)


def test_two_keys_never_share_a_digest():
    cast = make_cast()
    key, _ = issue_key(cast.alice.organization)
    other, _ = issue_key(cast.charlie.organization)
    with expect_refusal_by("accounts_apikey_digest"):
        ApiKey.objects.filter(pk=other.pk).update(digest=key.digest)


def test_an_organization_with_keys_cannot_be_deleted():
    cast = make_cast()
    issue_key(cast.alice.organization)
    with pytest.raises(ProtectedError):
        cast.alice.organization.delete()


def test_a_key_outlives_the_member_who_made_it():
    cast = make_cast()
    key, _ = issue_key(cast.alice.organization, created_by=cast.bob.user)
    cast.bob.user.delete()
    key.refresh_from_db()
    assert key.created_by is None
