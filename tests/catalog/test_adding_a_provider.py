"""docs/ADDING_A_PROVIDER.md, followed: a kind that is one folder with one record is everywhere where a kind must be.

The kind is tests/kit/telepathy, with a wire format, headers, settings, rules and bills of its own.
"""

import json
import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from accounts.models import User
from benchmarks.contenders import BODY, STREAM_BODY
from benchmarks.upstream import ANSWER
from billing.ledger.kernel import Mark, Reserve, Settle, Void
from billing.models import ProviderDay
from billing.pricing.money import Price, Rates, Usage, cost_pico
from completions.catalog import file, services
from completions.catalog.loader import load_catalog
from completions.catalog.probe import probe
from completions.models import Provider
from completions.providers.kinds import KINDS
from completions.reconciliation import days, lookups
from completions.routes import Provider as Upstream
from completions.routes import Route
from tests.kit import CHECKOUT, MODEL
from tests.kit.calls import assert_error
from tests.kit.canned_provider import CannedProvider, response
from tests.kit.catalogs import make_provider, make_route
from tests.kit.field_table import field_table
from tests.kit.telepathy.adapter import LINES
from tests.kit.telepathy.kind import TELEPATHY, Rules
from tests.kit.world import BALANCE_MICRO, World, in_world, openrouter

PAGE = CHECKOUT / "docs" / "ADDING_A_PROVIDER.md"
MEDIUM = "http://127.0.0.1:9/minds"
PRICE = Price(7, 1, Rates(input=1_000_000, output=2_000_000))
TOOK = Usage(prompt_tokens=25, completion_tokens=8)
THOUGHTS = [b'{"mind":"t-1"}\n{"wo', b'rd":"Paris"}\n', b'{"word":", I feel."}\n{"end":"enough","heard":25,"said":8}\n']
WHOLE = b"".join(THOUGHTS)

# WhiteNoise warns of the directory that `collectstatic` makes in production.
pytestmark = pytest.mark.filterwarnings("ignore:No directory at")


@pytest.fixture(autouse=True)
def telepathy(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    """The kind is in the table, its settings are made."""
    monkeypatch.setitem(KINDS, TELEPATHY.name, TELEPATHY)
    settings.TELEPATHY_BASE_URL, settings.TELEPATHY_HANDSHAKE = MEDIUM, "grip"
    settings.TELEPATHY_BOOKKEEPER = ""
    return settings


def medium() -> Route:
    return Route(
        id=3,
        model=MODEL,
        provider=Upstream(3, "mind", "telepathy", MEDIUM, "grip"),
        upstream_model="medium",
        priority=0,
        capabilities=frozenset(),
        context_length=8_192,
        max_output_tokens=1_024,
        price=PRICE,
        rules=Rules(),
    )


# --- The whole pipeline ---------------------------------------------------------------------------


def assert_charged(world: World, *, streamed: bool) -> None:
    """Held before it was asked, charged for what it counted, its bill to be looked up."""
    reserve, *marks, settle = world.wire.commands
    assert isinstance(reserve, Reserve)
    assert isinstance(settle, Settle)
    assert all(isinstance(mark, Mark) for mark in marks)
    assert settle.hold_id == reserve.hold_id
    assert settle.actual == world.runtime.terms.rate.micro(cost_pico(TOOK, PRICE)) <= reserve.amount
    receipt = settle.receipt
    assert (receipt.provider, receipt.provider_ref, receipt.usage) == ("mind", "t-1", TOOK)
    assert (receipt.streamed, receipt.estimated, receipt.finish_reason) == (streamed, False, "stop")
    assert (receipt.reconciliation, receipt.reconcile_after_s) == ("pending", 60)


def test_a_whole_answer() -> None:
    async def work(world: World) -> None:
        world.upstream.answers(WHOLE)
        answer = await world.ask(BODY)
        assert (answer.status, answer.headers["x-quantized-provider"]) == (200, "mind")
        [choice] = answer.json["choices"]
        assert choice["message"] == {"role": "assistant", "content": "Paris, I feel.", "refusal": None}
        assert choice["finish_reason"] == "stop"
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (25, 8)
        assert answer.usage["credits_remaining"] == BALANCE_MICRO
        [request] = world.upstream.requests
        assert (request.path, dict(request.headers)["x-handshake"]) == ("/think", "grip")
        sent = json.loads(request.body)
        assert (sent["to"], [role for role, _ in sent["thoughts"]]) == ("medium", ["system", "user"])
        assert sent["words_max"] == json.loads(BODY)["max_tokens"]
        assert_charged(world, streamed=False)

    in_world(work, medium())


def test_a_stream() -> None:
    async def work(world: World) -> None:
        world.upstream.streams(THOUGHTS, LINES)
        answer = await world.ask(STREAM_BODY)
        assert (answer.status, answer.text, answer.events[-1]) == (200, "Paris, I feel.", "[DONE]")
        assert_charged(world, streamed=True)

    in_world(work, medium())


@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["whole", "streamed"])
def test_what_it_refuses_is_told_and_costs_nothing(body: bytes) -> None:
    async def work(world: World) -> None:
        world.upstream.answers(b'{"lost":"too dark a thought"}', status=400)
        answer = await world.ask(body)
        message = "The mind refused: too dark a thought."
        assert_error(answer, 400, "invalid_request_error", "invalid_request", None, message, is_call=True)
        assert [type(command) for command in world.wire.commands] == [Reserve, Void]

    in_world(work, medium())


