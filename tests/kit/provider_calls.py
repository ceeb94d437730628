"""Calls that an upstream served, and what our books know of them: for reconciliation, the sweeper and the drift."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from billing.ledger import journal, rates
from billing.ledger.commands import Held, Mark, Receipt, Reserve, Settle, Void
from billing.models import Hold, Usage
from billing.pricing import money
from completions.models import Provider
from sandbox.calls import Call
from sandbox.server import SandboxServer
from tests.kit.books import make_hold_id
from tests.kit.catalogs import make_price, make_provider
from tests.kit.tenants import Tenant

BILLED_NOW = "generation_ms=0"


@contextmanager
def openrouter() -> Iterator[tuple[SandboxServer, Provider]]:
    """A sandbox and the provider that leads there, by a name of its own."""
    with SandboxServer() as sandbox:
        made = make_provider(
            f"or-{os.urandom(4).hex()}",
            kind="openrouter",
            base_url=sandbox.base_url,
            allow_plain_http=True,
        )
        made.set_secret("sk-or-test")
        made.save()
        yield sandbox, made


def serve(sandbox: SandboxServer, directive: str = "") -> Call:
    """One call as its provider sees it; nobody of ours knows of it."""
    served = httpx.post(
        f"{sandbox.base_url}/chat/completions",
        headers={"authorization": "Bearer sk-or-test"},
        json={
            "model": "any/model",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "metadata": {"sandbox": f"{BILLED_NOW} {directive}"},
        },
    )
    assert served.status_code == 200, served.text
    [call] = [call for call in sandbox.calls if call.id == served.json()["id"]]
    return call


def lost_call(tenant: Tenant, provider: str, reference: str | None, *, amount: int = 5_000, life_s: float = -1) -> UUID:
    """A call whose server died: dispatched with the provider's id of it, "" without it, None not at all."""
    price, rate, hold_id = make_price(), rates.current(), make_hold_id()
    ids: dict[str, Any] = {"wallet_id": tenant.organization_id, "hold_id": hold_id}
    more: dict[str, Any] = {"user_id": None, "model": "any/model", "price_id": price.pk, "provider": provider}
    reserve = Reserve(**ids, **more, key_id=None, amount=amount, floor=amount, life_s=life_s, rate_id=rate.pk)
    assert journal.execute([reserve]) == [Held(amount)]
    if reference is not None:
        journal.execute([Mark(**ids, provider=provider, provider_ref=reference)])
    return hold_id


def settled_call(tenant: Tenant, provider: str, reference: str, cost_usd: Decimal, **of_receipt: Any) -> Usage:
    """A call that ended as usual and was charged this cost; due for its look-up."""
    hold = Hold.objects.get(pk=lost_call(tenant, provider, reference, life_s=600, amount=50_000))
    settle = Settle(
        wallet_id=hold.wallet_id,
        hold_id=hold.pk,
        key_id=None,
        actual=rates.struct(hold).micro(money.pico(cost_usd)),
        receipt=receipt(hold, provider, reference, money.pico(cost_usd), **of_receipt),
    )
    journal.execute([settle])
    return Usage.objects.get(pk=hold.pk)


def failed_call(tenant: Tenant, provider: str, reference: str) -> Usage:
    """A call that was begun at its provider and failed: voided, and to be looked up all the same."""
    hold = Hold.objects.get(pk=lost_call(tenant, provider, reference, life_s=600))
    given = receipt(hold, provider, reference, 0)
    journal.execute([Void(wallet_id=hold.wallet_id, hold_id=hold.pk, key_id=None, receipt=given)])
    return Usage.objects.get(pk=hold.pk)


def receipt(hold: Hold, provider: str, reference: str, cost_pico: int, **given: Any) -> Receipt:
    named: dict[str, Any] = {"reconciliation": "pending", "reconcile_after_s": 0} | given
    return Receipt(
        model=hold.model,
        provider=provider,
        price_id=hold.price_id,
        provider_ref=reference,
        cost_pico=cost_pico,
        **named,
    )
