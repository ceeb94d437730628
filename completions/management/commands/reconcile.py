from typing import Any

from accounts.management.output import JsonCommand
from completions import reconciliation


class Command(JsonCommand):
    help = "One pass of reconciliation: compare what providers billed with what was charged."

    def run(self, **options: Any) -> dict[str, Any]:
        return reconciliation.reconcile()._asdict()
