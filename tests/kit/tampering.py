"""The books changed behind the ledger's back, as somebody with the database's password would."""

from typing import Any

from django.db import connection

# What stands in the way of somebody who tampers with the database itself.
PROTECTION = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE billing_entry DISABLE TRIGGER USER, DROP CONSTRAINT entry_usage_takes_from_a_hold;
ALTER TABLE billing_hold DISABLE TRIGGER USER, DROP CONSTRAINT hold_state_consistent,
    DROP CONSTRAINT hold_charged_within_actual;
ALTER TABLE billing_wallet DROP CONSTRAINT wallet_above_floor;
ALTER TABLE billing_payment DISABLE TRIGGER USER;
ALTER TABLE billing_voucher DISABLE TRIGGER USER;
ALTER TABLE billing_lot DISABLE TRIGGER USER;
DROP INDEX entry_call_charged_once;
"""


def drop_protection() -> None:
    """For the rest of the test's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(PROTECTION)


def tamper(sql: str, *params: Any) -> None:
    """The protection has been dropped; exactly one row is hit."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        assert cursor.rowcount == 1, "the tampering hit nothing, or too much"
