"""What the operator has to be told although nothing failed at that moment: losses that add up, extra charges that wait,
tasks that do not succeed. A pass may run twice or beside another: each trouble is told once a day.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, F, Min, Q, Sum

from billing.notices import outbox
from billing.oversight.models import Heartbeat
from billing.reconciliation import losses
from billing.reconciliation.models import ExtraCharge

# A task that fails once may succeed a moment later; the slowest of them runs once a day.
FAILING_FOR = timedelta(minutes=15)

Trouble = tuple[str, str, dict[str, Any]]  # kind, what it is about, figures


def look(now: datetime | None = None) -> int:
    """One pass; how many troubles were news."""
    now = now or datetime.now(UTC)
    found = [*_losses(now), *_extra_charges(), *_failing_tasks(now)]
    told = [outbox.notify_operator(kind, f"{kind}:{about}:{now:%Y-%m-%d}", figures) for kind, about, figures in found]
    return sum(notification is not None for notification in told)


def _losses(now: datetime) -> Iterator[Trouble]:
    """Of this UTC day. What nobody knows the cost of is counted beside it."""
    today = losses.losses(now.replace(hour=0, minute=0, second=0, microsecond=0))
    known_usd = sum((lost.cost_usd for lost in today if lost.cost_usd is not None), Decimal(0))
    if known_usd > settings.LOSS_ALERT_USD:
        of_unknown_cost = sum(lost.cost_usd is None for lost in today)
        figures = {"calls": len(today), "cost_usd": f"{known_usd:f}", "calls_of_unknown_cost": of_unknown_cost}
        yield "losses.above_threshold", "today", figures


def _extra_charges() -> Iterator[Trouble]:
    waiting = ExtraCharge.objects.filter(state=ExtraCharge.State.WAITING)
    found = waiting.aggregate(count=Count("id"), micro=Sum("amount_micro"), oldest=Min("created_at"))
    if found["count"]:
        figures = {"calls": found["count"], "micro_credits": found["micro"], "oldest": found["oldest"].isoformat()}
        yield "extra_charges.waiting", "queue", figures


def _failing_tasks(now: datetime) -> Iterator[Trouble]:
    since_last_success = Q(succeeded_at__isnull=True) | Q(succeeded_at__lt=F("failed_at"))
    for task in Heartbeat.objects.filter(since_last_success, failed_at__isnull=False).order_by("task"):
        if task.succeeded_at is None or task.succeeded_at < now - FAILING_FOR:
            succeeded_at = task.succeeded_at.isoformat() if task.succeeded_at else "never"
            yield "task.failing", task.task, {"task": task.task, "error": task.error, "succeeded_at": succeeded_at}
