"""Celery's application, `celery -A quantized.celery`: the worker runs the rooms' tasks, the beat says when.

Nothing else imports it: the web queues no tasks, and whoever wants something of `quantized` shall not load Celery.

Tasks find their work in the database and may run twice; the queue only wakes them.
"""

import os
import time
from typing import Any

from celery import Celery, Task
from celery.signals import import_modules, task_failure, task_prerun, task_success

from billing.oversight import heartbeats
from common import periodic

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantized.settings")

app = Celery("quantized")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@import_modules.connect(sender=app)
def set_schedule(**_: Any) -> None:
    """The rooms' task modules are imported by now: autodiscover_tasks was connected to the same signal before."""
    app.conf.beat_schedule = periodic.beat_schedule()


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
