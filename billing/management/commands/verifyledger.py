from typing import Any

from accounts.management.output import JsonCommand
from billing import verifier


class Command(JsonCommand):
    help = "Check every invariant of the ledger; exit code 1 if any is violated."

    def run(self, **options: Any) -> dict[str, Any]:
        return verifier.report()

    def complaint(self, result: dict[str, Any]) -> str:
        found = len(result["violations"])
        return f"the ledger has {found} violations" if found else ""
