"""When each periodic task last ran: a worker can be connected and do nothing, and nobody would be told."""

from django.db import connection

SUCCEEDED = """
INSERT INTO billing_heartbeat (task, succeeded_at, duration_ms, error) VALUES (%s, now(), %s, '')
ON CONFLICT (task) DO UPDATE SET succeeded_at = excluded.succeeded_at, duration_ms = excluded.duration_ms
"""
FAILED = """
INSERT INTO billing_heartbeat (task, failed_at, duration_ms, error) VALUES (%s, now(), 0, %s)
ON CONFLICT (task) DO UPDATE SET failed_at = excluded.failed_at, error = excluded.error
"""


def succeeded(task: str, duration_ms: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SUCCEEDED, [task, duration_ms])


def failed(task: str, error: BaseException) -> None:
    """Keeps the exception's class and not its words, which may be anybody's."""
    with connection.cursor() as cursor:
        cursor.execute(FAILED, [task, type(error).__name__])
