"""PostgreSQL's own clock, held still: the product's SQL is untouched and reads the time it is told."""

from datetime import datetime

from django.db import connection

# A schema before pg_catalog in the search path: unqualified calls find these first.
INSTALL = """
CREATE SCHEMA IF NOT EXISTS held_clock;
CREATE OR REPLACE FUNCTION held_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('held_clock.now')::timestamptz $$;
CREATE OR REPLACE FUNCTION held_clock.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('held_clock.now')::timestamptz $$;
SET LOCAL search_path = held_clock, pg_catalog, public;
"""


class DatabaseClock:
    """For the rest of the test's transaction (fixture `db`), which takes it along when it is rolled back."""

    def __init__(self, now: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute(INSTALL)
        self.set(now)

    def set(self, now: datetime) -> None:
        self.now = now
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('held_clock.now', %s, true)", [now.isoformat()])
