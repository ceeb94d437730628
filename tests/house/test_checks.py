import pytest
from django.core.checks import run_checks


def ids(settings, **changes):
    for name, value in changes.items():
        setattr(settings, name, value)
    return [message.id for message in run_checks(tags=["security"])]


def test_the_suites_own_settings_pass(settings):
    assert ids(settings) == []


def test_one_secret_for_two_purposes_is_noticed(settings):
    assert ids(settings, KEY_PEPPER="x" * 50, SECRET_KEY="x" * 50) == ["quantized.W002"]


@pytest.mark.parametrize(
    ("public_url", "allowed", "expected"),
    [
        ("https://api.example.org", ["api.example.org"], []),
        ("https://api.example.org", [".example.org"], []),
        ("https://api.example.org:8443/base", ["*"], []),
        ("http://[::1]:8000", ["[::1]"], []),
        ("https://api.example.org", ["example.org"], ["quantized.W001"]),
        ("https://api.example.org", [], ["quantized.W001"]),
    ],
)
def test_a_public_address_that_would_be_refused_is_noticed(settings, public_url, allowed, expected):
    assert ids(settings, PUBLIC_URL=public_url, ALLOWED_HOSTS=allowed) == expected
