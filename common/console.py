"""What every management command of ours promises: `--json` puts one JSON object on standard output and nothing else
there; whatever goes wrong is one line on standard error and exit code 1."""

import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError


class JsonCommand(BaseCommand):
    """Subclasses implement `run(**options) -> dict`; a ValueError of theirs is the operator's mistake."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except SystemExit as stop:  # argparse leaves with 2
            sys.exit(1 if stop.code else 0)

    def handle(self, *args: Any, **options: Any) -> None:
        result = self._answer(options)
        if options["json"]:
            self.stdout.write(msgspec.json.encode(result).decode())
        else:
            self.stdout.write("\n".join(lines(result)))
        complaint = self.complaint(result)
        if complaint:
            raise CommandError(complaint)

    def run(self, **options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def complaint(self, result: dict[str, Any]) -> str:
        """Why a command that did its work still ends with exit code 1; empty when all is well."""
        return ""

    def _answer(self, options: dict[str, Any]) -> dict[str, Any]:
        try:
            return self.run(**options)
        except ValueError as error:
            raise CommandError(str(error)) from error
        except OperationalError as error:
            raise CommandError(f"the database cannot be used: {str(error).splitlines()[0]}") from error


def lines(result: dict[str, Any]) -> list[str]:
    width = max(map(len, result), default=0)
    found = []
    for name, value in result.items():
        first, *others = [str(item) for item in value] if isinstance(value, list) and value else [plain(value)]
        found.append(f"{name:<{width}}  {first}")
        found.extend(f"{'':<{width}}  {other}" for other in others)
    return found


def plain(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def moment(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an ISO 8601 date or time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
