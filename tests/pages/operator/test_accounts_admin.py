import pytest
from django.urls import reverse

from accounts.models import ApiKey, Membership, User
from accounts.services import issue_key, revoke_key, suspend
from tests.kit.tenants import make_cast

pytestmark = pytest.mark.django_db


def admin_url(model, view, *args):
    return reverse(f"admin:accounts_{model}_{view}", args=args)


def run_action(client, model, action, *rows):
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(admin_url(model, "changelist"), data, follow=True)


@pytest.mark.parametrize("page", ["user", "organization", "apikey"])
def test_the_lists_show_and_search(admin_client, page):
    cast = make_cast()
    issue_key(cast.alice.organization, "production")
    for query in ("", "alice", str(cast.alice.organization_id)):
        assert admin_client.get(admin_url(page, "changelist"), {"q": query}).status_code == 200


def test_a_key_is_found_again_by_what_people_see_of_it(admin_client):
    cast = make_cast()
    key, _ = issue_key(cast.alice.organization, "the one")
    issue_key(cast.alice.organization, "another")
    for query in (key.prefix, key.last_four, "Alice & Co one"):
        page = admin_client.get(admin_url("apikey", "changelist"), {"q": query}).content.decode()
        assert "the one" in page
        assert "another" not in page


def test_keys_are_filtered_by_state(admin_client):
    cast = make_cast()
    issue_key(cast.alice.organization, "alive")
    issue_key(cast.alice.organization, "late")
    ApiKey.objects.filter(name="late").update(expires_at="2001-01-01T00:00Z")
    revoke_key(issue_key(cast.alice.organization, "dead")[0].pk)
    for state, name in (("active", "alive"), ("expired", "late"), ("revoked", "dead")):
        page = admin_client.get(admin_url("apikey", "changelist"), {"state": state})
        assert [key.name for key in page.context["cl"].result_list] == [name]


def test_a_key_can_be_seen_but_neither_made_changed_nor_deleted(admin_client):
    cast = make_cast()
    key, token = issue_key(cast.alice.organization, "production", models=["a/b"])
    page = admin_client.get(admin_url("apikey", "change", key.pk)).content.decode()
    assert key.last_four in page
    assert token not in page
    assert key.digest.hex() not in page
    admin_client.post(admin_url("apikey", "change", key.pk), {"name": "stolen", "limit_micro": 1})
    key.refresh_from_db()
    assert key.name == "production"
    assert admin_client.get(admin_url("apikey", "add")).status_code == 403
    assert admin_client.post(admin_url("apikey", "delete", key.pk), {"post": "yes"}).status_code == 403
    assert ApiKey.objects.count() == 1


def test_keys_are_revoked_by_an_action(admin_client):
    cast = make_cast()
    key, _ = issue_key(cast.alice.organization)
    other, _ = issue_key(cast.charlie.organization)
    assert "Revoked:" in run_action(admin_client, "apikey", "revoke", key).content.decode()
    key.refresh_from_db()
    other.refresh_from_db()
    assert key.revoked_at is not None
    assert other.revoked_at is None


def test_organizations_are_suspended_and_reactivated_by_actions(admin_client):
    cast = make_cast()
    run_action(admin_client, "organization", "suspend", cast.alice.organization)
    cast.alice.organization.refresh_from_db()
    cast.charlie.organization.refresh_from_db()
    assert (cast.alice.organization.status, cast.charlie.organization.status) == ("suspended", "active")
    run_action(admin_client, "organization", "reactivate", cast.alice.organization)
    cast.alice.organization.refresh_from_db()
    assert cast.alice.organization.status == "active"


def test_an_organization_is_neither_added_nor_deleted_here(admin_client):
    cast = make_cast()
    suspend(cast.alice.organization_id)
    assert admin_client.get(admin_url("organization", "add")).status_code == 403
    assert admin_client.get(admin_url("organization", "delete", cast.alice.organization_id)).status_code == 403


def test_members_are_managed_on_their_organization(admin_client):
    cast = make_cast()
    alice, bob = Membership.objects.filter(organization=cast.alice.organization).order_by("pk")
    data = {"name": "Alice & Bob", "memberships-TOTAL_FORMS": 2, "memberships-INITIAL_FORMS": 2}
    for place, (member, role) in enumerate([(alice, "owner"), (bob, "billing")]):
        data |= {
            f"memberships-{place}-id": member.pk,
            f"memberships-{place}-organization": cast.alice.organization_id,
            f"memberships-{place}-user": member.user_id,
            f"memberships-{place}-role": role,
        }
    assert admin_client.post(admin_url("organization", "change", cast.alice.organization_id), data).status_code == 302
    bob.refresh_from_db()
    cast.alice.organization.refresh_from_db()
    assert (bob.role, cast.alice.organization.name) == ("billing", "Alice & Bob")


def test_a_user_added_here_can_log_in_in_any_case(admin_client, client):
    data = {"email": "Dora@Example.org", "usable_password": "true"}
    data |= {"password1": "dora-secret-1", "password2": "dora-secret-1"}
    assert admin_client.post(admin_url("user", "add"), data).status_code == 302
    assert User.objects.filter(email="dora@example.org").exists()
    assert client.login(username="DORA@example.org", password="dora-secret-1")


def test_an_address_is_added_once(admin_client):
    make_cast()
    data = {"email": "Bob@Example.org", "usable_password": "false"}
    page = admin_client.post(admin_url("user", "add"), data)
    assert page.status_code == 200
    assert "already exists" in page.content.decode()


def test_a_member_has_no_business_in_the_admin(client):
    cast = make_cast()
    client.force_login(cast.alice.user)
    assert client.get(admin_url("apikey", "changelist")).status_code == 302
