from typing import Any

from accounts.management.output import JsonCommand
from completions import sweeper


class Command(JsonCommand):
    help = "One pass of the sweeper: settle or expire the holds of calls that never ended."

    def run(self, **options: Any) -> dict[str, Any]:
        return sweeper.sweep()._asdict()
