"""Look-ups: what one call cost, asked at its provider with `requests`, one connection per pass.

How fast we may ask is one row per provider (`LookupPace`), taken and given under its lock: all workers together
share it, and a provider that says when to come back is not asked before.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import requests
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from urllib3.exceptions import HTTPError

from common import outbound
from completions.catalog import models
from completions.catalog.loader import NoBaseURL, endpoint
from completions.catalog.secrets import SecretUnreadable
from completions.providers import kinds
from completions.providers.record import Generation, Headers, Unreadable
from completions.reconciliation.models import LookupPace

logger = logging.getLogger(__name__)

LOOKUP_TIMEOUT_S = (3.05, 10)
ANSWER_BYTES_MAX = 256 * 1024
PASS_S_MAX = 60.0  # of look-ups in a row; what was claimed and not asked is given back
CLAIM_S = 600  # longer than a pass can take: nobody else looks a claimed call up meanwhile
CALLS_PER_PASS = 1000
PAUSE_S_DEFAULT, PAUSE_S_MAX = 60.0, 3600.0


class LookupFailed(Exception):
    """This provider is not asked any more in this pass; but if it `is_of_the_call`, another one may do better."""

    def __init__(self, message: str, *, is_of_the_call: bool = False) -> None:
        super().__init__(message)
        self.is_of_the_call = is_of_the_call


def askable() -> list[str]:
    """The providers that can be asked for a single call's bill."""
    able = [kind.name for kind in kinds.KINDS.values() if kind.lookup is not None]
    return list(models.Provider.objects.filter(kind__in=able).values_list("name", flat=True))


class Lookups:
    """One provider in one pass. Make it with `lookups`."""

    def __init__(self, session: requests.Session, provider: str) -> None:
        self._session = session
        self.provider = provider
        self._deadline_s = time.monotonic() + PASS_S_MAX

    @property
    def has_time(self) -> bool:
        return time.monotonic() < self._deadline_s

    def ask(self, reference: str) -> Generation | None:
        """What the provider knows of a call; None while it knows nothing."""
        try:
            row = models.Provider.objects.get(name=self.provider)
            kind = kinds.KINDS.get(row.kind)
            if kind is None or kind.lookup is None:
                raise LookupFailed(f"{self.provider}: its kind {row.kind!r} has no look-up")
            base_url, secret = endpoint(row)
            inquiry = kind.lookup.inquiry(reference)
            status, headers, body = self._get(base_url + inquiry.path, inquiry.params, kind.credentials(secret))
        except models.Provider.DoesNotExist as error:
            raise LookupFailed(f"{self.provider}: {type(error).__name__}") from error
        except (SecretUnreadable, NoBaseURL, requests.RequestException, HTTPError, OSError) as error:
            raise LookupFailed(f"{self.provider}: {type(error).__name__}") from error
        if status == 404:
            return None
        if status != 200:
            if status in (429, 503):
                pause(self.provider, retry_after_s(headers.get("retry-after", "")))
            raise LookupFailed(f"{self.provider} answered {status}")
        try:
            return kind.lookup.read(body)
        except Unreadable as error:
            raise LookupFailed(f"{self.provider} sent {error} for {reference}", is_of_the_call=True) from error

    def _get(self, url: str, params: Sequence[tuple[str, str]], credentials: Headers) -> tuple[int, Any, bytes]:
        with self._session.get(
            url,
            params=list(params),
            headers=credentials,
            timeout=LOOKUP_TIMEOUT_S,
            allow_redirects=False,
            stream=True,
        ) as answer:
            return answer.status_code, answer.headers, answer.raw.read(ANSWER_BYTES_MAX, decode_content=True)


@contextmanager
def lookups(provider: str) -> Iterator[Lookups]:
    with outbound.session() as session:
        yield Lookups(session, provider)


def retry_after_s(header: str) -> float:
    """Seconds, as providers say it; a date, or nothing, is a minute."""
    try:
        seconds = float(header)
    except ValueError:
        return PAUSE_S_DEFAULT
    return min(max(seconds, 1.0), PAUSE_S_MAX) if seconds == seconds else PAUSE_S_DEFAULT


# --- how fast -------------------------------------------------------------------------------


class Allowance:
    """A bucket that fills by RECONCILE_PER_MINUTE and holds a minute's worth. `free_at` is when the look-ups taken so
    far are paid off; a minute before now, the bucket is full."""

    def __init__(self, pace: LookupPace, now: datetime) -> None:
        self.free_at = max(pace.free_at, now - timedelta(minutes=1))
        filled = (now - self.free_at) * settings.RECONCILE_PER_MINUTE // timedelta(minutes=1)
        self._filled = 0 if pace.paused_until > now else max(0, filled)

    @property
    def left(self) -> int:
        return min(CALLS_PER_PASS, self._filled)

    @property
    def left_for_settled_calls(self) -> int:
        """A tenth is kept for the sweeper: a backlog of settled calls can wait, credits that are held cannot."""
        return min(CALLS_PER_PASS, max(0, self._filled - settings.RECONCILE_PER_MINUTE // 10))

    def take(self, calls: int) -> None:
        self._filled -= calls
        self.free_at += calls * timedelta(minutes=1) / settings.RECONCILE_PER_MINUTE


@contextmanager
def paced(provider: str) -> Iterator[Allowance]:
    """How many look-ups this provider may be asked now. The pace is locked until the block ends, which shall only
    claim rows, and take from the allowance what it claims."""
    LookupPace.objects.get_or_create(provider=provider)
    with transaction.atomic():
        pace = LookupPace.objects.select_for_update().get(provider=provider)
        allowance = Allowance(pace, timezone.now())
        yield allowance
        LookupPace.objects.filter(provider=provider).update(free_at=allowance.free_at)


def pause(provider: str, seconds: float) -> None:
    """Nobody asks this provider again before."""
    until = timezone.now() + timedelta(seconds=seconds)
    LookupPace.objects.filter(provider=provider, paused_until__lt=until).update(paused_until=until)
    logger.warning("%s wants to be left alone for %.0f s", provider, seconds)
