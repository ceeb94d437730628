"""Reconciliation: what a provider finally billed for a call against what we charged for it.

Some kinds of providers know what each call cost, a little after it ended. A pass claims calls that are due, as many as
the provider's pace allows, and looks them up. What the tenant paid too much is refunded at once as a `correction`
entry; what is missing waits for an operator (billing/reconciliation/extra_charges.py); what was billed for a call
that the tenant got nothing of, or for an attempt that another provider had to make up for, is the operator's loss. A
claim keeps others away, and entries are keyed by the call: passes may run twice or side by side. Synchronous: for
Celery and commands.
"""

import logging
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from billing.ledger import journal, rates
from billing.models import FailedAttempt, Hold, Loss, Usage
from billing.pricing import money
from billing.reconciliation import losses
from billing.reconciliation.extra_charges import correction_key, queue_extra
from common.attempts import Attempts
from completions.reconciliation.lookups import CLAIM_S, LookupFailed, Lookups, lookups, paced

logger = logging.getLogger(__name__)

# 404 until the provider has written it down: seconds usually, at OpenRouter much longer after an interrupted stream.
RETRY_AFTER_S = (5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
LOOK_UPS = Attempts("reconcile_at", "reconcile_attempts", RETRY_AFTER_S)
UNKNOWN = "unknown_to_provider"
SILENT = "provider_silent"
PENDING = Usage.Reconciliation.PENDING

Billed = Usage | FailedAttempt  # what waits for its bill, by the same columns
KINDS: tuple[type[Billed], ...] = (Usage, FailedAttempt)


class Pass(NamedTuple):
    checked: int
    corrected: int
    queued: int
    pending: int


def reconcile() -> Pass:
    """One pass over the calls that are due."""
    states: Counter[str] = Counter()
    for kind in KINDS:
        for provider in _due(kind).values_list("provider", flat=True).distinct().order_by("provider"):
            with lookups(provider) as asking:
                states += _reconcile(kind, asking)
    return Pass(
        checked=states.total(),
        corrected=states[Usage.Reconciliation.CORRECTED],
        queued=states[Usage.Reconciliation.QUEUED],
        pending=sum(kind.objects.filter(reconciliation=PENDING).count() for kind in KINDS),
    )


def _reconcile(kind: type[Billed], asking: Lookups) -> Counter[str]:
    """The end of each call that was looked up. A provider that fails is left alone for this pass."""
    states: Counter[str] = Counter()
    claimed = _claim(kind, asking.provider)
    while claimed and asking.has_time:
        row = claimed.pop(0)
        try:
            states[_check(asking, row)] += 1
        except LookupFailed as failure:
            logger.warning("reconciliation stopped: %s", failure)
            states[_retry(row, SILENT)] += 1
            if not failure.is_of_the_call:
                break
    _give_back(asking.provider, claimed)
    return states


# --- whose turn it is -----------------------------------------------------------------------


def _due(kind: type[Billed]) -> QuerySet[Any]:
    return kind.objects.filter(reconciliation=PENDING, reconcile_at__lte=timezone.now())


def _claim(kind: type[Billed], provider: str) -> list[Any]:
    """Due calls of this provider that nobody else looks up now; the attempt is counted, whatever becomes of it."""
    now = timezone.now()
    due = _due(kind).filter(provider=provider)
    with paced(provider) as allowance:
        locked = due.select_for_update(skip_locked=True, of=("self",), no_key=True).order_by("reconcile_at")
        ids = list(locked.values_list("pk", flat=True)[: allowance.left_for_settled_calls])
        until = now + timedelta(seconds=CLAIM_S)
        kind.objects.filter(pk__in=ids).update(reconcile_at=until, reconcile_attempts=F("reconcile_attempts") + 1)
        allowance.take(len(ids))
    mine = kind.objects.filter(pk__in=ids).select_related("hold__rate")
    return sorted(mine, key=lambda row: (row.reconcile_attempts, row.recorded_at))


def _give_back(provider: str, claimed: list[Any]) -> None:
    """Calls that this pass did not come to are due again, as if they had not been claimed."""
    for row in claimed:
        LOOK_UPS.give_back(_pending(row), row, timezone.now())
    if claimed:
        with paced(provider) as allowance:
            allowance.take(-len(claimed))


def _mine(row: Any) -> QuerySet[Any]:
    """The row, as long as it is as we claimed it."""
    return LOOK_UPS.claimed(_pending(row), row)


def _pending(row: Any) -> QuerySet[Any]:
    return type(row).objects.filter(reconciliation=PENDING)


# --- one call -------------------------------------------------------------------------------


def _check(asking: Lookups, row: Billed) -> str:
    generation = asking.ask(row.provider_ref)
    if generation is None:
        return _retry(row, UNKNOWN)
    if isinstance(row, FailedAttempt):  # whatever it cost, its tenant pays another provider
        return _store(row, Usage.Reconciliation.MATCHED, generation.cost_usd)
    return _compare(row, generation.cost_usd)


def _retry(row: Billed, reason: str) -> str:
    """Later, or never again: with the reason of the last attempt."""
    pause_s = LOOK_UPS.pause_s(row)
    if pause_s is None:
        return _store(row, Usage.Reconciliation.GAVE_UP, reason=reason)
    _mine(row).update(reconcile_at=timezone.now() + timedelta(seconds=pause_s))
    return PENDING


@transaction.atomic
def _compare(usage: Usage, billed_usd: Decimal) -> str:
    """The first to store the end of a call makes its entry, in the same transaction."""
    billed_micro = rates.struct(usage.hold).micro(money.pico(billed_usd))
    missing_micro = billed_micro - usage.charged
    if usage.hold.state == Hold.State.VOIDED:
        end = Usage.Reconciliation.MATCHED
    elif missing_micro < 0:
        end = Usage.Reconciliation.CORRECTED
    # What the wallet could not pay when the call ended is the operator's loss already, not a second claim.
    elif missing_micro > 0 and usage.hold.actual == usage.charged:
        end = Usage.Reconciliation.QUEUED
    else:
        end = Usage.Reconciliation.MATCHED
    state = _store(usage, end, billed_usd)
    if state == Usage.Reconciliation.CORRECTED:
        _refund(usage, -missing_micro)
    elif state == Usage.Reconciliation.QUEUED:
        queue_extra(usage.hold, missing_micro, billed_usd)
    elif state == Usage.Reconciliation.MATCHED and usage.hold.state == Hold.State.VOIDED and billed_usd:
        losses.note(usage.pk, Loss.Reason.FAILED_WITHOUT_OUTPUT, billed_usd)
    return state


def _refund(usage: Usage, micro: int) -> None:
    journal.post(
        usage.wallet_id,
        "correction",
        micro,
        actor="reconciliation",
        reason=f"{usage.provider} billed less than was charged",
        idempotency_key=correction_key(usage.pk),
        hold_id=usage.pk,
    )


def _store(row: Billed, state: str, billed_usd: Decimal | None = None, *, reason: str = "") -> str:
    changed = _mine(row).update(
        reconciliation=state, billed_cost_usd=billed_usd, reconcile_at=None, reconcile_reason=reason
    )
    return state if changed else PENDING
