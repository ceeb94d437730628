from typing import Any

from django.core.management.base import CommandParser

from billing.oversight import verifier
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Check every invariant of the ledger; exit code 1 if any is violated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--incremental", action="store_true", help="only what is newer than the last run that found no violation"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        return verifier.report(incremental=options["incremental"])

    def complaint(self, result: dict[str, Any]) -> str:
        found = len(result["violations"])
        return f"the ledger has {found} violations" if found else ""
