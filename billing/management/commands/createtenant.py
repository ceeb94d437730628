from typing import Any

from django.core.management.base import CommandParser

from billing.credits import accounts
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Create an organization with its owner, wallet, first credits and first API key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--owner", required=True, metavar="EMAIL")
        parser.add_argument("--password", help="of a new owner; generated and printed when left out")
        parser.add_argument("--credits", type=int, default=0, metavar="MICRO", help="opening micro-credits")
        parser.add_argument("--unlimited", action="store_true", help="the wallet may go below zero without end")
        parser.add_argument("--overdraft", type=int, default=0, metavar="MICRO", help="what a call may cost too much")

    def run(self, **options: Any) -> dict[str, Any]:
        account = accounts.open_account(
            options["name"],
            options["owner"],
            password=options["password"],
            credits_micro=options["credits"],
            unlimited=options["unlimited"],
            overdraft_micro=options["overdraft"],
            actor="manage.py createtenant",
        )
        answer = {
            "organization": str(account.organization.pk),
            "owner": account.owner_email,
            "key_id": str(account.key.pk),
            "api_key": account.api_key,
        }
        return answer | ({"password": account.password} if account.password else {})
