"""Tenants' endpoints for webhooks, and the signature of what they get: Standard Webhooks (standardwebhooks.com).

Everything about an endpoint is asked for by its organization: another one's id is not found. A door of this room.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import Organization
from billing.notices import outbox
from billing.notices.models import Delivery, WebhookEndpoint
from billing.notices.webhook_http import Refused, target_of
from common import sealing
from common.checks import Invalid

PURPOSE = "webhook secret"
SECRET_PREFIX = "whsec_"  # noqa: S105 - says what follows
SECRET_BYTES = 32
ENDPOINTS_MAX = 5  # of one organization
OVERLAP = timedelta(days=1)
OVERLAP_MAX = timedelta(days=30)


class Keyed(NamedTuple):
    endpoint: WebhookEndpoint
    secret: str  # shown once


def endpoints_of(organization_id: UUID) -> list[WebhookEndpoint]:
    return list(WebhookEndpoint.objects.filter(organization_id=organization_id).order_by("created_at"))


def find_endpoint(organization_id: UUID, endpoint_id: UUID) -> WebhookEndpoint:
    found = WebhookEndpoint.objects.filter(organization_id=organization_id, pk=endpoint_id).first()
    if found is None:
        raise Invalid("webhook", f"there is none with the id {endpoint_id}")
    return found


@transaction.atomic
def create_endpoint(organization_id: UUID, url: str) -> Keyed:
    """The secret is in the answer, and nobody can read it ever again."""
    checked = checked_url(url)
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)  # two at once are counted one by one
    if WebhookEndpoint.objects.filter(organization_id=organization_id).count() >= ENDPOINTS_MAX:
        raise Invalid("webhook", f"an organization has at most {ENDPOINTS_MAX}")
    secret = make_secret()
    try:
        with transaction.atomic():
            endpoint = WebhookEndpoint.objects.create(
                organization_id=organization_id, url=checked, secret_sealed=seal(secret)
            )
    except IntegrityError:
        raise Invalid("url", "is an endpoint already") from None
    return Keyed(endpoint, secret)


@transaction.atomic
def rotate_secret(organization_id: UUID, endpoint_id: UUID, overlap: timedelta = OVERLAP) -> Keyed:
    """A new secret; during the overlap every notification is signed with the old one too."""
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise Invalid("overlap", f"must be between 0 and {OVERLAP_MAX.days} days")
    found = find_endpoint(organization_id, endpoint_id)
    endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=found.pk)
    secret = make_secret()
    endpoint.previous_secret_sealed = endpoint.secret_sealed if overlap else ""
    endpoint.previous_ends_at = datetime.now(UTC) + overlap if overlap else None
    endpoint.secret_sealed = seal(secret)
    endpoint.save(update_fields=["secret_sealed", "previous_secret_sealed", "previous_ends_at"])
    return Keyed(endpoint, secret)


def set_active(organization_id: UUID, endpoint_id: UUID, active: bool) -> WebhookEndpoint:
    """An endpoint that is not active is not called; what was on its way is given up."""
    found = find_endpoint(organization_id, endpoint_id)
    WebhookEndpoint.objects.filter(pk=found.pk).update(active=active)
    return find_endpoint(organization_id, endpoint_id)


def delete_endpoint(organization_id: UUID, endpoint_id: UUID) -> None:
    find_endpoint(organization_id, endpoint_id).delete()


def send_test(organization_id: UUID, endpoint_id: UUID) -> None:
    """A notification of the kind `webhook.test`, to this endpoint alone."""
    endpoint = find_endpoint(organization_id, endpoint_id)
    if not endpoint.active:
        raise Invalid("webhook", "is not active")
    outbox.notify(organization_id, "webhook.test", {"webhook": str(endpoint.pk)}, roles=(), webhook_ids=[endpoint.pk])


def deliveries_of(organization_id: UUID, endpoint_id: UUID, limit: int = 50) -> list[Delivery]:
    """What was sent to the endpoint, the newest first, each with its notification."""
    endpoint = find_endpoint(organization_id, endpoint_id)
    sent = Delivery.objects.filter(channel=Delivery.Channel.WEBHOOK, target=str(endpoint.pk))
    return list(sent.select_related("notification").order_by("-notification__created_at")[:limit])


def checked_url(url: str) -> str:
    url = url.strip()
    try:
        target_of(url)
    except Refused as error:
        raise Invalid("url", str(error)) from None
    return url


# --- Secrets and signatures -------------------------------------------------------------------------


def make_secret() -> str:
    return SECRET_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str) -> str:
    return sealing.seal(secret.encode(), PURPOSE)


def signing_secrets(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """One, or during a rotation two; the newest first."""
    sealed = [endpoint.secret_sealed]
    if endpoint.previous_ends_at is not None and endpoint.previous_ends_at > now:
        sealed.append(endpoint.previous_secret_sealed)
    return [sealing.unseal(text, PURPOSE).decode() for text in sealed]


def signature(signing: list[str], message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` for each secret, with a space between."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_mac(secret, signed)}" for secret in signing)


def _mac(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(SECRET_PREFIX))
    return b64encode(hmac.digest(key, signed, "sha256")).decode()
