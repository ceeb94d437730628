"""Letters of this room, as text and as HTML of the same words."""

from collections.abc import Mapping
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string


def send(template: str, to: str, context: Mapping[str, Any]) -> None:
    letter(template, to, context).send()


def letter(template: str, to: str, context: Mapping[str, Any]) -> EmailMultiAlternatives:
    """`<template>_subject.txt` and `<template>_message.txt`. The HTML is set from the text, so both say the same:
    its paragraphs, and what stands on a line of its own (a code, a link) large enough to be seen."""
    subject = " ".join(render_to_string(f"{template}_subject.txt", context).split())
    text = render_to_string(f"{template}_message.txt", context).strip() + "\n"
    message = EmailMultiAlternatives(subject, text, to=[to])
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]
    code = context.get("code")
    html = render_to_string("accounts/email/letter.html", {"subject": subject, "paragraphs": paragraphs, "code": code})
    message.attach_alternative(html, "text/html")
    return message
