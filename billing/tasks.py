"""Celery's share of the books. Every task is short, carries no data and may run twice or side by side."""

import logging
from datetime import UTC, datetime, timedelta

from celery.schedules import crontab
from django.conf import settings

from billing.credits import lots
from billing.delivery import deliveries
from billing.notices import alerts, outbox
from billing.oversight import verifier, watch
from billing.payments import auto_top_up
from billing.statements import files
from billing.usage import partitions, rollups
from common.periodic import periodic

logger = logging.getLogger(__name__)


# Pages read roll-ups only: this is how old their figures may be.
@periodic(every=60, expires=60, late_after=timedelta(minutes=10))
def roll_up() -> None:
    logger.debug("rolled up usage into %d rows", rollups.roll_up())


@periodic(every=60, expires=60)
def check_alerts() -> None:
    fired = alerts.evaluate()
    if fired:
        logger.info("gave %d alerts", fired)


@periodic(every=15, expires=15, late_after=timedelta(minutes=10))
def send_notices() -> None:
    sent = deliveries.send_due()
    if any(sent):
        logger.info("notices: %d delivered, %d postponed, %d given up", *sent)


# Again and again on a month's first days: many organizations, or a worker that was away, take several passes.
@periodic(every=crontab(minute="*/10", day_of_month="1-3"), expires=600)
def announce_statements() -> None:
    told = files.announce()
    if told:
        logger.info("announced the statements of %d organizations", told)


@periodic(every=crontab(hour="4", minute="41"), expires=1800)
def forget_notices() -> None:
    logger.info("forgot %d old notifications", outbox.forget_old())


@periodic(every=180, expires=180)
def expire_credits() -> None:
    wallets = lots.expire()
    if wallets:
        logger.info("credits expired in %d wallets", wallets)


@periodic(every=60, expires=60)
def top_up_wallets() -> None:
    paid = auto_top_up.run()
    if paid:
        logger.info("topped up %d wallets", paid)


@periodic(every=crontab(minute="47"), expires=1800)
def keep_partitions() -> None:
    """Months of usage: the next ones made, those that are too old dropped."""
    for month in partitions.ensure_ahead():
        logger.info("made the partition of usage of %s", month)
    retired = partitions.retire(settings.USAGE_RETENTION_MONTHS)
    for month in retired.months:
        logger.warning("dropped the usage of %s, which was too old", month)
    for kept in retired.kept:
        logger.warning("the usage of %s is too old but stays: %s", kept.month, kept.reason)


@periodic(every=300, expires=300, late_after=timedelta(minutes=30))
def verify_new() -> None:
    """What is newer than the checkpoints. What is found is in the log, in VerifierRun and in the metrics."""
    tell(verifier.run(incremental=True, wait=False))


@periodic(every=crontab(hour="3", minute="23"), expires=3600)
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


@periodic(every=300, expires=300)
def look_for_trouble() -> None:
    watch.look()
