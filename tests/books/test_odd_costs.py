"""A provider's own cost is only compared: whatever it is, it must not keep a call from being settled."""

import uuid
from decimal import Decimal

import msgspec
import pytest
from msgspec import Raw

from billing.ledger import journal
from billing.ledger.commands import Receipt, Reserve, Settle
from billing.models import Usage
from completions.providers.openai.usage import reported
from tests.kit.catalogs import make_price
from tests.kit.tenants import make_tenant


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("0.0076509169000000005", Decimal("0.007650916900000001")),
        ('"NaN"', None),
        ('"Infinity"', None),
        ("1e999999", None),
        ("-1", None),
        ("1e-400", Decimal(0)),
        ("1e-99999999", Decimal(0)),
        ("1e-999999999", Decimal(0)),
    ],
)
def test_a_cost_is_kept_or_left_out(db: None, said: str, kept: Decimal | None):
    raw = Raw(b'{"prompt_tokens": 1, "completion_tokens": 1, "cost": %b}' % said.encode())
    told = reported(raw, images=0, context_length=1000)
    assert told is not None
    assert told.usage is not None
    tenant, price, hold_id = make_tenant(), make_price(), uuid.uuid4()
    ids = {"wallet_id": tenant.organization_id, "hold_id": hold_id, "key_id": tenant.key_id}
    receipt = Receipt(model="m", provider="p", price_id=price.pk, reported_cost_usd=told.cost_usd)
    more = {"user_id": None, "model": "m", "price_id": price.pk, "provider": "p"}
    journal.execute([Reserve(**ids, **more, amount=5, floor=5, life_s=60)])
    journal.execute([msgspec.convert(msgspec.to_builtins(Settle(**ids, actual=5, receipt=receipt)), Settle)])
    assert Usage.objects.get(pk=hold_id).reported_cost_usd == kept
