"""What operators do to an organization's account: each act once, with a reason, in the audit log.

An act carries an id made before its form was shown: sent twice, or by an impatient finger, it happens once. What moves
more than APPROVAL_ABOVE_MICRO, or lifts the bound altogether, waits until a second operator approves. What the books
refuse raises LedgerRefused or Invalid and leaves nothing behind, so that the same form can be sent again, corrected.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts import services as accounts
from accounts.models import User
from billing.credits import accounts as services
from billing.credits.models import Operation
from billing.ledger import journal
from billing.ledger.models import Wallet
from common import checks
from common.checks import Invalid

Kind = Operation.Kind
State = Operation.State
WITH_AMOUNT = (Kind.GRANT, Kind.DEDUCT, Kind.REFUND)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An act as its form says it. `amount_micro` of an overdraft is the new overdraft."""

    id: UUID
    kind: str
    organization_id: UUID
    reason: str
    amount_micro: int = 0
    expires_at: datetime | None = None


@transaction.atomic
def request(asked: Asked, operator: User) -> Operation:
    """Do it, or leave it for a second operator. The same id again returns what became of the first request."""
    checked = {
        "kind": checks.checked_choice("kind", asked.kind, Kind.values),
        "organization_id": asked.organization_id,
        "amount": checked_amount(asked),
        "expires_at": checks.checked_expiry(asked.expires_at) if asked.kind == Kind.GRANT else None,
        "reason": checks.checked_text("reason", asked.reason, services.REASON_CHARACTERS_MAX),
    }
    operation, is_new = Operation.objects.get_or_create(pk=asked.id, defaults=checked | {"requested_by": operator})
    if not is_new:
        return same(operation, checked)
    if needs_second_operator(operation):
        note(operation, operator, "asks for approval")
        return operation
    return carry_out(operation, operator)


@transaction.atomic
def approve(operation_id: UUID, operator: User) -> Operation:
    """The second operator agrees, and it is done. Approving twice does it once."""
    operation = waiting(operation_id)
    if operation is None:
        return Operation.objects.get(pk=operation_id)
    if operation.requested_by_id == operator.pk:
        raise Invalid("operator", "must be another one than who asked for it")
    return carry_out(operation, operator)


@transaction.atomic
def decline(operation_id: UUID, operator: User, reason: str) -> Operation:
    """Nothing is done. Whoever asked may decline too: that takes the request back."""
    why = checks.checked_text("reason", reason, services.REASON_CHARACTERS_MAX)
    operation = waiting(operation_id)
    if operation is None:
        return Operation.objects.get(pk=operation_id)
    note(operation, operator, "declined", why)
    return decided(operation, operator, State.DECLINED)


def needs_second_operator(operation: Operation) -> bool:
    if operation.kind == Kind.UNLIMITED:
        return True
    return operation.kind in (*WITH_AMOUNT, Kind.OVERDRAFT) and operation.amount > settings.APPROVAL_ABOVE_MICRO


def same(operation: Operation, checked: dict[str, object]) -> Operation:
    if any(getattr(operation, name) != value for name, value in checked.items()):
        raise Invalid("id", "was used for another request already: open the form anew")
    return operation


def waiting(operation_id: UUID) -> Operation | None:
    """Locked, so that of two decisions one is the first; None when it has been decided."""
    return (
        Operation.objects.select_for_update(no_key=True, of=("self",))
        .filter(pk=operation_id, state=State.WAITING)
        .first()
    )


def carry_out(operation: Operation, operator: User) -> Operation:
    _ACTS[operation.kind](operation)
    note(operation, operator, "done")
    return decided(operation, operator, State.DONE)


def decided(operation: Operation, operator: User, state: str) -> Operation:
    operation.state, operation.decided_by, operation.decided_at = state, operator, timezone.now()
    operation.save(update_fields=["state", "decided_by", "decided_at"])
    return operation


def note(operation: Operation, operator: User, outcome: str, why: str = "") -> None:
    audit.record(
        operator.email,
        f"account.{operation.kind}",
        f"organization {operation.organization_id}",
        organization_id=operation.organization_id,
        reason=why or operation.reason,
        outcome=outcome,
        operation=str(operation.pk),
        amount_micro=operation.amount or None,
        requested_by=operation.requested_by.email,
    )


def checked_amount(asked: Asked) -> int:
    if asked.kind in WITH_AMOUNT:
        services.check_amount("amount", asked.amount_micro, at_least=1)
    elif asked.kind == Kind.OVERDRAFT:
        services.check_amount("overdraft", asked.amount_micro, at_least=0)
    elif asked.amount_micro:
        raise Invalid("amount", f"does not belong to {asked.kind}")
    return asked.amount_micro


# --- The acts -------------------------------------------------------------------------------------


def post(operation: Operation, kind: str, amount_micro: int) -> None:
    journal.post(
        operation.organization_id,
        kind,
        amount_micro,
        actor=operation.requested_by.email,
        reason=operation.reason,
        idempotency_key=f"operation:{operation.pk}",
    )


def grant(operation: Operation) -> None:
    services.grant(
        operation.organization_id,
        operation.amount,
        actor=operation.requested_by.email,
        reason=operation.reason,
        idempotency_key=f"operation:{operation.pk}",
        expires_at=operation.expires_at,
    )


def change_wallet(operation: Operation, **values: object) -> None:
    """The new floor has to be below what the wallet has; calls under way may make that untrue for a moment."""
    try:
        with transaction.atomic():
            Wallet.objects.filter(pk=operation.organization_id).update(**values)
    except IntegrityError:
        raise Invalid("amount", "puts the wallet's floor above its balance: grant credits first") from None


_ACTS: dict[str, Callable[[Operation], object]] = {
    Kind.GRANT: grant,
    Kind.DEDUCT: lambda operation: post(operation, "adjustment", -operation.amount),
    Kind.REFUND: lambda operation: post(operation, "refund", -operation.amount),
    Kind.UNLIMITED: lambda operation: change_wallet(operation, unlimited=True),
    Kind.LIMITED: lambda operation: change_wallet(operation, unlimited=False),
    Kind.OVERDRAFT: lambda operation: change_wallet(operation, overdraft=operation.amount),
    Kind.SUSPEND: lambda operation: accounts.suspend(operation.organization_id),
    Kind.REACTIVATE: lambda operation: accounts.reactivate(operation.organization_id),
}
