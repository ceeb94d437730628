"""Celery's share of the books. Every task is short, carries no data and may run twice or side by side."""

import logging
from datetime import UTC, datetime

from celery import shared_task
from django.conf import settings

from billing.credits import lots
from billing.delivery import deliveries
from billing.notices import alerts, outbox
from billing.oversight import verifier, watch
from billing.payments import auto_top_up
from billing.statements import files
from billing.usage import partitions, rollups

logger = logging.getLogger(__name__)


@shared_task(name="billing.tasks.roll_up")
def roll_up() -> None:
    logger.debug("rolled up usage into %d rows", rollups.roll_up())


@shared_task(name="billing.tasks.check_alerts")
def check_alerts() -> None:
    fired = alerts.evaluate()
    if fired:
        logger.info("gave %d alerts", fired)


@shared_task(name="billing.tasks.send_notices")
def send_notices() -> None:
    sent = deliveries.send_due()
    if any(sent):
        logger.info("notices: %d delivered, %d postponed, %d given up", *sent)


@shared_task(name="billing.tasks.announce_statements")
def announce_statements() -> None:
    told = files.announce()
    if told:
        logger.info("announced the statements of %d organizations", told)


@shared_task(name="billing.tasks.forget_notices")
def forget_notices() -> None:
    logger.info("forgot %d old notifications", outbox.forget_old())


@shared_task(name="billing.tasks.expire_credits")
def expire_credits() -> None:
    wallets = lots.expire()
    if wallets:
        logger.info("credits expired in %d wallets", wallets)


@shared_task(name="billing.tasks.top_up_wallets")
def top_up_wallets() -> None:
    paid = auto_top_up.run()
    if paid:
        logger.info("topped up %d wallets", paid)


@shared_task(name="billing.tasks.keep_partitions")
def keep_partitions() -> None:
    """Months of usage: the next ones made, those that are too old dropped."""
    for month in partitions.ensure_ahead():
        logger.info("made the partition of usage of %s", month)
    retired = partitions.retire(settings.USAGE_RETENTION_MONTHS)
    for month in retired.months:
        logger.warning("dropped the usage of %s, which was too old", month)
    for kept in retired.kept:
        logger.warning("the usage of %s is too old but stays: %s", kept.month, kept.reason)


@shared_task(name="billing.tasks.verify_new")
def verify_new() -> None:
    """What is newer than the checkpoints. What is found is in the log, in VerifierRun and in the metrics."""
    tell(verifier.run(incremental=True, wait=False))


@shared_task(name="billing.tasks.verify_all")
def verify_all() -> None:
    """Everything: one transaction that reads, which takes minutes when there are many millions of calls."""
    tell(verifier.run(wait=False))


def tell(result: verifier.Result | None) -> None:
    if result is None or not result.violations:
        return
    for violation in result.violations[: verifier.VIOLATIONS_KEPT]:
        logger.critical("the books are wrong: %s: %s: %s", *violation)
    invariants = sorted({violation.invariant for violation in result.violations})
    figures = {"violations": len(result.violations), "invariants": "; ".join(invariants)}
    outbox.notify_operator("ledger.violations", f"violations:{datetime.now(UTC):%Y-%m-%d}", figures)


@shared_task(name="billing.tasks.look_for_trouble")
def look_for_trouble() -> None:
    watch.look()
