"""The public API document's examples, run as printed (tests/examples has them letter by letter).

Only the host and the key are put in. Each is a process of its own, as on a caller's machine.
"""

import json
import shutil
import sys

import pytest

from billing.ledger import balances
from tests.kit import TESTS
from tests.kit.examples import output
from tests.kit.live import Server
from tests.kit.tenants import Tenant

EXAMPLES = TESTS / "examples"
PARIS = "The capital of France is Paris.\n"


def printed(name: str, server: Server, tenant: Tenant) -> str:
    text = (EXAMPLES / name).read_text()
    assert text.count("https://api.quantized.us") == text.count("sk-quantized-YOUR-KEY") == 1
    return text.replace("https://api.quantized.us", server.origin).replace("sk-quantized-YOUR-KEY", tenant.api_key)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_curl(gateway: Server, alice: Tenant):
    answer = json.loads(output("sh", "-c", printed("curl.txt", gateway, alice)))
    expected = json.loads((EXAMPLES / "response.json").read_text())
    assert list(answer) == list(expected)
    assert answer["choices"][0].pop("logprobs") is None
    assert answer["choices"][0]["message"].pop("refusal") is None
    for own in ("id", "created", "system_fingerprint"):
        assert type(answer[own]) is type(expected.pop(own))
        del answer[own]
    assert answer == expected


@pytest.mark.parametrize("name", ["python.txt", "openai-sdk.txt"])
def test_python(gateway: Server, alice: Tenant, name: str):
    assert output(sys.executable, "-W", "error", "-c", printed(name, gateway, alice)) == PARIS
    balance = balances.balance(alice.organization_id)
    assert (balance.used, balance.remaining) == (2400, 997_600)
