"""Where the admin is, and what it looks like before anybody has logged in."""

import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import get_resolver, reverse

from accounts.models import User
from quantized import settings as quantized_settings
from quantized.asgi import HEALTH
from quantized.devstack.places import CHECKOUT

PROGRAM = """
import django
django.setup()
from django.urls import reverse
print(reverse("admin:index"), reverse("admin:billing_entry_changelist"))
"""


def started_with(path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ADMIN_PATH": path}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_path_is_configurable():
    assert started_with("/back/office/").stdout.split() == ["/back/office/", "/back/office/billing/entry/"]


def test_a_path_that_cannot_be_stops_the_start():
    told = started_with("v1/admin")
    assert told.returncode != 0
    assert "ADMIN_PATH" in told.stderr
    assert "taken" in told.stderr


@pytest.mark.parametrize(("path", "why"), [("v1/admin", "taken"), ("", "must be words"), ("a dmin", "must be words")])
def test_a_path_that_cannot_be_is_named(monkeypatch, path, why):
    monkeypatch.setitem(quantized_settings.env.ENVIRON, "ADMIN_PATH", path)
    with pytest.raises(ImproperlyConfigured, match=f"ADMIN_PATH .*{why}"):
        quantized_settings.path("ADMIN_PATH", "admin")


def test_no_other_address_can_be_shadowed():
    """Every first word of the URL map is taken, but for the admin's own and for files."""
    routes = [str(pattern.pattern) for pattern in get_resolver().url_patterns]
    nested = next(pattern for pattern in get_resolver().url_patterns if getattr(pattern, "app_name", "") == "dashboard")
    routes += [str(pattern.pattern) for pattern in nested.url_patterns]
    words = {route.split("/")[0] for route in [*routes, *(path.lstrip("/") for path in HEALTH)]}
    words = {word for word in words if word and "." not in word and "<" not in word} - {settings.ADMIN_PATH}
    assert words <= settings.TAKEN_PATHS


@pytest.mark.django_db
def test_the_pages_are_ours_and_load_nothing_from_elsewhere():
    client = Client()
    client.force_login(User.objects.create_superuser("dora@example.com", "a long enough password"))
    answer = client.get(reverse("admin:index"))
    page = answer.content.decode()
    assert "/static/quantized/favicon.svg" in page
    assert "/static/quantized/operator.css" in page
    assert 'src="http' not in page
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
