"""A row per periodic task: when it last ran to its end, and when it last failed."""

from datetime import timedelta
from typing import Any

import pytest
from celery import shared_task
from celery.schedules import crontab
from django.conf import settings
from django.utils import timezone

from billing.models import Heartbeat, VerifierRun
from billing.oversight import verifier
from billing.usage import partitions
from common.periodic import periodic
from quantized.celery import app
from quantized.operator import first_page

pytestmark = pytest.mark.django_db


@shared_task(name="tests.fails")
def fails() -> None:
    raise ValueError("a prompt that must not be kept")


@shared_task(name="tests.succeeds")
def succeeds() -> None:
    pass


def run(task: Any) -> Heartbeat:
    """As a worker runs it, signals and all, in this process."""
    task.apply()
    return Heartbeat.objects.get(pk=task.name)


def test_a_success_is_noted() -> None:
    beat = run(succeeds)
    assert beat.succeeded_at is not None
    assert beat.failed_at is None
    first = beat.succeeded_at
    assert run(succeeds).succeeded_at >= first
    assert Heartbeat.objects.count() == 1


def test_a_failure_is_noted_by_its_class_alone() -> None:
    beat = run(fails)
    assert beat.succeeded_at is None
    assert beat.failed_at is not None
    assert beat.error == "ValueError"


@pytest.fixture
def schedule() -> dict[str, Any]:
    app.loader.import_default_modules()
    schedule: dict[str, Any] = app.conf.beat_schedule
    return schedule


def test_every_scheduled_task_exists(schedule: dict[str, Any]) -> None:
    names = {entry["task"] for entry in schedule.values()}
    assert names <= set(app.tasks)
    assert {"billing.tasks.verify_new", "billing.tasks.verify_all", "billing.tasks.keep_partitions"} <= names


def test_the_schedule_is_what_the_tasks_declare(schedule: dict[str, Any]) -> None:
    sweep_s = settings.SWEEP_EVERY_S
    expected = [
        ("accounts.tasks.forget_old_tokens", crontab(minute="32"), 1800),
        ("billing.tasks.announce_statements", crontab(minute="*/10", day_of_month="1-3"), 600),
        ("billing.tasks.check_alerts", 60, 60),
        ("billing.tasks.expire_credits", 180, 180),
        ("billing.tasks.forget_notices", crontab(hour="4", minute="41"), 1800),
        ("billing.tasks.keep_partitions", crontab(minute="47"), 1800),
        ("billing.tasks.look_for_trouble", 300, 300),
        ("billing.tasks.roll_up", 60, 60),
        ("billing.tasks.send_notices", 15, 15),
        ("billing.tasks.top_up_wallets", 60, 60),
        ("billing.tasks.verify_all", crontab(hour="3", minute="23"), 3600),
        ("billing.tasks.verify_new", 300, 300),
        ("completions.tasks.apply_price_changes", 10, 10),
        ("completions.tasks.compare_bills", crontab(minute="47"), 1800),
        ("completions.tasks.forget_answers", crontab(minute="17"), 1800),
        ("completions.tasks.reconcile", 60, 60),
        ("completions.tasks.sweep_holds", sweep_s, sweep_s),
    ]
    found = [(entry["task"], entry["schedule"], entry["options"]) for entry in schedule.values()]
    assert sorted(found) == [(task, every, {"expires": expires_s}) for task, every, expires_s in expected]
    assert all(name == entry["task"].split(".")[-1].replace("_", "-") for name, entry in schedule.items())


def test_a_task_is_declared_once() -> None:
    def verify_new() -> None: ...

    verify_new.__module__ = "billing.tasks"
    with pytest.raises(ValueError, match=r"billing\.tasks\.verify_new is a periodic task already"):
        periodic(every=1, expires=1)(verify_new)


@pytest.mark.parametrize(
    ("task", "after"),
    [
        ("completions.tasks.sweep_holds", timedelta(minutes=10)),
        ("completions.tasks.reconcile", timedelta(minutes=15)),
        ("completions.tasks.apply_price_changes", timedelta(minutes=5)),
        ("billing.tasks.roll_up", timedelta(minutes=10)),
        ("billing.tasks.verify_new", timedelta(minutes=30)),
        ("billing.tasks.send_notices", timedelta(minutes=10)),
        ("billing.tasks.verify_all", timedelta(hours=26)),
        ("billing.tasks.declared_no_more", timedelta(hours=26)),
    ],
)
def test_a_task_is_late_after_its_own_time(task: str, after: timedelta) -> None:
    now = timezone.now()
    assert not first_page.task_line_of(Heartbeat(task=task, succeeded_at=now - after), now).is_late
    assert first_page.task_line_of(Heartbeat(task=task, succeeded_at=now - after - timedelta(seconds=1)), now).is_late


def test_the_tasks_of_the_books_run_twice_without_harm() -> None:
    for name in ("verify_new", "verify_all", "keep_partitions", "roll_up"):
        for _ in range(2):
            beat = run(app.tasks[f"billing.tasks.{name}"])
            assert (beat.error, beat.failed_at) == ("", None)
    assert list(VerifierRun.objects.order_by("pk").values_list("kind", "violations")) == [
        ("incremental", 0),
        ("incremental", 0),
        ("complete", 0),
        ("complete", 0),
    ]
    assert verifier.violations() == []
    assert len(partitions.months()) >= 4
