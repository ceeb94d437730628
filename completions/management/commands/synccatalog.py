from typing import Any

import msgspec
from django.core.management.base import CommandParser

from accounts.management.output import JsonCommand
from completions.catalog_sync import fetch, sync


class Command(JsonCommand):
    help = "Compare our OpenRouter routes with OpenRouter's model list: prices, limits, capabilities."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="make new price versions from their prices")

    def run(self, **options: Any) -> dict[str, Any]:
        return msgspec.structs.asdict(sync(fetch(), apply=options["apply"]))
