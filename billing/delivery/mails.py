"""A delivery by e-mail: text and HTML of the same letter, and the files that belong to it.

The Message-ID is the delivery's own, so a mail that was sent twice is one in most mailboxes.
"""

import logging
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from billing.delivery.letters import letter
from billing.notices.models import Delivery, Notification
from billing.statements import files
from billing.statements.monthly import File

logger = logging.getLogger(__name__)


def send(delivery: Delivery) -> None:
    """Raises what smtplib raises."""
    if not settings.EMAIL_URL and not settings.DEBUG:
        logger.warning("EMAIL_URL is not set: mail %s is printed, and sent to nobody", delivery.pk)
    message(delivery).send()


def message(delivery: Delivery) -> EmailMultiAlternatives:
    notification = delivery.notification
    organization = notification.organization
    written = letter(
        notification.kind, notification.payload, organization.name if organization else None, settings.PUBLIC_URL
    )
    mail = EmailMultiAlternatives(
        subject=" ".join(written.subject.split()),
        body=render_to_string("emails/letter.txt", {"letter": written}),
        to=[delivery.target],
        headers={
            "Message-ID": f"<{delivery.pk.hex}@{urlsplit(settings.PUBLIC_URL).hostname}>",
            "Auto-Submitted": "auto-generated",  # no holiday notes in answer
        },
    )
    mail.attach_alternative(render_to_string("emails/letter.html", {"letter": written}), "text/html")
    for file in files_of(notification):
        mail.attach(file.name, file.content, file.content_type.partition(";")[0])
    return mail


def files_of(notification: Notification) -> list[File]:
    if notification.kind != files.READY or notification.organization_id is None:
        return []
    return files.attachments(notification.organization_id, notification.payload["month"])
