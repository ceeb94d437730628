from typing import Any

from billing.credits import lots
from common.console import JsonCommand


class Command(JsonCommand):
    help = "One pass of expiry: take back what is left of grants whose time is over."

    def run(self, **options: Any) -> dict[str, Any]:
        return {"wallets": lots.expire()}
