"""The audit log: one row for everything an operator does, in the transaction that does it.

So there is no act without its row and no row without its act. Rows are never changed or deleted, by anybody.
"""

from typing import Any
from uuid import UUID

from accounts.models import AuditEntry


def record(
    actor: str,
    action: str,
    target: str,
    *,
    organization_id: UUID | None = None,
    reason: str = "",
    **details: str | int | bool | None,
) -> AuditEntry:
    """`actor` is an e-mail address, or the name of a command or task. `details` are figures and names, no secrets."""
    return AuditEntry.objects.create(
        actor=actor,
        action=action,
        target=target,
        organization_id=organization_id,
        reason=reason,
        details=shown(details),
    )


def shown(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}
