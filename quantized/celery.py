"""Celery's application: the worker runs the rooms' tasks, the beat says when.

Tasks find their work in the database and may run twice; the queue only wakes them.
"""

import os
import time
from typing import Any

from celery import Celery, Task
from celery.schedules import crontab
from celery.signals import task_failure, task_prerun, task_success
from django.conf import settings

from billing.oversight import heartbeats

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantized.settings")

RECONCILE_EVERY_S = 60
ALERT_EVERY_S = 60
SEND_EVERY_S = 15
PRICES_EVERY_S = 10
EXPIRE_EVERY_S = 180
TOP_UP_EVERY_S = 60
ROLL_UP_EVERY_S = 60
VERIFY_EVERY_S = 300
WATCH_EVERY_S = 300

app = Celery("quantized")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def set_schedule(sender: Celery, **_: Any) -> None:
    """Not at import: settings are read when Celery starts, not when somebody imports a room."""
    sender.conf.beat_schedule = {
        # A sweep nobody picked up in time is dropped: the next one does its work.
        "sweep-holds": {
            "task": "completions.tasks.sweep_holds",
            "schedule": settings.SWEEP_EVERY_S,
            "options": {"expires": settings.SWEEP_EVERY_S},
        },
        "reconcile": {"task": "completions.tasks.reconcile", "schedule": RECONCILE_EVERY_S, "options": {"expires": 60}},
        "apply-price-changes": {
            "task": "completions.tasks.apply_price_changes",
            "schedule": PRICES_EVERY_S,
            "options": {"expires": PRICES_EVERY_S},
        },
        "compare-bills": {
            "task": "completions.tasks.compare_bills",
            "schedule": crontab(minute="47"),
            "options": {"expires": 1800},
        },
        "expire-credits": {
            "task": "billing.tasks.expire_credits",
            "schedule": EXPIRE_EVERY_S,
            "options": {"expires": EXPIRE_EVERY_S},
        },
        "top-up-wallets": {
            "task": "billing.tasks.top_up_wallets",
            "schedule": TOP_UP_EVERY_S,
            "options": {"expires": TOP_UP_EVERY_S},
        },
        "forget-answers": {
            "task": "completions.tasks.forget_answers",
            "schedule": crontab(minute="17"),
            "options": {"expires": 1800},
        },
        "forget-old-tokens": {
            "task": "accounts.tasks.forget_old_tokens",
            "schedule": crontab(minute="32"),
            "options": {"expires": 1800},
        },
        "check-alerts": {"task": "billing.tasks.check_alerts", "schedule": ALERT_EVERY_S, "options": {"expires": 60}},
        "send-notices": {"task": "billing.tasks.send_notices", "schedule": SEND_EVERY_S, "options": {"expires": 15}},
        # Again and again on a month's first days: many organizations, or a worker that was away, take several passes.
        "announce-statements": {
            "task": "billing.tasks.announce_statements",
            "schedule": crontab(minute="*/10", day_of_month="1-3"),
            "options": {"expires": 600},
        },
        "forget-notices": {
            "task": "billing.tasks.forget_notices",
            "schedule": crontab(hour="4", minute="41"),
            "options": {"expires": 1800},
        },
        # Pages read roll-ups only: this is how old their figures may be.
        "roll-up": {"task": "billing.tasks.roll_up", "schedule": ROLL_UP_EVERY_S, "options": {"expires": 60}},
        "verify-new": {
            "task": "billing.tasks.verify_new",
            "schedule": VERIFY_EVERY_S,
            "options": {"expires": VERIFY_EVERY_S},
        },
        "look-for-trouble": {
            "task": "billing.tasks.look_for_trouble",
            "schedule": WATCH_EVERY_S,
            "options": {"expires": WATCH_EVERY_S},
        },
        "verify-all": {
            "task": "billing.tasks.verify_all",
            "schedule": crontab(hour="3", minute="23"),
            "options": {"expires": 3600},
        },
        "keep-partitions": {
            "task": "billing.tasks.keep_partitions",
            "schedule": crontab(minute="47"),
            "options": {"expires": 1800},
        },
    }


@task_prerun.connect
def note_start(task: Task, **_: Any) -> None:
    task.request.update(begun_s=time.monotonic())


@task_success.connect
def note_success(sender: Task, **_: Any) -> None:
    begun_s: float = sender.request.get("begun_s")
    heartbeats.succeeded(sender.name, int((time.monotonic() - begun_s) * 1000))


@task_failure.connect
def note_failure(sender: Task, exception: BaseException, **_: Any) -> None:
    heartbeats.failed(sender.name, exception)
