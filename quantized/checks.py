"""What settings.py cannot refuse by looking at one variable alone."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.http.request import validate_host


def secrets_differ(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    if settings.KEY_PEPPER != settings.SECRET_KEY:
        return []
    return [
        Warning(
            "KEY_PEPPER is the same as SECRET_KEY.",
            hint="SECRET_KEY is rotated, KEY_PEPPER is not: changing it ends every API key. Give each its own value.",
            id="quantized.W002",
        )
    ]


def public_host_is_allowed(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    if validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
        return []
    return [
        Warning(
            f"PUBLIC_URL's host {host!r} is not in ALLOWED_HOSTS.",
            hint="Every link that Quantized makes to itself would be answered with 400.",
            id="quantized.W001",
        )
    ]


def mail_is_sent(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """A deployment check: `make run` prints its mails, and that is fine."""
    if settings.EMAIL_URL or settings.DEBUG:
        return []
    return [
        Warning(
            "EMAIL_URL is not set: mails are printed to the worker's log and sent to nobody.",
            hint="Set it to your mail server, e.g. smtp+tls://user:password@mail.example.com:587.",
            id="quantized.W003",
        )
    ]
