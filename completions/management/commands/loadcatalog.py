from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandParser

from common.console import JsonCommand
from completions.catalog import services
from completions.catalog.file import CatalogError, parse


class Command(JsonCommand):
    help = "Load providers, models, routes and prices from a file; what the file does not name is not touched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.toml", type=Path, help="e.g. catalog.toml; see docs/catalog.md")

    def run(self, **options: Any) -> dict[str, Any]:
        try:
            text = options["file"].read_text(encoding="utf-8")
        except OSError as error:
            raise CatalogError(f"{options['file']} cannot be read: {error.strerror}") from error
        return msgspec.structs.asdict(services.load(parse(text)))
