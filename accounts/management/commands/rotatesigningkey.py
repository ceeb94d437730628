from typing import Any

from django.core.management.base import CommandParser

from accounts.signing_keys import public_keys, rotate
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Sign access tokens with a new key. Those signed with the old one stay good until they expire."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--refuse-old", action="store_true", help="after a leak: refuse at once what older keys have signed"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        key = rotate(is_old_refused=options["refuse_old"])
        return {"kid": key.kid, "still_accepted": [kid for kid in public_keys() if kid != key.kid]}
