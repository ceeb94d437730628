"""README's and docs/api.md's examples, run as printed; only the host and the key are put in."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit import CHECKOUT, MODEL
from tests.kit.examples import output
from tests.kit.live import Server
from tests.kit.tenants import Tenant

README, API = CHECKOUT / "README.md", CHECKOUT / "docs" / "api.md"
HOST, KEY = "http://127.0.0.1:8000", "sk-quantized-YOUR-KEY"
OWN = ("id", "created")  # what no two answers have in common


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def printed(snippet: str, server: Server, tenant: Tenant) -> str:
    assert snippet.count(HOST) == snippet.count(KEY) == 1
    return snippet.replace(HOST, server.origin).replace(KEY, tenant.api_key)


def python(snippet: str, server: Server, tenant: Tenant) -> str:
    return output(sys.executable, "-W", "error", "-c", printed(snippet, server, tenant))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
@pytest.mark.parametrize("page", [README, API], ids=lambda page: page.name)
def test_curl_answers_what_is_shown(gateway: Server, alice: Tenant, page: Path):
    [command] = blocks(README, "sh")
    shown = next(answer for answer in map(json.loads, blocks(page, "json")) if answer.get("choices"))
    answered = json.loads(output("sh", "-c", printed(command, gateway, alice)))
    assert list(answered) == list(shown)
    for name in OWN:
        assert type(answered.pop(name)) is type(shown.pop(name))
    assert answered == shown


@pytest.mark.parametrize("number", [0, 1], ids=["httpx", "openai"])
def test_python_prints_what_is_said(gateway: Server, alice: Tenant, number: int):
    httpx_and_openai = blocks(README, "python")
    assert len(httpx_and_openai) == 2
    said = python(httpx_and_openai[number], gateway, alice)
    assert f"`{said.strip()}`" in README.read_text()
    assert said == "The capital of France is Paris.\n"


def test_the_stream_prints_what_is_said(gateway: Server, alice: Tenant):
    [snippet] = [block for block in blocks(API, "python") if "stream=True" in block]
    assert python(snippet, gateway, alice) == "2 + 2 = 4.\n2148 997852\n"
    assert "prints `2 + 2 = 4.` and `2148 997852`" in API.read_text()


def shape(value: Any) -> Any:
    """The keys of an object and of the objects in it, in order."""
    return [(name, shape(inner)) for name, inner in value.items()] if isinstance(value, dict) else None


@pytest.mark.parametrize("kind", ["model", "credits", "key", "generation"])
def test_objects_have_the_keys_that_are_shown(gateway: Server, alice: Tenant, kind: str):
    with httpx.Client(base_url=gateway.base_url, headers=alice.headers, trust_env=False) as client:
        question = {"model": MODEL, "messages": [{"role": "user", "content": "What is 2+2?"}]}
        call = client.post("/chat/completions", json=question).json()
        paths = {"model": f"/models/{MODEL}", "generation": f"/generation?id={call['id']}"}
        answered = client.get(paths.get(kind, f"/{kind}")).json()
    [shown] = [found for found in map(json.loads, blocks(API, "json")) if found.get("object") == kind]
    assert shape(answered) == shape(shown)
