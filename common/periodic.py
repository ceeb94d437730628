"""Periodic tasks, each declared once, beside its function. Celery's beat, the operator's first page and a test of the
documents read what was declared; a task is known as soon as its module is imported."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from celery import shared_task
from celery.schedules import crontab

LATE_AFTER = timedelta(hours=26)  # the rarest tasks run once a day


class PeriodicTask(msgspec.Struct, frozen=True):
    """`every` is in seconds, or the minutes of the UTC calendar that a crontab names."""

    name: str
    every: float | crontab
    expires_s: float
    late_after: timedelta

    @property
    def beat_entry(self) -> str:
        return self.name.rpartition(".")[2].replace("_", "-")


_declared: dict[str, PeriodicTask] = {}


def periodic(*, every: float | crontab, expires: float, late_after: timedelta = LATE_AFTER) -> Callable[..., Any]:
    """Makes a function a Celery task of its own full name that the beat wakes `every` so many seconds or by a crontab.

    A wake-up nobody picked up within `expires` seconds is dropped: the next one does its work. A task that was not seen
    to succeed for `late_after` is shown as late to the operator. Raises ValueError for a name that is declared already.
    """

    def declared(function: Callable[[], None]) -> Any:
        name = f"{function.__module__}.{function.__name__}"
        if name in _declared:
            raise ValueError(f"{name} is a periodic task already")
        _declared[name] = PeriodicTask(name, every, expires, late_after)
        return shared_task(name=name)(function)

    return declared


def declared_tasks() -> Mapping[str, PeriodicTask]:
    """By full name, of the modules that are imported."""
    return dict(_declared)


def late_after(name: str) -> timedelta:
    """Also of a task that is declared no more: its heartbeat outlives it."""
    task = _declared.get(name)
    return task.late_after if task else LATE_AFTER


def beat_schedule() -> dict[str, dict[str, Any]]:
    """As Celery's setting `beat_schedule` wants it."""
    return {
        task.beat_entry: {"task": task.name, "schedule": task.every, "options": {"expires": task.expires_s}}
        for task in _declared.values()
    }
