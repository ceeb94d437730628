"""What a notification says to people: kind and payload → Letter. Nothing is read or sent.
templates/emails/letter.* give it its looks.

A kind without words of its own is told by its payload, so that nothing is ever swallowed.
"""

from collections.abc import Callable

from billing.notices.kinds import kind_of_event
from billing.notices.letter import Letter, Payload
from common.numbers import spelled_credits


def letter(kind: str, payload: Payload, organization: str | None, public_url: str) -> Letter:
    if organization is None:
        return for_operator(kind, payload, public_url)
    if alert_kind := kind_of_event(kind):
        return alert_kind.letter(payload, organization, public_url)
    return WORDS.get(kind, plain)(kind, payload, organization, public_url)


def statement_ready(kind: str, payload: Payload, organization: str, public_url: str) -> Letter:
    return Letter(
        subject=f"{organization}: statement of {payload['month']}",
        title=f"Your statement of {payload['month']}",
        paragraphs=("It is attached as PDF, and as CSV for a spreadsheet.",),
        rows=(
            ("Opening balance", spelled_credits(payload["opening_balance"])),
            ("Used", spelled_credits(payload["credits_used"])),
            ("Closing balance", spelled_credits(payload["closing_balance"])),
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


WORDS: dict[str, Callable[[str, Payload, str, str], Letter]] = {
    "statement.ready": statement_ready,
    "webhook.failed": webhook_failed,
}
