"""A row per periodic task: when it last ran to its end, and when it last failed."""

from typing import Any

import pytest
from celery import shared_task

from billing.models import Heartbeat, VerifierRun
from billing.oversight import verifier
from billing.usage import partitions
from quantized.celery import app

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
