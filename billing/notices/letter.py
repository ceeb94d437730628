"""The parts of an e-mail about a notification; billing/delivery/letters.py and the kinds of alerts write them. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

Payload = Mapping[str, Any]  # of a notification: JSON, amounts in micro-credits


class Letter(msgspec.Struct, frozen=True):
    subject: str
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    reason: str  # why this person gets it
    action: str = ""
    url: str = ""
