"""Commands run in one transaction on Django's own connection: for the admin, Celery and management commands.

The gateway's calls go through billing/ledger/writer.py, in batches. Both decide with billing/ledger/kernel.py under the
same locks. Outcomes come back in the order of the commands; a refusal is an outcome, not an exception.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import connection, transaction

from billing.ledger.batch import Batch
from billing.ledger.commands import AnyCommand, Outcome, Post, Posted, Refused


class LedgerRefused(ValueError):
    """A posting that the books do not allow; the message says why."""


def execute(commands: Sequence[AnyCommand]) -> list[Outcome]:
    """Apply the commands in one durable transaction: all of them, or none on an exception.

    Inside a transaction of the caller's, they are durable with that one. Raises django.db.Error.
    """
    batch = Batch(commands)
    with transaction.atomic(), connection.cursor() as cursor:
        results = []
        for statement in batch.reads():
            cursor.execute(statement.sql, statement.params)
            results.append(cursor.fetchall())
        outcomes = batch.decide(results)
        for statement in batch.writes():
            cursor.execute(statement.sql, statement.params)
    return outcomes


def post(
    organization_id: UUID,
    kind: str,
    amount: int,
    *,
    actor: str,
    reason: str,
    idempotency_key: str,
    hold_id: UUID | None = None,
) -> Posted:
    """Post one entry that is not a call's own; the same key again returns the first entry.

    `amount` is in micro-credits, above 0 what comes in and below 0 what is taken; `kind` is `purchase`, `grant`,
    `adjustment`, `correction`, `refund` or `expiry`; `hold_id` names the call that a correction is of. Raises
    LedgerRefused for an organization without a wallet, and when the balance would pass the wallet's floor. In the
    caller's transaction, if there is one.
    """
    command = Post(
        wallet_id=organization_id,
        kind=kind,
        amount=amount,
        actor=actor,
        reason=reason,
        idempotency_key=idempotency_key,
        hold_id=hold_id,
    )
    [outcome] = execute([command])
    if isinstance(outcome, Refused):
        raise LedgerRefused(_WHY[outcome.reason].format(outcome))
    assert isinstance(outcome, Posted)
    return outcome


_WHY = {
    "no_wallet": "this organization has no wallet",
    "below_floor": "the balance allows {0.available} micro-credits, {0.required} are asked for",
}
