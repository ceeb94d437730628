from typing import Any

from accounts.management.output import JsonCommand
from billing import sweeper


class Command(JsonCommand):
    help = "One pass of the sweeper: expire the holds of calls that never ended."

    def run(self, **options: Any) -> dict[str, Any]:
        return sweeper.sweep()._asdict()
