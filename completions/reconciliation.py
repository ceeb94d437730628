"""Reconciliation: what a provider finally billed for a call against what we charged for it.

OpenRouter knows the cost of every generation, a little after it ended. A pass looks up the calls
that are due, a bounded number of them. What the tenant paid too much is refunded at once as a
`correction` entry; what is missing waits in the operator's queue (`reconciliation = queued`). Entries
are keyed by the call, so a pass may run twice or side by side. Synchronous: for Celery and commands.
"""

import json
import logging
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import requests
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from urllib3.exceptions import HTTPError

from billing import ledger, money
from billing.models import Usage
from completions import models
from completions.catalog import endpoint
from completions.secrets import SecretUnreadable

logger = logging.getLogger(__name__)

CALLS_PER_PASS = 200
LOOKUP_TIMEOUT_S = (3.05, 10)
ANSWER_BYTES_MAX = 256 * 1024
# 404 until OpenRouter has written it down: seconds usually, much longer after an interrupted stream.
RETRY_AFTER_S = (5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
PENDING = Usage.Reconciliation.PENDING


class Pass(NamedTuple):
    checked: int
    corrected: int
    queued: int
    pending: int


class LookupFailed(Exception):
    """The provider's side does not answer: the pass ends. The call it failed for waits longer, so that the next
    pass begins with another."""


def reconcile() -> Pass:
    """One pass over the calls that are due."""
    due = Usage.objects.filter(reconciliation=PENDING, reconcile_at__lte=timezone.now())
    states: list[str] = []
    for usage in due.select_related("hold").order_by("reconcile_at")[:CALLS_PER_PASS]:
        try:
            states.append(_check(usage))
        except LookupFailed as failure:
            logger.warning("reconciliation stopped: %s", failure)
            _postpone(usage)
            break
    return Pass(
        checked=len(states),
        corrected=states.count(Usage.Reconciliation.CORRECTED),
        queued=states.count(Usage.Reconciliation.QUEUED),
        pending=Usage.objects.filter(reconciliation=PENDING).count(),
    )


def _check(usage: Usage) -> str:
    billed_usd = _look_up(usage)
    return _postpone(usage) if billed_usd is None else _compare(usage, billed_usd)


def _look_up(usage: Usage) -> Decimal | None:
    """What the provider billed, in USD; None while it does not know the call."""
    try:
        base_url, secret = endpoint(models.Provider.objects.get(name=usage.provider))
        status, body = _get(f"{base_url}/generation", usage.provider_ref, secret)
    except (models.Provider.DoesNotExist, SecretUnreadable, requests.RequestException, HTTPError, OSError) as error:
        raise LookupFailed(f"{usage.provider}: {type(error).__name__}") from error
    if status == 404:
        return None
    if status != 200:
        raise LookupFailed(f"{usage.provider} answered {status}")
    return _total_cost(usage, body)


def _get(url: str, generation_id: str, secret: str) -> tuple[int, bytes]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy, and no .netrc in place of our secret
        answer = session.get(
            url,
            params={"id": generation_id},
            headers={"Authorization": f"Bearer {secret}"},
            timeout=LOOKUP_TIMEOUT_S,
            allow_redirects=False,
            stream=True,
        )
        return answer.status_code, answer.raw.read(ANSWER_BYTES_MAX, decode_content=True)


def _total_cost(usage: Usage, body: bytes) -> Decimal:
    try:
        cost = json.loads(body, parse_float=Decimal, parse_int=Decimal)["data"]["total_cost"]
    except (ValueError, KeyError, TypeError) as error:
        raise LookupFailed(f"{usage.provider} sent no cost for {usage.provider_ref}") from error
    if not isinstance(cost, Decimal) or not cost.is_finite() or cost < 0:
        raise LookupFailed(f"{usage.provider} sent a cost that is none for {usage.provider_ref}")
    return cost


def _postpone(usage: Usage) -> str:
    attempt = usage.reconcile_attempts
    if attempt >= len(RETRY_AFTER_S):
        return _store(usage, Usage.Reconciliation.GAVE_UP)
    due = timezone.now() + timedelta(seconds=RETRY_AFTER_S[attempt])
    rows = Usage.objects.filter(pk=usage.pk, reconciliation=PENDING, reconcile_attempts=attempt)
    rows.update(reconcile_at=due, reconcile_attempts=attempt + 1)
    return PENDING


@transaction.atomic
def _compare(usage: Usage, billed_usd: Decimal) -> str:
    rate = money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN)
    missing_micro = rate.micro(money.pico(billed_usd)) - usage.charged
    if missing_micro < 0:
        _refund(usage, -missing_micro)
        return _store(usage, Usage.Reconciliation.CORRECTED, billed_usd)
    # What the wallet could not pay when the call ended is the operator's loss already, not a second claim.
    if missing_micro > 0 and usage.hold.actual == usage.charged:
        return _store(usage, Usage.Reconciliation.QUEUED, billed_usd)
    return _store(usage, Usage.Reconciliation.MATCHED, billed_usd)


def _refund(usage: Usage, micro: int) -> None:
    ledger.post(
        usage.wallet_id,
        "correction",
        micro,
        actor="reconciliation",
        reason=f"{usage.provider} billed less than was charged",
        idempotency_key=f"recon:{usage.pk}:1",
        hold_id=usage.pk,
    )


def _store(usage: Usage, state: str, billed_usd: Decimal | None = None) -> str:
    rows = Usage.objects.filter(pk=usage.pk, reconciliation=PENDING)
    changed = rows.update(reconciliation=state, billed_cost_usd=billed_usd, reconcile_at=None)
    return state if changed else PENDING
