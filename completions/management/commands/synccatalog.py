from typing import Any

import msgspec
from django.core.management.base import CommandParser

from common.console import JsonCommand
from completions.catalog.sync import fetch, sync


class Command(JsonCommand):
    help = "Compare our OpenRouter routes with OpenRouter's model list: prices, limits, capabilities."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="make new price versions from their prices")

    def run(self, **options: Any) -> dict[str, Any]:
        return msgspec.structs.asdict(sync(fetch(), apply=options["apply"]))
