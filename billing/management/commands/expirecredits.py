from typing import Any

from accounts.management.output import JsonCommand
from billing import lots


class Command(JsonCommand):
    help = "One pass of expiry: take back what is left of grants whose time is over."

    def run(self, **options: Any) -> dict[str, Any]:
        return {"wallets": lots.expire()}
