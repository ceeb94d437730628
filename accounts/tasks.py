"""What Celery runs of this room."""

from celery import shared_task

from accounts import sessions


@shared_task(name="accounts.tasks.forget_old_tokens")
def forget_old_tokens() -> None:
    sessions.forget_old()