@pytest.mark.parametrize(
    ("thoughts", "outcome"),
    [
        ([b'{"lost":"static"}\n'], "unavailable"),
        ([b"hm\n"], "malformed_response"),
        ([b'{"mind":"t-1"}\n'], "unavailable"),
    ],
    ids=["failed", "malformed", "cut off"],
)
def test_a_stream_that_breaks_before_its_first_word_is_a_503_and_releases_the_hold(
    thoughts: list[bytes], outcome: str
) -> None:
    async def work(world: World) -> None:
        world.upstream.streams(thoughts, LINES)
        answer = await world.ask(STREAM_BODY)
        assert (answer.status, answer.error["code"]) == (503, "provider_unavailable")
        *_, void = world.wire.commands
        assert isinstance(void, Void)
        assert void.receipt is not None
        assert void.receipt.error_code == outcome

    in_world(work, medium())


def test_a_stream_that_breaks_later_says_so_and_is_charged_for_what_came() -> None:
    async def work(world: World) -> None:
        world.upstream.streams([b'{"mind":"t-1"}\n{"word":"Paris"}\n', b'{"lost":"static"}\n'], LINES)
        answer = await world.ask(STREAM_BODY)
        assert (answer.status, answer.events[-1]["error"]["code"]) == (200, "provider_error")
        *_, settle = world.wire.commands
        assert isinstance(settle, Settle)
        assert (settle.receipt.estimated, settle.receipt.error_code) == (True, "unavailable")
        assert settle.actual > 0

    in_world(work, medium())


@pytest.mark.parametrize("first", ["mind", "openrouter"])
def test_another_kind_takes_over(first: str) -> None:
    other = openrouter()
    routes = (medium(), other) if first == "mind" else (other, medium())
    second = routes[1].provider.name

    async def work(world: World) -> None:
        if first == "mind":
            world.upstream.answers(b'{"lost":"asleep"}', status=503, at=MEDIUM)
        else:
            world.upstream.answers(b"{}", status=503)
            world.upstream.answers(WHOLE, at=MEDIUM)
        answer = await world.ask(BODY)
        assert (answer.status, answer.headers["x-quantized-provider"]) == (200, second)
        assert answer.json["choices"][0]["message"]["content"] in (ANSWER, "Paris, I feel.")
        settle = world.wire.commands[-1]
        assert isinstance(settle, Settle)
        assert settle.receipt.provider == second
        outcomes = [(attempt.provider, attempt.outcome) for attempt in settle.receipt.attempts]
        assert outcomes == [(first, "unavailable"), (second, "ok")]

    in_world(work, *routes)


