"""Two price classes from the catalog file to the receipt, for a checkout whose table has their two lines more.

Run by test_price_classes.py as a process of its own: `python -m tests.kit.new_price_class`. Says what it saw as JSON
and leaves the database as it was.
"""

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quantized.settings")
django.setup()

import msgspec  # noqa: E402  # what follows needs Django
from django.db import transaction  # noqa: E402
from django.test import RequestFactory  # noqa: E402

from billing.credits.accounts import open_account  # noqa: E402
from billing.ledger import journal  # noqa: E402
from billing.ledger.commands import Receipt, Reserve, Settle  # noqa: E402
from billing.models import Price, Usage  # noqa: E402
from billing.pricing import money  # noqa: E402
from billing.usage import receipts  # noqa: E402
from common.ids import generation_id  # noqa: E402
from completions.api import account  # noqa: E402
from completions.api.models import ModelView  # noqa: E402
from completions.catalog import file, price_changes, services  # noqa: E402
from completions.catalog.loader import load_catalog  # noqa: E402
from completions.models import Route  # noqa: E402
from quantized.dashboard import activity, models  # noqa: E402
from quantized.documents import document  # noqa: E402
from quantized.operator import books  # noqa: E402
from quantized.operator.prices import PriceForm  # noqa: E402
from tests.kit.books import make_hold_id  # noqa: E402

MODEL = "acme/speaker"
CATALOG = """
[[providers]]
name = "acme"
kind = "openai"
base_url = "https://acme.example/v1"
[[models]]
id = "acme/speaker"
name = "Speaker"
owned_by = "acme"
created = 2026-01-01
[[models.routes]]
provider = "acme"
upstream_model = "speaker"
capabilities = ["speech"]
context_length = 1_000_000
max_output_tokens = 1000
price = { input = 1, output = 2, characters = 0.000015, video_input = 3 }
tiers = [{ above_prompt_tokens = 200_000, characters = 0.000030 }]
"""
USAGE = money.Usage(prompt_tokens=100, completion_tokens=10, units=money.units(characters=1_200, video_tokens=40))
LONG = money.Usage(prompt_tokens=300_000, units=money.units(characters=1))


def main() -> dict[str, Any]:
    services.load(file.parse(CATALOG))
    row = Route.objects.select_related("price").get(model_id=MODEL)
    route = load_catalog().models[MODEL].routes[0]
    rates = route.price.base
    cost_pico = money.cost_pico(USAGE, route.price)
    shown = ModelView.as_view()(RequestFactory().get("/"), model_id=MODEL)
    generation, usage = settle(row, cost_pico)
    found = receipts.receipt(usage.wallet_id, generation)
    assert found is not None
    arithmetic = activity.sum_of(found)
    assert arithmetic is not None
    return {
        "without its price": refusal(CATALOG.replace("characters = 0.000015, ", "")),
        "row": row.price.rates,
        "cost_pico": cost_pico,
        "of a long prompt": money.cost_pico(LONG, route.price),
        "held": [
            money.units_pico(rates, {"characters": 2_000}),
            money.dearest(rates, "input", False),
        ],
        "units": usage.units,
        "lines": money.lines(usage.to_struct(), found.price.to_struct()),
        "receipt": [(item.name, item.quantity, item.cost_pico) for item in arithmetic.items],
        "operator's": [(line["name"], line["usd_each"]) for line in books.arithmetic(found)["lines"]],
        "generation": json.loads(msgspec.json.encode(account.receipt_body(found).price)),
        "model": json.loads(shown.content)["providers"][0]["pricing"],
        "page": [(rate.name, rate.is_token) for rate in models.rates_of(rates)],
        "form": [PriceForm(row)[name].value() for name in ("characters", "video_input")],
        "difference": [line.name for line in price_changes.difference(row.price, {"input": row.price.usd["input"]})],
        "documented": list(json.loads(document()[0])["components"]["schemas"]["Rates"]["properties"])[-2:],
    }


def settle(row: Route, cost_pico: int) -> tuple[str, Usage]:
    of = open_account("Acme", "alice@example.org", credits_micro=1_000_000, actor="test")
    hold_id = make_hold_id()
    ids = {"wallet_id": of.organization.pk, "hold_id": hold_id, "key_id": of.key.pk}
    call = {"model": MODEL, "provider": "acme", "price_id": row.price_id}
    receipt = Receipt(**call, usage=USAGE, cost_pico=cost_pico)
    reserve = Reserve(**ids, **call, user_id=None, amount=5_000, floor=5_000, life_s=60)
    journal.execute([reserve, Settle(**ids, actual=5_000, receipt=receipt)])
    return generation_id(hold_id), Usage.objects.get(pk=hold_id)


def refusal(text: str) -> str:
    try:
        file.parse(text)
    except file.CatalogError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    with transaction.atomic():
        assert not Price.objects.filter(rates__has_key="characters").exists()
        json.dump(main(), sys.stdout)
        transaction.set_rollback(True)
