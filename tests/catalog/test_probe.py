"""The test button of a provider, against the sandbox that refuses what the real ones refuse."""

import pytest

from completions.catalog.probe import probe
from completions.models import Provider
from sandbox.server import SandboxServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def point(settings, sandbox: SandboxServer):
    settings.OPENROUTER_BASE_URL, settings.OPENROUTER_API_KEY = sandbox.base_url, "sk-or-sandbox"
    settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_API_KEY = sandbox.origin, "sk-ant-sandbox"
    return settings


def own(base_url: str, secret: str = "") -> Provider:
    provider = Provider(name="own", kind="openai", base_url=base_url)
    provider.set_secret(secret)
    return provider


@pytest.mark.parametrize("kind", ["openrouter", "anthropic"])
def test_a_provider_that_takes_our_key_is_well(point, kind):
    told = probe(Provider(name=kind, kind=kind))
    assert (told.is_well, told.status, told.words) == (True, 200, "It answers, and takes the key.")


@pytest.mark.parametrize("kind", ["openrouter", "anthropic"])
def test_a_refused_key_is_told(point, kind):
    point.OPENROUTER_API_KEY = point.ANTHROPIC_API_KEY = "invalid"
    told = probe(Provider(name=kind, kind=kind))
    assert (told.is_well, told.status, told.words) == (False, 401, "It answers, and refuses the key.")


def test_a_server_of_ones_own_is_asked_for_its_models(point, sandbox):
    assert probe(own(sandbox.base_url)).is_well


def test_a_wrong_address_is_told(point, sandbox):
    told = probe(own(f"{sandbox.origin}/elsewhere"))
    assert (told.status, told.words) == (404, "It answers, but not at this address: look at the base URL.")


def test_nobody_there_is_told(db):
    told = probe(own("http://127.0.0.1:9/v1"))
    assert (told.is_well, told.status, told.words) == (False, None, "No answer: ConnectionError.")


def test_a_secret_for_another_host_is_not_sent(sandbox):
    provider = own("https://elsewhere.example/v1", "hidden value")
    provider.base_url = sandbox.base_url
    told = probe(provider)
    assert told.status is None
    assert told.words.startswith("The stored secret cannot be used")
