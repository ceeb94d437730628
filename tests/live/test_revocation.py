"""A key or token that ended is refused by the async lane within a second, by whatever way it ended."""

import asyncio
import os
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection

from accounts import sessions, signing_keys
from accounts.callers import Forbidden, Unauthenticated
from accounts.models import ApiKey, Membership, TokenFamily, User
from accounts.principals import KEYS_CHANGED, Directory
from accounts.services import issue_key, revoke_key, suspend
from quantized.database import Listener, Reader
from tests.kit.tenants import make_cast, make_tenant


def by_the_service(key):
    revoke_key(key.pk)


def by_update(key):
    ApiKey.objects.filter(pk=key.pk).update(revoked_at="2001-01-01T00:00Z")


def by_suspension(key):
    suspend(key.organization_id)


def database_url():
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


class Lane:
    """The reader, the listener and the directory of one server process."""

    def __init__(self, url):
        self.directory = Directory(settings.KEY_PEPPER, settings.PUBLIC_URL)
        self.reader = Reader(url)
        self.is_listening = asyncio.Event()
        self.listener = Listener(url, self.notified, self.listening)

    async def notified(self, payload):
        if payload == KEYS_CHANGED:
            self.directory.invalidate()

    async def listening(self, is_listening):
        self.directory.listening(is_listening)
        if is_listening:
            self.is_listening.set()

    async def authenticate(self, token):
        return await self.directory.authenticate(f"Bearer {token}", self.reader.fetch_one)


async def is_accepted(lane, token):
    try:
        await lane.authenticate(token)
    except (Unauthenticated, Forbidden):
        return False
    return True


async def is_refused_within_a_second(lane, token):
    for _ in range(90):
        if not await is_accepted(lane, token):
            return True
        await asyncio.sleep(0.01)
    return False


def in_a_thread_of_its_own(end, key):
    try:
        end(key)
    finally:
        connection.close()


@asynccontextmanager
async def running(url):
    lane = Lane(url)
    listening = asyncio.create_task(lane.listener.run())
    try:
        await asyncio.wait_for(lane.is_listening.wait(), 5)
        yield lane
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await lane.reader.close()


async def assert_ends_within_a_second(url, token, end, key):
    async with running(url) as lane:
        assert await is_accepted(lane, token)
        await asyncio.to_thread(in_a_thread_of_its_own, end, key)
        assert await is_refused_within_a_second(lane, token)


@pytest.mark.parametrize("end", [by_the_service, by_update, by_suspension], ids=lambda end: end.__name__)
def test_a_key_that_ended_is_refused_within_a_second(live_db, end):
    cast = make_cast(f"{end.__name__.replace('_', '-')}.example.org")
    key, token = issue_key(cast.alice.organization)
    asyncio.run(assert_ends_within_a_second(database_url(), token, end, key))


# --- Tokens: each way gets the session and its member ---


def revoked(session, member):
    sessions.revoke(session.refresh_token)


def shown_again(session, member):
    sessions.renew(session.refresh_token)
    with pytest.raises(Unauthenticated):
        sessions.renew(session.refresh_token)


def revoked_by_update(session, member):
    TokenFamily.objects.filter(user=member.user).update(revoked_at="2001-01-01T00:00Z")


def forgotten(session, member):
    TokenFamily.objects.filter(user=member.user).delete()


def removed(session, member):
    member.membership.delete()


def moved_to_another_user(session, member):
    stranger = User.objects.create_user(f"other-{member.email}")
    Membership.objects.filter(pk=member.membership.pk).update(user=stranger)


def moved_to_another_organization(session, member):
    Membership.objects.filter(pk=member.membership.pk).update(organization_id=make_tenant(0).organization_id)


def deactivated(session, member):
    User.objects.filter(pk=member.user.pk).update(is_active=False)


def deleted(session, member):
    member.user.delete()


def given_a_new_password(session, member):
    member.user.set_password("another-horse-2")
    member.user.save()


def suspended(session, member):
    suspend(session.organization_id)


def signed_with_a_leaked_key(session, member):
    signing_keys.rotate(is_old_refused=True)


WAYS = [revoked, shown_again, revoked_by_update, forgotten, removed, moved_to_another_user]
WAYS += [moved_to_another_organization, deactivated, deleted, given_a_new_password, suspended, signed_with_a_leaked_key]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_token_that_ended_is_refused_within_a_second(live_db, way):
    member = make_tenant(0).member()
    session = member.begin_session()
    asyncio.run(assert_ends_within_a_second(database_url(), session.access_token, lambda _: way(session, member), None))


def test_a_changed_role_holds_within_a_second(live_db):
    member = make_tenant(0).join()
    token = member.begin_session().access_token

    def change(_):
        Membership.objects.filter(pk=member.membership.pk).update(role="viewer")

    asyncio.run(assert_role_changes_within_a_second(database_url(), token, change))


async def assert_role_changes_within_a_second(url, token, change):
    async with running(url) as lane:
        assert (await lane.authenticate(token)).role == "owner"
        await asyncio.to_thread(in_a_thread_of_its_own, change, None)
        for _ in range(90):
            if (await lane.authenticate(token)).role == "viewer":
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the old role went on")
