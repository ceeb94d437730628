import csv
import os
from typing import Any

from django.core.management.base import CommandParser

from billing.credits import vouchers
from common.console import JsonCommand, moment


class Command(JsonCommand):
    help = "Make a batch of vouchers. Their codes are shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what the vouchers are for")
        parser.add_argument("count", type=int)
        parser.add_argument("micro", type=int, metavar="MICRO", help="micro-credits each")
        parser.add_argument("--redeem-until", type=moment, metavar="ISO", help="date or time; UTC unless it has a zone")
        parser.add_argument("--credit-days", type=int, metavar="N", help="the credits expire so long after redemption")
        parser.add_argument("--once-per-organization", action="store_true", help="no organization gets two of them")
        parser.add_argument("--csv", metavar="FILE", help="write the codes to a new file instead of showing them")

    def run(self, **options: Any) -> dict[str, Any]:
        # Opened first: codes that cannot be kept must not be made.
        out = _new_private_file(options["csv"]) if options["csv"] else None
        batch, codes = vouchers.create_batch(
            options["name"],
            options["count"],
            options["micro"],
            redeem_until=options["redeem_until"],
            credit_days=options["credit_days"],
            once_per_organization=options["once_per_organization"],
            created_by="manage.py createvouchers",
        )
        answer: dict[str, Any] = {"batch": batch.pk, "count": len(codes), "micro": batch.amount_micro}
        if out is None:
            return answer | {"codes": codes}
        with out:
            writer = csv.writer(out)
            writer.writerow(["code", "micro_credits", "redeem_until"])
            writer.writerows([code, batch.amount_micro, batch.redeem_until or ""] for code in codes)
        return answer | {"file": options["csv"]}


def _new_private_file(path: str) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", newline="", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"csv: {path} cannot be made: {error.strerror}") from None
