from datetime import UTC, datetime
from typing import Any

import msgspec
from django.core.management.base import CommandParser

from billing.usage import rollups
from common.console import JsonCommand


class Command(JsonCommand):
    help = "Compute the roll-ups of usage anew from usage rows and mend what differs. Safe beside live traffic."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", metavar="ISO", help="from this hour on (the first call's)")
        parser.add_argument("--to", dest="end", metavar="ISO", help="before this hour (all that are final)")

    def run(self, **options: Any) -> dict[str, Any]:
        rebuilt = rollups.rebuild(moment("--from", options["start"]), moment("--to", options["end"]))
        current = rollups.roll_up()
        return {
            "from": rebuilt.start.isoformat(),
            "to": rebuilt.end.isoformat(),
            **msgspec.structs.asdict(rebuilt.written),
            "not_final": current,
        }


def moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} must be a date or a time such as 2026-11-18T10:00+00:00, not {text!r}") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)
