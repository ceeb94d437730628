"""What a notification says to people: kind and payload → Letter. Pure; templates/emails/letter.* give it its looks.

A kind without words of its own is told by its payload, so that nothing is ever swallowed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from billing.pricing.money import MICRO

Payload = Mapping[str, Any]


class Letter(msgspec.Struct, frozen=True):
    subject: str
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    reason: str  # why this person gets it
    action: str = ""
    url: str = ""


def letter(kind: str, payload: Payload, organization: str | None, public_url: str) -> Letter:
    if organization is None:
        return for_operator(kind, payload, public_url)
    return WORDS.get(kind, plain)(kind, payload, organization, public_url)


def credits(micro: int) -> str:
    """`1,234.5 credits`: exact, without zeros that say nothing."""
    if micro == MICRO:
        return "1 credit"
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f"{rest:06}".rstrip("0")
    return f"{'−' if micro < 0 else ''}{whole:,}{'.' if decimals else ''}{decimals} credits"


def balance_low(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    return Letter(
        subject=f"{organization}: credits are running low",
        title="Credits are running low",
        paragraphs=(
            f"{organization} has {credits(payload['available'])} left for new calls, which is less than the "
            f"{credits(payload['threshold'])} you asked to be told about.",
            "When they are used up, calls are refused until credits are added.",
        ),
        rows=(("Available", credits(payload["available"])), ("Your threshold", credits(payload["threshold"]))),
        reason=f"You get this because of a balance alert of {organization}; change it at {public_url}/billing/alerts.",
        action="Add credits",
        url=f"{public_url}/billing",
    )


def budget_reached(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    whose = f"The key {payload['key_name'] or payload['key']} of {organization}" if payload["key"] else organization
    period = payload["period"]
    return Letter(
        subject=f"{organization}: {payload['percent']} % of the {PERIODS[period]} budget is used",
        title=f"{payload['percent']} % of the {PERIODS[period]} budget is used",
        paragraphs=(
            f"{whose} has used {credits(payload['spent'])} of a budget of {credits(payload['budget'])} this {period}.",
            "A budget only tells; it stops nothing. Limits that stop calls are set on keys.",
        ),
        rows=(
            ("Used", credits(payload["spent"])),
            ("Budget", credits(payload["budget"])),
            ("Since", payload["period_start"]),
        ),
        reason=f"You get this because of a budget alert of {organization}; change it at {public_url}/billing/alerts.",
        action="Look at the calls",
        url=f"{public_url}/activity?key={payload['key']}" if payload["key"] else f"{public_url}/activity",
    )


def statement_ready(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    return Letter(
        subject=f"{organization}: statement of {payload['month']}",
        title=f"Your statement of {payload['month']}",
        paragraphs=("It is attached as PDF, and as CSV for a spreadsheet.",),
        rows=(
            ("Opening balance", credits(payload["opening_balance"])),
            ("Used", credits(payload["credits_used"])),
            ("Closing balance", credits(payload["closing_balance"])),
        ),
        reason=f"You get this because you look after the credits of {organization}.",
        action="All statements",
        url=f"{public_url}/billing/statements",
    )


def webhook_failed(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    ended = () if payload["active"] else ("It answered 410 and was switched off.",)
    return Letter(
        subject=f"{organization}: a webhook could not be delivered",
        title="A webhook could not be delivered",
        paragraphs=("It was tried for about two days, or the endpoint would not have it.", *ended),
        rows=(("Endpoint", payload["url"]), ("Last attempt", payload["error"])),
        reason=f"You get this because you administer {organization}.",
        action="Look at the webhook",
        url=f"{public_url}/billing/webhooks/{payload['webhook']}",
    )


def plain(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    return Letter(
        subject=f"{organization}: {spelled(kind)}",
        title=spelled(kind).capitalize(),
        paragraphs=(),
        rows=rows_of(payload),
        reason=f"You get this as a member of {organization}.",
        action="Open Quantized",
        url=public_url,
    )


def for_operator(kind: str, payload: Payload, public_url: str) -> Letter:
    return Letter(
        subject=f"[Quantized] {spelled(kind)}",
        title=spelled(kind).capitalize(),
        paragraphs=(f"{public_url} asks somebody to look. This trouble is told once.",),
        rows=rows_of(payload),
        reason="You get this because you are one of OPERATOR_EMAILS.",
    )


def spelled(kind: str) -> str:
    return kind.replace(".", " ").replace("_", " ")


def rows_of(payload: Payload) -> tuple[tuple[str, str], ...]:
    return tuple((spelled(name), str(value)) for name, value in payload.items())


PERIODS = {"day": "daily", "week": "weekly", "month": "monthly"}
WORDS: dict[str, Callable[[str, Payload, str, str], Letter]] = {
    "balance.low": balance_low,
    "budget.reached": budget_reached,
    "statement.ready": statement_ready,
    "webhook.failed": webhook_failed,
}
