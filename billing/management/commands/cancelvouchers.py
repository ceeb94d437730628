from typing import Any

from django.core.management.base import CommandParser

from billing.credits import vouchers
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Cancel a batch of vouchers: what was not redeemed yet never will be."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("batch", type=int, metavar="BATCH")

    def run(self, **options: Any) -> dict[str, Any]:
        return {"batch": options["batch"], "cancelled": vouchers.cancel_batch(options["batch"])}
