"""How often a log-in may fail, by e-mail address and by client address: rows in the database, the same for every
process and after every restart. `count` and `uncount` do the same for other guesses, such as vouchers' codes.

An attempt is counted before the password is looked at, in one statement, so a burst of guesses at the same moment is
counted one by one; a success takes its own count back, and no more: who knows one password gains no guesses at others.
"""

import math
from collections.abc import Iterable, Mapping

from django.conf import settings
from django.db import connection

from accounts import keys
from accounts.callers import TooManyAttempts
from common.addresses import client_network
from common.checks import normal_email

WINDOW_S = 15 * 60
FAILURES_PER_EMAIL_MAX = 10
FAILURES_PER_ADDRESS_MAX = 100  # an office's people come from one address

# Rows are locked in one order, so that two log-ins cannot block each other.
COUNT_SQL = f"""
INSERT INTO accounts_loginthrottle AS t (subject, attempts, window_started_at)
SELECT subject, 1, now() FROM unnest(%s::bytea[]) AS subject ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET (attempts, window_started_at) = (
    SELECT CASE WHEN is_over THEN 1 ELSE t.attempts + 1 END, CASE WHEN is_over THEN now() ELSE t.window_started_at END
    FROM (SELECT t.window_started_at <= now() - interval '{WINDOW_S} seconds' AS is_over) clock)
RETURNING subject, attempts, extract(epoch FROM window_started_at - now()) + {WINDOW_S}
"""  # noqa: S608  # a number of ours

TAKE_BACK_SQL = """
UPDATE accounts_loginthrottle SET attempts = attempts - 1 WHERE attempts > 0 AND subject IN
    (SELECT subject FROM accounts_loginthrottle WHERE subject = ANY(%s) ORDER BY subject FOR NO KEY UPDATE)
"""

FORGIVE_SQL = "DELETE FROM accounts_loginthrottle WHERE subject = %s"

FORGET_SQL = f"""
DELETE FROM accounts_loginthrottle WHERE window_started_at <= now() - interval '{WINDOW_S} seconds'
"""  # noqa: S608  # a number of ours


def count_attempt(email: str, address: str) -> None:
    """Count one more log-in as failed; `take_back` when it succeeds. Raises TooManyAttempts, with the seconds to wait,
    above FAILURES_PER_EMAIL_MAX or FAILURES_PER_ADDRESS_MAX within WINDOW_S."""
    wait_s = count(limits_of(email, address))
    if wait_s:
        raise TooManyAttempts(wait_s)


def take_back(email: str, address: str) -> None:
    uncount(limits_of(email, address))


def count(limits: Mapping[bytes, int]) -> int:
    """One attempt more for each subject; 0, or the seconds to wait if that was more than a subject's limit."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT_SQL, (list(limits),))
        waits = [left_s for subject, attempts, left_s in cursor.fetchall() if attempts > limits[bytes(subject)]]
    return math.ceil(max(waits)) if waits else 0


def uncount(subjects: Iterable[bytes]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(TAKE_BACK_SQL, (list(subjects),))


def forgive(email: str) -> None:
    """Begin to count this address anew; failures of client addresses stay counted."""
    with connection.cursor() as cursor:
        cursor.execute(FORGIVE_SQL, (subject_of_email(email),))


def forget_old() -> None:
    with connection.cursor() as cursor:
        cursor.execute(FORGET_SQL)


def forget_counts() -> None:
    """Delete what django-allauth counted by means of the cache and is over."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_cache WHERE expires <= now()")


def limits_of(email: str, address: str) -> Mapping[bytes, int]:
    """By subject. Hashed, because people type passwords where an e-mail address belongs."""
    return {
        subject_of_email(email): FAILURES_PER_EMAIL_MAX,
        keys.digest(f"address {client_network(address)}", settings.KEY_PEPPER): FAILURES_PER_ADDRESS_MAX,
    }


def subject_of_email(email: str) -> bytes:
    return keys.digest(f"e-mail {normal_email(email)}", settings.KEY_PEPPER)
