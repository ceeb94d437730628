from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from accounts import services as accounts
from billing.statements import files, monthly
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Write an organization's statement of a month (UTC), or of the running one to date, to a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG")
        parser.add_argument("month", metavar="YYYY-MM")
        parser.add_argument("--format", choices=("csv", "pdf"), default="pdf")
        parser.add_argument("--output", type=Path, metavar="FILE", help="its own name in this directory if left out")

    def run(self, **options: Any) -> dict[str, Any]:
        organization = accounts.find_organization(options["organization"])
        try:
            statement = monthly.statement(organization.pk, *monthly.parse_month(options["month"]))
        except monthly.Mismatch as error:
            raise CommandError(str(error)) from error
        file = files.file_of(statement, options["format"])
        path = write(options["output"] or Path(file.name), file.content)
        return {
            "file": str(path),
            "organization": str(organization.pk),
            "month": statement.month,
            "final": statement.is_final,
            "opening_balance": statement.opening,
            **statement.totals,
            "closing_balance": statement.closing,
        }


def write(path: Path, content: bytes) -> Path:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    return path
