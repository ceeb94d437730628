"""Celery's share of the conversation with providers."""

import logging

from celery import shared_task

from completions import reconciliation

logger = logging.getLogger(__name__)


@shared_task(name="completions.tasks.reconcile")
def reconcile() -> None:
    done = reconciliation.reconcile()
    if done.checked:
        logger.info("reconciled: %s", done)
