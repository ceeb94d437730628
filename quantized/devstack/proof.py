"""What `make smoke` asks for beyond an answer: the charge is in the books, to the micro-credit, and the books hold."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import psycopg

from common.ids import hold_id_of
from quantized.devstack.errors import StackError
from quantized.devstack.places import CHECKOUT

CHARGE = "SELECT amount, balance_after FROM billing_entry WHERE hold_id = %s AND kind = 'usage'"


def prove_charge(database_url: str, completion: Mapping[str, Any]) -> None:
    """Asked of the database itself, not of the process that wrote it."""
    used, remaining = (completion["usage"][name] for name in ("credits_used", "credits_remaining"))
    if used <= 0:
        raise StackError(f"the completion was answered but not charged: credits_used is {used}")
    hold_id = hold_id_of(completion["id"])
    with psycopg.connect(database_url) as connection:
        booked = connection.execute(CHARGE, [hold_id]).fetchall()
    if booked != [(-used, remaining)]:
        raise StackError(f"the answer says {used} taken and {remaining} left, the ledger says {booked}")


def prove_books(env: Mapping[str, str]) -> int:
    """How many entries were verified."""
    command = [sys.executable, str(CHECKOUT / "manage.py"), "verifyledger", "--json"]
    answer = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    if not answer.stdout:
        raise StackError(f"the ledger could not be verified: {answer.stderr.strip()}")
    found = json.loads(answer.stdout)
    if answer.returncode != 0 or found["violations"]:
        raise StackError(f"the ledger does not verify: {found['violations']}")
    return int(found["entries"])
