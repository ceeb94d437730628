"""Every public endpoint answers as it was recorded: the bytes, the charges, the receipts, the rows in the ledger.

A story that answers otherwise fails with the difference. Was that meant? Then take the recordings anew and read what
`git diff` says of them, as a caller would:

    RECORD_ANSWERS=1 .venv/bin/python -m pytest tests/live/test_recorded_answers.py [-k "the stories"]

Nothing is compared then; the run says which files it has written. How exchanges are kept:
tests/kit/recorded_answers.py; which there are: tests/kit/recorded_calls.py."""

import difflib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

from completions.models import Provider, Route
from tests.kit import MODEL
from tests.kit.calls import post, shared_server
from tests.kit.canned_provider import CannedProvider
from tests.kit.catalogs import make_price, make_provider, make_route
from tests.kit.live import Server
from tests.kit.recorded_answers import DIRECTORY, layout, read, write
from tests.kit.recorded_calls import (
    AWAY,
    CANNED,
    LOCAL,
    SECOND_AFTER_AWAY,
    SECOND_AFTER_CANNED,
    STORIES,
    Places,
    Wire,
)
from tests.kit.tenants import make_tenant

IS_RECORDING = os.environ.get("RECORD_ANSWERS", "") not in ("", "0")
EVERY_CAPABILITY = [
    *("tools", "structured_outputs", "json_mode", "reasoning", "logprobs", "web_search", "prompt_caching"),
    *("image_input", "file_input", "audio_input", "audio_output", "image_output"),
]
# A price for every class, and a tier.
EVERY_PRICE: dict[str, Any] = {
    "input": "0.40",
    "output": "1.60",
    "cache_read": "0.10",
    "cache_write_5m": "0.50",
    "cache_write_1h": "0.80",
    "reasoning": "2.40",
    "audio_input": "4.00",
    "audio_output": "8.00",
    "image": "0.002",
    "request": "0.0001",
    "web_search": "0.01",
    "tiers": [{"above_prompt_tokens": 1000, "input": "0.80", "output": "3.20"}],
}


@pytest.fixture(scope="module")
def canned() -> Iterator[CannedProvider]:
    with CannedProvider() as provider:
        yield provider


@pytest.fixture
def places(
    server_environment: dict[str, str],
    shared_servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
    gateway: Server,
    sandbox: Any,
    canned: CannedProvider,
) -> Places:
    if not Route.objects.filter(model_id=SECOND_AFTER_AWAY).exists():
        add_routes(sandbox.base_url, canned.origin)
        wait_until_known(gateway, SECOND_AFTER_AWAY)
    hurry = {"UPSTREAM_READ_TIMEOUT_S": "1", "FIRST_EVENT_WAIT_S": "0.3"}
    impatient = shared_server(shared_servers, "recorded", {**server_environment, **hurry}, tmp_path_factory)
    sandbox.reset()
    return Places(gateway, impatient, canned)


def add_routes(sandbox_url: str, canned_origin: str) -> None:
    """To the sandbox as any server that speaks OpenAI's API, to a canned one, and to nobody; two have a second."""

    def provider(name: str, url: str) -> Provider:
        row = make_provider(f"recorded-{name}", kind="openai", base_url=url, allow_plain_http=True)
        row.set_secret("sk-recorded")
        row.save()
        return row

    local, canned, away = (
        provider("local", sandbox_url),
        provider("canned", canned_origin),
        provider("away", settings.ANTHROPIC_BASE_URL),
    )
    price = make_price(**EVERY_PRICE)
    make_route(LOCAL, local, upstream_model=MODEL, capabilities=EVERY_CAPABILITY, price=price)
    make_route(CANNED, canned)
    make_route(AWAY, away)
    for model, first in ((SECOND_AFTER_CANNED, canned), (SECOND_AFTER_AWAY, away)):
        dearer = make_price(input="0.80", output="3.20")
        make_route(model, local, upstream_model=MODEL, priority=1, price=dearer)
        make_route(model, first)


def wait_until_known(server: Server, model: str) -> None:
    """The server hears of a new catalog a moment after it is there."""
    tenant, asked = make_tenant(), Wire(model).body({})
    while post(server, tenant, asked, {"x-quantized-provider": "nobody"}).status == 404:
        pass  # the test's own time-out ends it


class Book:
    """The recordings by family: what is compared with, or what is written in the end."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, Any]] = {}
        self._read: dict[str, dict[str, Any]] = {}

    def recorded(self, family: str) -> dict[str, Any]:
        if family not in self._read:
            self._read[family] = read(family)
        return self._read[family]

    def take(self, family: str, story: str, exchanges: dict[str, Any]) -> None:
        self.taken.setdefault(family, {})[story] = exchanges

    def write(self) -> Iterator[str]:
        DIRECTORY.mkdir(exist_ok=True)
        for family, taken in self.taken.items():
            told = {story: taken.get(story) or self.recorded(family).get(story) for story in stories_of(family)}
            path = write(family, {story: exchanges for story, exchanges in told.items() if exchanges})
            yield f"RECORD_ANSWERS: wrote {path.relative_to(DIRECTORY.parents[2])}, {len(taken)} stories anew"


def stories_of(family: str) -> list[str]:
    return [name.partition("/")[2] for name in STORIES if name.partition("/")[0] == family]


FAMILIES = list(dict.fromkeys(name.partition("/")[0] for name in STORIES))


@pytest.fixture(scope="module")
def book(request: pytest.FixtureRequest) -> Iterator[Book]:
    book = Book()
    yield book
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        for line in book.write():
            plugins.getplugin("terminalreporter").ensure_newline()
            plugins.getplugin("terminalreporter").write_line(line)


@pytest.mark.parametrize("name", STORIES)
def test_an_answer_is_what_was_recorded(places: Places, book: Book, name: str) -> None:
    family, _, story = name.partition("/")
    exchanges = STORIES[name](places).exchanges
    if IS_RECORDING:
        assert "PYTEST_XDIST_WORKER" not in os.environ, "recordings are written by one process"
        book.take(family, story, exchanges)
        return
    recorded = book.recorded(family).get(story)
    assert recorded is not None, "there is no recording of this story: take it with RECORD_ANSWERS=1"
    expected, answered = layout(recorded), layout(exchanges)
    if answered != expected:
        pytest.fail(f"{name} is answered otherwise:\n{difference(expected, answered)}", pytrace=False)


def difference(recorded: str, answered: str) -> str:
    lines = (text.splitlines() for text in (recorded, answered))
    return "\n".join(difflib.unified_diff(*lines, "recorded", "answered", lineterm="", n=4))


def test_every_recording_is_replayed() -> None:
    """No file, and no story in a file, that nobody tells any more."""
    if IS_RECORDING:
        pytest.skip("the recordings are being taken")
    assert {path.stem for path in DIRECTORY.iterdir()} == set(FAMILIES)
    for family in FAMILIES:
        assert list(read(family)) == stories_of(family), family
