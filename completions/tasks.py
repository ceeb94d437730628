"""Celery's share of the conversation with providers."""

import logging

from celery import shared_task
from django.utils import timezone

from completions import price_changes, reconciliation
from completions.models import IdempotentCall

logger = logging.getLogger(__name__)


@shared_task(name="completions.tasks.forget_answers")
def forget_answers() -> None:
    forgotten, _ = IdempotentCall.objects.filter(expires_at__lt=timezone.now()).delete()
    if forgotten:
        logger.info("forgot %d stored answers", forgotten)


@shared_task(name="completions.tasks.reconcile")
def reconcile() -> None:
    done = reconciliation.reconcile()
    if done.checked:
        logger.info("reconciled: %s", done)


@shared_task(name="completions.tasks.apply_price_changes")
def apply_price_changes() -> None:
    if applied := price_changes.apply_due():
        logger.info("%d prices came into force", applied)
