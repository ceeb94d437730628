from datetime import date
from typing import Any

from django.core.management.base import CommandParser

from billing.reconciliation import drift
from common.console import JsonCommand
from completions.reconciliation import calls, days


class Command(JsonCommand):
    help = "One pass of reconciliation: compare what providers billed with what was charged, by call and by day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", action="append", type=date.fromisoformat, default=[], metavar="YYYY-MM-DD")

    def run(self, **options: Any) -> dict[str, Any]:
        done = calls.reconcile()
        not_compared = days.compare(options["day"] or days.days_over())
        return done._asdict() | {
            "not_compared": [f"{provider}: {why}" for provider, why in not_compared.items()],
            "alerts": len(drift.open_alerts()),
        }
