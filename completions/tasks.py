"""Celery's share of the conversation with providers."""

import logging
from datetime import timedelta

from celery.schedules import crontab
from django.conf import settings
from django.utils import timezone

from common.periodic import periodic
from completions.calls.models import IdempotentCall
from completions.catalog import price_changes
from completions.reconciliation import abandoned_calls, calls, days

logger = logging.getLogger(__name__)


@periodic(every=crontab(minute="17"), expires=1800)
def forget_answers() -> None:
    forgotten, _ = IdempotentCall.objects.filter(expires_at__lt=timezone.now()).delete()
    if forgotten:
        logger.info("forgot %d stored answers", forgotten)


@periodic(every=settings.SWEEP_EVERY_S, expires=settings.SWEEP_EVERY_S, late_after=timedelta(minutes=10))
def sweep_holds() -> None:
    swept = abandoned_calls.sweep()
    if swept.settled:
        logger.warning("settled %d calls that never ended at their provider's bill", swept.settled)
    if swept.expired:
        logger.warning("expired %d holds of calls that never ended; %d open", swept.expired, swept.pending)


@periodic(every=60, expires=60, late_after=timedelta(minutes=15))
def reconcile() -> None:
    done = calls.reconcile()
    if done.checked:
        logger.info("reconciled: %s", done)


@periodic(every=10, expires=10, late_after=timedelta(minutes=5))
def apply_price_changes() -> None:
    if applied := price_changes.apply_due():
        logger.info("%d prices came into force", applied)


@periodic(every=crontab(minute="47"), expires=1800)
def compare_bills() -> None:
    for provider, why in days.compare(days.days_over()).items():
        logger.info("the days at %s were not compared: %s", provider, why)
