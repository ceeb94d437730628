from typing import Any

from django.core.management.base import CommandParser

from accounts import services as accounts
from billing.credits import accounts as services
from common.console import JsonCommand, moment


class Command(JsonCommand):
    help = "Give an organization micro-credits. The same idempotency key again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG")
        parser.add_argument("micro", type=int, metavar="MICRO")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--idempotency-key")
        parser.add_argument("--expires", type=moment, metavar="ISO", help="when what is unspent is taken back")

    def run(self, **options: Any) -> dict[str, Any]:
        organization = accounts.find_organization(options["organization"])
        posted = services.grant(
            organization.pk,
            options["micro"],
            actor="manage.py grantcredits",
            reason=options["reason"],
            idempotency_key=options["idempotency_key"],
            expires_at=options["expires"],
        )
        return {"entry": posted.seq, "credits_remaining": posted.balance_after, "replayed": posted.replayed}
