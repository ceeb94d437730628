import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from billing.pricing.money import Usage
from completions.providers.record import Day, Dialogue, Generation, Inquiry, Report, Unreadable, usd


def inquiry(call_id: str) -> Inquiry:
    return Inquiry("/memory", (("of", call_id),))


def read(body: bytes) -> Generation:
    try:
        told = json.loads(body, parse_float=Decimal)
        return Generation(told["usd"], Usage(prompt_tokens=told["heard"], completion_tokens=told["said"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable("no memory") from error


def read_days(days: Sequence[date]) -> Dialogue:
    report: Report = {}
    for day in days:
        for told in (yield Inquiry("/days", (("on", str(day)),)))["paid"]:
            report[day, told["to"]] = Day(usd(told["usd"]), prompt_tokens=told["heard"], completion_tokens=told["said"])
    return report
