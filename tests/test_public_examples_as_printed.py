"""The public API document's examples, run as printed (tests/examples has them letter by letter).

Only the host and the key are put in. Each is a process of its own, as on a caller's machine.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from billing.ledger import balances
from tests.gateway_server import Server, Tenant

EXAMPLES = Path(__file__).parent / "examples"
TIMEOUT_S = 30
PARIS = "The capital of France is Paris.\n"


def printed(name: str, server: Server, tenant: Tenant) -> str:
    text = (EXAMPLES / name).read_text()
    assert text.count("https://api.quantized.us") == text.count("sk-quantized-YOUR-KEY") == 1
    return text.replace("https://api.quantized.us", server.origin).replace("sk-quantized-YOUR-KEY", tenant.api_key)


def output(*command: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "NO_PROXY": "*"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


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
