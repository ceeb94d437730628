"""Celery's share of the conversation with providers."""

import logging

from celery import shared_task
from django.utils import timezone

from completions.calls.models import IdempotentCall
from completions.catalog import price_changes
from completions.reconciliation import abandoned_calls, calls, days

logger = logging.getLogger(__name__)


@shared_task(name="completions.tasks.forget_answers")
def forget_answers() -> None:
    forgotten, _ = IdempotentCall.objects.filter(expires_at__lt=timezone.now()).delete()
    if forgotten:
        logger.info("forgot %d stored answers", forgotten)


@shared_task(name="completions.tasks.sweep_holds")
def sweep_holds() -> None:
    swept = abandoned_calls.sweep()
    if swept.settled:
        logger.warning("settled %d calls that never ended at their provider's bill", swept.settled)
    if swept.expired:
        logger.warning("expired %d holds of calls that never ended; %d open", swept.expired, swept.pending)


@shared_task(name="completions.tasks.reconcile")
def reconcile() -> None:
    done = calls.reconcile()
    if done.checked:
        logger.info("reconciled: %s", done)


@shared_task(name="completions.tasks.apply_price_changes")
def apply_price_changes() -> None:
    if applied := price_changes.apply_due():
        logger.info("%d prices came into force", applied)


@shared_task(name="completions.tasks.compare_bills")
def compare_bills() -> None:
    for provider, why in days.compare(days.days_over()).items():
        logger.info("the days at %s were not compared: %s", provider, why)
