from typing import Any

from django.core.management.base import CommandParser

from accounts.services import revoke_key
from common.console import JsonCommand


class Command(JsonCommand):
    help = "End an API key for good, on every worker within a second."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", metavar="KEY_ID", help="the id that issuekey printed")

    def run(self, **options: Any) -> dict[str, Any]:
        row = revoke_key(options["key"])
        return {"id": row.pk, "revoked_at": row.revoked_at}