def test_what_it_has_no_word_for_is_refused_by_its_name_or_goes_to_another_kind() -> None:
    body = BODY.replace(b'"max_tokens"', b'"seed":7,"max_tokens"')

    async def alone(world: World) -> None:
        answer = await world.ask(body)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", "seed")
        assert (world.upstream.requests, world.wire.commands) == ([], [])

    async def beside(world: World) -> None:
        answer = await world.ask(body)
        assert (answer.status, answer.headers["x-quantized-provider"]) == (200, "openrouter")

    in_world(alone, medium())
    in_world(beside, medium(), openrouter())


# --- Catalog, admin, probe ------------------------------------------------------------------------

CATALOG = f"""
[[providers]]
name = "mind"
kind = "telepathy"
[[models]]
id = "{MODEL}"
name = "Medium"
owned_by = "nobody"
created = 2026-01-01
[[models.routes]]
provider = "mind"
upstream_model = "medium"
capabilities = []
context_length = 8192
max_output_tokens = 1024
price = {{ input = 1, output = 2 }}
rules = {{ moods = ["calm"] }}
"""


@pytest.mark.django_db
def test_a_catalog_file_names_it_and_it_is_served(telepathy: Any) -> None:
    services.load(file.parse(CATALOG))
    [route] = load_catalog().resolve(MODEL)
    assert route.provider == Upstream(route.provider.id, "mind", "telepathy", MEDIUM, "grip")
    assert (route.rules, route.upstream_model) == (Rules(moods=("calm",)), "medium")
    telepathy.TELEPATHY_HANDSHAKE = ""
    assert load_catalog().models == {}


@pytest.mark.django_db
def test_rules_that_are_none_are_refused() -> None:
    with pytest.raises(file.CatalogError, match="moods"):
        services.load(file.parse(CATALOG.replace('["calm"]', "7")))


@pytest.mark.django_db
def test_without_its_record_it_is_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KINDS, "telepathy")
    with pytest.raises(file.CatalogError, match="'telepathy' is not a valid choice"):
        services.load(file.parse(CATALOG))


@pytest.mark.django_db
def test_an_address_of_its_own_is_taken_with_its_own_key() -> None:
    provider = Provider(name="mine", kind="telepathy", base_url="https://mind.example.com")
    provider.set_secret("firm grip")
    provider.full_clean()
    provider.save()
    make_route(provider=provider, capabilities=[])
    [route] = load_catalog().resolve(MODEL)
    assert (route.provider.base_url, route.provider.secret) == ("https://mind.example.com", "firm grip")


@pytest.mark.django_db
def test_a_kind_without_settings_needs_a_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {name: getattr(TELEPATHY, name) for name in TELEPATHY.__struct_fields__} | {"base_url_setting": None}
    monkeypatch.setitem(KINDS, "telepathy", type(TELEPATHY)(**nowhere))
    with pytest.raises(ValidationError, match="A Telepathy provider needs its base URL"):
        Provider(name="mind", kind="telepathy").full_clean()


@pytest.mark.django_db
def test_the_admin_offers_it() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.org", "a long enough password"))
    address = reverse("admin:completions_provider_add")
    assert '<option value="telepathy">Telepathy</option>' in client.get(address).content.decode()
    form = {"name": "mind", "kind": "telepathy", "base_url": "", "when_client_leaves": "cancel", "secret": ""}
    assert client.post(address, form).status_code == 302
    assert Provider.objects.get().kind == "telepathy"


