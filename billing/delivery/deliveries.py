"""Sends what is due of the outbox. Any number of passes may run at once.

A delivery is claimed by one conditional statement that also moves its due time behind a lease: whoever dies with it
leaves it due again. So it is sent at least once, and bears the same id every time. What fails is tried again with
growing pauses, and given up after the last of them; the row says so.
"""

import logging
import smtplib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection

from billing.delivery import mails
from billing.notices import outbox, webhook_http, webhooks
from billing.notices.models import Delivery, WebhookEndpoint
from common import sealing
from common.attempts import pause_s

logger = logging.getLogger(__name__)

PASS_S = 20  # a pass begins no delivery after this long: other tasks wait behind it
LEASE_S = 120  # longer than any delivery takes
# Nine attempts in a little more than two days.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000)
ERROR_CHARACTERS_MAX = 200
GONE = 410  # the receiver says that it will never take one again

CLAIM = """
UPDATE billing_delivery SET attempts = attempts + 1, due_at = statement_timestamp() + make_interval(secs => %s)
WHERE id = (
    SELECT id FROM billing_delivery
    WHERE delivered_at IS NULL AND gave_up_at IS NULL AND due_at <= statement_timestamp()
    ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
# Only by whoever claimed it last: one whose lease ran out has nothing to say any more.
MINE = "UPDATE billing_delivery SET {} WHERE id = %s AND attempts = %s AND delivered_at IS NULL AND gave_up_at IS NULL"
DELIVERED = MINE.format("delivered_at = statement_timestamp(), last_status = %s, last_error = ''")
POSTPONED = MINE.format("due_at = statement_timestamp() + make_interval(secs => %s), last_status = %s, last_error = %s")
GAVE_UP = MINE.format("gave_up_at = statement_timestamp(), last_status = %s, last_error = %s")


class Pass(NamedTuple):
    delivered: int
    postponed: int
    gave_up: int


class Outcome(msgspec.Struct, frozen=True):
    error: str = ""  # empty: delivered
    status: int | None = None
    permanent: bool = False


def send_due() -> Pass:
    """One pass over what is due."""
    ends_at = time.monotonic() + PASS_S
    states: list[str] = []
    while time.monotonic() < ends_at and (delivery := claim()) is not None:
        states.append(record(delivery, attempt(delivery)))
    return Pass(*(states.count(state) for state in Pass._fields))


def claim() -> Delivery | None:
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [LEASE_S])
        row = cursor.fetchone()
    if row is None:
        return None
    return Delivery.objects.select_related("notification__organization").get(pk=row[0])


def attempt(delivery: Delivery) -> Outcome:
    """The outermost edge of one delivery: whatever goes wrong with it, the others are sent."""
    try:
        return SENDERS[delivery.channel](delivery)
    except Exception as error:
        logger.exception("unexpected failure of delivery %s", delivery.pk)
        return Outcome(f"unexpected {type(error).__name__}")


def record(delivery: Delivery, outcome: Outcome) -> str:
    mine = (delivery.pk, delivery.attempts)
    error = outcome.error[:ERROR_CHARACTERS_MAX]
    if not error:
        return stored("delivered", DELIVERED, outcome.status, *mine)
    again_after_s = None if outcome.permanent else pause_s(PAUSES_S, delivery.attempts)
    if again_after_s is not None:
        return stored("postponed", POSTPONED, again_after_s, outcome.status, error, *mine)
    logger.warning("gave up %s of %s: %s", delivery.channel, delivery.notification_id, error)
    if delivery.channel == Delivery.Channel.WEBHOOK:
        tell_of_dead_webhook(delivery, error)
    return stored("gave_up", GAVE_UP, outcome.status, error, *mine)


def stored(state: str, statement: str, *params: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return state if cursor.rowcount else "overtaken"


# --- By e-mail --------------------------------------------------------------------------------------


def send_email(delivery: Delivery) -> Outcome:
    try:
        mails.send(delivery)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        return Outcome(f"refused with {codes}", permanent=all(code >= 500 for code in codes))
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(f"the mail server: {type(error).__name__}")
    return Outcome()


# --- By webhook -------------------------------------------------------------------------------------


def send_webhook(delivery: Delivery) -> Outcome:
    endpoint = WebhookEndpoint.objects.filter(pk=UUID(delivery.target)).first()
    if endpoint is None or not endpoint.active:
        return Outcome("the endpoint was removed or switched off", permanent=True)
    now = datetime.now(UTC)
    try:
        signing = webhooks.signing_secrets(endpoint, now)
    except sealing.Unreadable:
        return Outcome("its secret cannot be decrypted: rotate it")
    body = body_of(delivery)
    try:
        status = webhook_http.post(endpoint.url, body, headers_of(delivery, signing, int(now.timestamp()), body))
    except (webhook_http.Refused, webhook_http.Failed) as error:
        return Outcome(str(error))
    return answered(endpoint, status)


def answered(endpoint: WebhookEndpoint, status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status=status)
    if status == GONE:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(active=False)
        return Outcome("answered 410: the endpoint is switched off", status, permanent=True)
    return Outcome(f"answered {status}", status)  # redirects too: they are not followed


def body_of(delivery: Delivery) -> bytes:
    """The same bytes at every attempt."""
    notification = delivery.notification
    return msgspec.json.encode(
        {
            "type": notification.kind,
            "timestamp": notification.created_at.astimezone(UTC),
            "data": {"organization": str(notification.organization_id), **notification.payload},
        }
    )


def headers_of(delivery: Delivery, signing: list[str], timestamp: int, body: bytes) -> Mapping[str, str]:
    message_id = f"msg_{delivery.notification_id.hex}"
    return {
        "content-type": "application/json",
        "user-agent": "Quantized-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": webhooks.signature(signing, message_id, timestamp, body),
    }


def tell_of_dead_webhook(delivery: Delivery, error: str) -> None:
    """By e-mail, once a day for each endpoint."""
    endpoint = WebhookEndpoint.objects.filter(pk=UUID(delivery.target)).first()
    if endpoint is None:
        return
    today = datetime.now(UTC).date()
    outbox.notify(
        endpoint.organization_id,
        "webhook.failed",
        {"webhook": str(endpoint.pk), "url": endpoint.url, "error": error, "active": endpoint.active},
        dedupe_key=f"webhook.failed:{endpoint.pk}:{today}",
        roles=("owner", "admin"),
        webhook_ids=(),
    )


SENDERS: dict[str, Callable[[Delivery], Outcome]] = {
    Delivery.Channel.EMAIL: send_email,
    Delivery.Channel.WEBHOOK: send_webhook,
}
