from typing import Any

from common.console import JsonCommand
from completions.reconciliation import abandoned_calls


class Command(JsonCommand):
    help = "One pass of the sweeper: settle or expire the holds of calls that never ended."

    def run(self, **options: Any) -> dict[str, Any]:
        return abandoned_calls.sweep()._asdict()
