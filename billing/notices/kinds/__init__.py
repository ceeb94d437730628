"""The kinds of alerts, a folder each, in the order in which people see them. A door of this room."""

from billing.notices.kinds.base import AlertKind as AlertKind
from billing.notices.kinds.budget import Budget
from billing.notices.kinds.low_balance import LowBalance

KINDS: dict[str, AlertKind] = {kind.name: kind for kind in (LowBalance(), Budget())}


def kind_of_event(event: str) -> AlertKind | None:
    """The kind whose notifications are called so."""
    return next((kind for kind in KINDS.values() if kind.event == event), None)