def test_the_probe_asks_its_path_with_its_credentials(telepathy: Any) -> None:
    with CannedProvider() as mind:
        telepathy.TELEPATHY_BASE_URL = mind.origin
        mind.reply = response(200, b"{}")
        assert probe(Provider(name="mind", kind="telepathy")).is_well
        mind.reply = response(401, b"{}")
        assert probe(Provider(name="mind", kind="telepathy")).words == "It answers, and refuses the key."
    for head in mind.requests:
        assert head.startswith(b"GET /mind HTTP/1.1\r\n")
        assert b"x-handshake: grip\r\n" in head


# --- Bills ----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_bill_of_a_call_is_looked_up(telepathy: Any) -> None:
    make_provider("mind", kind="telepathy")
    make_provider("deaf", kind="openai", base_url="https://llm.example.com/v1")
    assert lookups.askable() == ["mind"]
    with CannedProvider() as mind, lookups.lookups("mind") as asking:
        telepathy.TELEPATHY_BASE_URL = mind.origin
        mind.reply = response(200, b'{"usd":0.00125,"heard":25,"said":8}')
        generation = asking.ask("t-1")
        assert generation is not None
        assert (generation.cost_usd, generation.usage) == (Decimal("0.00125"), TOOK)
        mind.reply = response(404, b"")
        assert asking.ask("t-2") is None
        mind.reply = response(200, b"{}")
        with pytest.raises(lookups.LookupFailed, match="mind sent no memory for t-3"):
            asking.ask("t-3")
        assert [head.split(b" ")[1] for head in mind.requests] == [
            b"/memory?of=t-1",
            b"/memory?of=t-2",
            b"/memory?of=t-3",
        ]
        assert all(b"x-handshake: grip\r\n" in head for head in mind.requests)


@pytest.mark.django_db
def test_a_day_is_compared_with_its_report(telepathy: Any) -> None:
    make_route(provider=make_provider("mind", kind="telepathy"), upstream_model="medium", capabilities=[])
    day = date(2026, 1, 2)
    paid = b'{"paid":[{"to":"medium","usd":"1.25","heard":25,"said":8}]}'
    with CannedProvider() as mind:
        telepathy.TELEPATHY_BASE_URL, telepathy.TELEPATHY_BOOKKEEPER = mind.origin, "ledger"
        mind.reply = response(200, paid)
        assert days.compare([day]) == {}
        mind.reply = response(200, b'{"paid":[{"to":"medium","usd":"NaN","heard":25,"said":8}]}')
        assert days.compare([day]) == {"mind": "a cost that is none"}
    [head, _] = mind.requests
    assert head.startswith(b"GET /days?on=2026-01-02 HTTP/1.1\r\n")
    assert b"x-handshake: ledger\r\n" in head
    [row] = ProviderDay.objects.filter(provider="mind")
    assert (row.model, row.reported_usd, row.reported_prompt_tokens) == (MODEL, Decimal("1.25"), 25)


# --- The page -------------------------------------------------------------------------------------


def test_the_table_of_fields_has_a_column_for_it() -> None:
    head, rule, *rows = field_table(KINDS.values())
    assert head == "| field | OpenRouter | Anthropic | OpenAI-compatible | Telepathy |"
    assert rule.count("---") == 5
    assert rows[0].endswith(" | translated: the route's name for it |")
    assert next(row for row in rows if row.startswith("| `seed`")).endswith(" | refused |")


def steps() -> dict[str, str]:
    """The page's steps: title → what it says."""
    parts = re.split(r"^## (\d+\. .+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("title", steps())
def test_every_step_names_files_that_are_there(title: str) -> None:
    named = re.findall(r"`((?:completions|quantized|tests|docs)/[\w/.]+|catalog\.toml)`", steps()[title])
    assert named
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_the_page_says_what_a_record_is() -> None:
    table = steps()["2. The record"]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(TELEPATHY.__struct_fields__)
    needed = re.findall(r"^\| `(\w+)` \|(?!.*default)", table, re.MULTILINE)
    defaults = TELEPATHY.__struct_defaults__
    assert needed == list(TELEPATHY.__struct_fields__[: len(TELEPATHY.__struct_fields__) - len(defaults)])
