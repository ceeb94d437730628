"""What Celery runs of this room."""

from celery.schedules import crontab
from django.contrib.sessions.backends.db import SessionStore

from accounts import sessions, sign_ups, throttle
from common.periodic import periodic


@periodic(every=crontab(minute="32"), expires=1800)
def forget_old_tokens() -> None:
    sessions.forget_old()
    sign_ups.forget_unconfirmed()
    throttle.forget_counts()
    SessionStore.clear_expired()
