from typing import Any

from django.core.management.base import CommandParser

from accounts.models import ApiKey
from accounts.services import find_organization, issue_key
from common.console import JsonCommand, moment


class Command(JsonCommand):
    help = "Give an organization a new API key. The key is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="id or exact name")
        parser.add_argument("--name", default="", help="what people call the key")
        parser.add_argument("--limit", type=int, metavar="MICRO", help="spend limit in micro-credits, with --period")
        parser.add_argument("--period", choices=ApiKey.Period.values, help="UTC day, ISO week, month, or total")
        parser.add_argument("--models", type=names, metavar="A,B", help="the models it may use; default: all")
        parser.add_argument("--expires", type=moment, metavar="ISO", help="date or time; UTC unless it names a zone")
        parser.add_argument("--rpm", type=int, metavar="N", help="requests per minute")
        parser.add_argument("--tpm", type=int, metavar="N", help="tokens per minute")
        parser.add_argument("--concurrency", type=int, metavar="N", help="requests at the same time")

    def run(self, **options: Any) -> dict[str, Any]:
        row, plain_key = issue_key(
            find_organization(options["organization"]),
            options["name"],
            limit_micro=options["limit"],
            limit_period=options["period"],
            models=options["models"],
            expires_at=options["expires"],
            requests_per_minute=options["rpm"],
            tokens_per_minute=options["tpm"],
            concurrency=options["concurrency"],
        )
        return {
            "id": row.pk,
            "organization": row.organization_id,
            "name": row.name,
            "expires_at": row.expires_at,
            "api_key": plain_key,
        }


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
