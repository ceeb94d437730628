"""Celery's share of the books. Every task is short, carries no data and may run twice or side by side."""

import logging

from celery import shared_task

from billing import rollups, sweeper

logger = logging.getLogger(__name__)


@shared_task(name="billing.tasks.sweep_holds")
def sweep_holds() -> None:
    swept = sweeper.sweep()
    if swept.expired:
        logger.warning("expired %d holds of calls that never ended; %d open", swept.expired, swept.pending)


@shared_task(name="billing.tasks.roll_up")
def roll_up() -> None:
    logger.info("rolled up usage into %d rows", rollups.roll_up())
