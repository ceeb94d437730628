"""What Celery runs of this room."""

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore

from accounts import sessions, sign_ups, throttle


@shared_task(name="accounts.tasks.forget_old_tokens")
def forget_old_tokens() -> None:
    sessions.forget_old()
    sign_ups.forget_unconfirmed()
    throttle.forget_counts()
    SessionStore.clear_expired()
