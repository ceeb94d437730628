"""Tenants with calls, and their members' browsers, for the tests of the dashboard."""

import csv
import re
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.test import Client

from accounts.models import User
from billing.pricing.money import Usage as Tokens
from tests.kit.books import do, make_receipt
from tests.kit.tenants import Tenant

TOKENS = Tokens(prompt_tokens=100, completion_tokens=20)
COST_PICO = 140_000_000  # at 1 and 2 USD per million tokens
PRICE_MICRO = 14_737  # 0.00014 USD x 100 credits / 0.95, rounded up


def text(page: Any) -> str:
    """What a reader sees, in one line."""
    html = re.sub(r"<(script|style|title|template).*?</\1>", " ", page.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\xa0", " ").split())


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def call(tenant: Tenant, charged: int = PRICE_MICRO, *, key: UUID | None = None, **of: Any) -> UUID:
    """One that was answered."""
    hold_id = tenant.hold(charged, key=key)
    told = {"usage": TOKENS, "cost_pico": COST_PICO, "finish_reason": "stop"} | of
    do(tenant.settle(hold_id, charged, key=key, **told))
    return hold_id


def failed_call(tenant: Tenant, code: str = "provider_unavailable", **of: Any) -> UUID:
    hold_id = tenant.hold(10)
    do(tenant.void(hold_id, receipt=make_receipt(price_id=tenant.price_id, error_code=code, **of)))
    return hold_id


def downloaded(response: Any) -> list[list[str]]:
    """The rows of a CSV file that is streamed as a server would stream it."""
    assert response.headers["content-type"] == "text/csv; charset=utf-8"

    async def read() -> bytes:
        return b"".join([part async for part in response.streaming_content])

    return list(csv.reader(async_to_sync(read)().decode().splitlines()))
