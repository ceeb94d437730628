"""A key that ended is refused by the async lane within a second, by whatever way it ended."""

import asyncio
import os
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection

from accounts.models import ApiKey
from accounts.principals import KEYS_CHANGED, Directory, Forbidden, Unauthenticated
from accounts.services import issue_key, revoke_key, suspend
from quantized.database import Listener, Reader
from tests.cast import make_cast


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


async def story(url, token, end, key):
    lane = Lane(url)
    listening = asyncio.create_task(lane.listener.run())
    try:
        await asyncio.wait_for(lane.is_listening.wait(), 5)
        assert await is_accepted(lane, token)
        await asyncio.to_thread(in_a_thread_of_its_own, end, key)
        assert await is_refused_within_a_second(lane, token)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await lane.reader.close()


@pytest.mark.parametrize("end", [by_the_service, by_update, by_suspension], ids=lambda end: end.__name__)
def test_a_key_that_ended_is_refused_within_a_second(live_db, end):
    cast = make_cast(f"{end.__name__.replace('_', '-')}.example.org")
    key, token = issue_key(cast.organization)
    asyncio.run(story(database_url(), token, end, key))
