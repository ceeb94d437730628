from datetime import date
from typing import Any

from django.core.management.base import CommandParser

from accounts.management.output import JsonCommand
from billing import drift
from completions import bills, reconciliation


class Command(JsonCommand):
    help = "One pass of reconciliation: compare what providers billed with what was charged, by call and by day."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", action="append", type=date.fromisoformat, default=[], metavar="YYYY-MM-DD")

    def run(self, **options: Any) -> dict[str, Any]:
        done = reconciliation.reconcile()
        not_compared = bills.compare(options["day"] or bills.days_over())
        return done._asdict() | {
            "not_compared": [f"{provider}: {why}" for provider, why in not_compared.items()],
            "alerts": len(drift.open_alerts()),
        }
