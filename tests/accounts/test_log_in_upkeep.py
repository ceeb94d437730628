"""Client addresses as they are counted, and what is forgotten of log-ins that are over."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.contrib.sessions.models import Session as BrowserSession
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from accounts import sessions, throttle
from accounts.models import LogInThrottle, RefreshToken, TokenFamily
from accounts.services import create_user
from accounts.tasks import forget_old_tokens
from common.addresses import client_address, client_network
from tests.kit.people import PASSWORD, is_logged_in, log_in
from tests.kit.tenants import make_cast


@pytest.mark.parametrize(
    ("proxies", "forwarded_for", "address"),
    [
        (0, "", "192.0.2.9"),
        (0, "192.0.2.1", "192.0.2.9"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.66, 192.0.2.1", "192.0.2.1"),
        (2, "192.0.2.66, 192.0.2.1, 192.0.2.8", "192.0.2.1"),
        (2, "192.0.2.1", "192.0.2.1"),
        (1, "", "192.0.2.9"),
        (1, " , ,", "192.0.2.9"),
    ],
)
def test_the_address_is_what_our_own_proxies_say(proxies, forwarded_for, address):
    assert client_address("192.0.2.9", forwarded_for, proxies) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_a_network_of_ipv6_is_one_client(address, network):
    assert client_network(address) == network


@pytest.mark.django_db
def test_what_nobody_can_use_any_more_is_forgotten():
    member = make_cast().bob
    living, over = member.begin_session(), member.begin_session()
    half = sessions.renew(living.refresh_token)
    expire(over.refresh_token)
    expire(living.refresh_token)
    throttle.count_attempt("bob@example.org", "192.0.2.1")
    LogInThrottle.objects.filter(subject=min(throttle.limits_of("bob@example.org", "192.0.2.1"))).update(
        window_started_at=timezone.now() - timedelta(seconds=throttle.WINDOW_S + 60)
    )
    for _ in range(2):
        forget_old_tokens()
        assert (TokenFamily.objects.count(), RefreshToken.objects.count()) == (1, 1)
        assert LogInThrottle.objects.count() == 1
    assert sessions.renew(half.refresh_token).role == "developer"


def expire(refresh_token):
    assert sessions.refresh_tokens(refresh_token).update(expires_at=timezone.now() - timedelta(seconds=1)) == 1


@pytest.mark.django_db
def test_counts_and_sessions_that_are_over_are_forgotten():
    cache.set("over", 1, timeout=-1)
    cache.set("counts-still", 1, timeout=60)
    for key, expires_in in (("a" * 32, timedelta(seconds=-1)), ("b" * 32, timedelta(hours=1))):
        BrowserSession.objects.create(session_key=key, session_data="", expire_date=timezone.now() + expires_in)
    forget_old_tokens()
    with connection.cursor() as cursor:
        cursor.execute("SELECT cache_key FROM accounts_cache")
        assert cursor.fetchall() == [(":1:counts-still",)]
    assert list(BrowserSession.objects.values_list("session_key", flat=True)) == ["b" * 32]


@pytest.mark.django_db
def test_who_was_here_before_addresses_were_confirmed_logs_in_as_before(client):
    """The migration, on a user as they were; a second time it changes nothing."""
    migration = import_module("accounts.migrations.0007_confirm_known_addresses")
    dora = create_user("dora@example.org", PASSWORD)
    dora.emailaddress_set.all().delete()
    unconfirmed = create_user("new@example.org", PASSWORD)
    unconfirmed.emailaddress_set.update(verified=False)
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.execute(migration.CONFIRM)
    assert list(dora.emailaddress_set.values_list("email", "verified", "primary")) == [("dora@example.org", True, True)]
    assert not unconfirmed.has_confirmed()
    log_in(client, "dora@example.org")
    assert is_logged_in(client)
