"""Client addresses as they are counted, and what is forgotten of log-ins that are over."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import sessions, throttle
from accounts.addresses import client_address, client_network
from accounts.models import LogInThrottle, RefreshToken, TokenFamily
from accounts.tasks import forget_old_tokens
from tests.cast import make_cast
from tests.members import new_member, session_of


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
    member = new_member(make_cast().organization.pk)
    living, over = session_of(member), session_of(member)
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
