"""The outbox: whatever somebody has to be told is a row, written in the transaction of what it tells about.

`notify` tells an organization, `notify_operator` ourselves. billing/delivery/deliveries.py sends what is due; a
receiver may get a notification twice, with the same id, and never not at all without a delivery that says so. A door
of this room.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef

from accounts.models import Membership, User
from billing.notices.models import Delivery, Notification, WebhookEndpoint

logger = logging.getLogger(__name__)

KEPT = timedelta(days=180)
# Who hears of money unless somebody else is named.
MONEY_ROLES = (Membership.Role.OWNER, Membership.Role.BILLING)


@transaction.atomic
def notify(
    organization_id: UUID,
    kind: str,
    payload: Mapping[str, Any],
    *,
    dedupe_key: str | None = None,
    roles: Sequence[str] = MONEY_ROLES,
    addresses: Sequence[str] = (),
    webhook_ids: Sequence[UUID] | None = None,
) -> Notification | None:
    """Tell the organization's members of these roles, these addresses, and these webhooks (None: all of its own).

    The same `dedupe_key` again, of this organization, tells nobody and returns None. `payload` is what webhooks get
    as `data`: JSON, amounts in micro-credits. In the caller's transaction: it stays, or goes, with it.
    """
    notification = _store(organization_id, kind, payload, dedupe_key)
    if notification is not None:
        emails = {*_members(organization_id, roles), *addresses}
        _address(notification, Delivery.Channel.EMAIL, emails)
        _address(notification, Delivery.Channel.WEBHOOK, _webhooks(organization_id, webhook_ids))
    return notification


@transaction.atomic
def notify_operator(kind: str, dedupe_key: str, payload: Mapping[str, Any]) -> Notification | None:
    """Tell OPERATOR_EMAILS, once for each `dedupe_key`: name the trouble, and the day if it is news every day."""
    notification = _store(None, kind, payload, dedupe_key)
    if notification is not None:
        logger.error("for the operator: %s (%s)", kind, dedupe_key)
        _address(notification, Delivery.Channel.EMAIL, settings.OPERATOR_EMAILS)
    return notification


def forget_old() -> int:
    """Remove what was told long ago; how many rows. What is still on its way stays."""
    old = Notification.objects.filter(created_at__lt=datetime.now(UTC) - KEPT)
    on_its_way = Delivery.objects.filter(
        notification=OuterRef("pk"), delivered_at__isnull=True, gave_up_at__isnull=True
    )
    _, removed = old.filter(~Exists(on_its_way)).delete()
    return removed.get("billing.Notification", 0)


def _store(
    organization_id: UUID | None, kind: str, payload: Mapping[str, Any], dedupe_key: str | None
) -> Notification | None:
    told = Notification.objects.filter(organization=organization_id, dedupe_key=dedupe_key)
    if dedupe_key is not None and told.exists():
        return None
    try:
        with transaction.atomic():
            return Notification.objects.create(
                organization_id=organization_id, kind=kind, payload=dict(payload), dedupe_key=dedupe_key
            )
    except IntegrityError:
        if dedupe_key is not None and told.exists():  # somebody else was faster
            return None
        raise


def _address(notification: Notification, channel: str, targets: Iterable[str]) -> None:
    Delivery.objects.bulk_create(
        Delivery(notification=notification, channel=channel, target=target) for target in sorted(set(targets))
    )


def _members(organization_id: UUID, roles: Sequence[str]) -> Iterable[str]:
    members = User.objects.filter(
        memberships__organization_id=organization_id, memberships__role__in=roles, is_active=True
    )
    return members.values_list("email", flat=True)


def _webhooks(organization_id: UUID, webhook_ids: Sequence[UUID] | None) -> list[str]:
    found = WebhookEndpoint.objects.filter(organization_id=organization_id, active=True)
    if webhook_ids is not None:
        found = found.filter(pk__in=webhook_ids)
    return [str(pk) for pk in found.values_list("pk", flat=True)]
