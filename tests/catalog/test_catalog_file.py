import json
import subprocess
import sys
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import Price
from completions.catalog import services
from completions.catalog.file import CatalogError, parse
from completions.catalog.loader import load_catalog
from completions.models import Model, Provider, Route
from completions.routes import NO_RULES
from tests.kit import CHECKOUT
from tests.kit.catalogs import make_provider, make_route

SHIPPED = CHECKOUT / "catalog.toml"
# What a catalog says, one line per key, so that a test can say it otherwise.
LINES = {
    "provider": '[[providers]]\nname = "openrouter"\nkind = "openrouter"',
    "model": '[[models]]\nid = "openai/gpt-4.1-mini"\nname = "GPT-4.1 Mini"\nowned_by = "openai"\ncreated = 2025-04-14',
    "route": '[[models.routes]]\nprovider = "openrouter"\nupstream_model = "openai/gpt-4.1-mini"',
    "capabilities": 'capabilities = ["image_input", "tools"]',
    "context_length": "context_length = 1_047_576",
    "max_output_tokens": "max_output_tokens = 32_768",
    "price": "price = { input = 0.40, output = 1.60, cache_read = 0.10 }",
}


def text(**changes: str) -> str:
    return "\n".join((LINES | changes).values())


def load(**changes: str) -> tuple[int, int, int, int]:
    loaded = services.load(parse(text(**changes)))
    return loaded.created, loaded.updated, loaded.unchanged, loaded.prices


def price_of(model: str = "openai/gpt-4.1-mini") -> Price:
    price = Route.objects.get(model=model, provider__name="openrouter").price
    assert price is not None
    return price


@pytest.mark.django_db
def test_a_file_becomes_rows():
    assert load() == (3, 0, 0, 1)
    route = Route.objects.select_related("model", "provider", "price").get()
    assert (route.model.pk, route.model.name, route.model.owned_by) == ("openai/gpt-4.1-mini", "GPT-4.1 Mini", "openai")
    assert route.model.created.isoformat() == "2025-04-14T00:00:00+00:00"
    assert (route.provider.name, route.provider.kind, route.provider.base_url) == ("openrouter", "openrouter", "")
    assert (route.priority, route.enabled, route.capabilities, route.rules) == (0, True, ["tools", "image_input"], {})
    assert (route.context_length, route.max_output_tokens) == (1_047_576, 32_768)
    assert price_of().version == 1
    assert price_of().usd == {"input": Decimal("0.40"), "output": Decimal("1.60"), "cache_read": Decimal("0.10")}


@pytest.mark.django_db
def test_loading_again_changes_nothing():
    load()
    assert load() == (0, 0, 3, 0)


@pytest.mark.django_db
def test_a_changed_price_is_a_new_version_and_the_old_one_stays():
    load()
    before = price_of()
    assert load(price="price = { input = 0.50, output = 1.60 }") == (0, 1, 2, 1)
    assert (price_of().version, price_of().usd["input"], price_of().usd.get("cache_read")) == (2, Decimal("0.50"), None)
    before.refresh_from_db()
    assert (before.version, before.usd["input"]) == (1, Decimal("0.40"))


@pytest.mark.django_db
def test_the_same_price_written_otherwise_is_the_same_price():
    load()
    assert load(price='price = { input = 0.4, output = "1.6000", cache_read = 0.1 }') == (0, 0, 3, 0)


@pytest.mark.django_db
def test_tiers_say_what_a_longer_prompt_pays():
    tiered = LINES["price"] + "\ntiers = [{ above_prompt_tokens = 200_000, input = 0.80, output = 2.40 }]"
    load(price=tiered)
    assert price_of().tiers == [{"above_prompt_tokens": 200_000, "input": "0.80", "output": "2.40"}]
    (tier,) = price_of().to_struct().tiers
    assert (tier.rates.input, tier.rates.output, tier.rates.cache_read) == (800_000, 2_400_000, 100_000)
    assert load(price=tiered) == (0, 0, 3, 0)
    assert load() == (0, 1, 2, 1)


@pytest.mark.django_db
def test_other_changes_make_no_new_price():
    load()
    assert load(max_output_tokens="max_output_tokens = 16_384", capabilities='capabilities = ["tools"]') == (0, 1, 2, 0)
    route = Route.objects.get()
    assert (route.max_output_tokens, route.capabilities) == (16_384, ["tools"])


@pytest.mark.django_db
def test_what_the_file_does_not_say_is_the_operators():
    load()
    Route.objects.update(enabled=False, priority=7, rules={"thinking": "always"})
    Provider.objects.update(enabled=False)
    Model.objects.update(enabled=False)
    assert load() == (0, 0, 3, 0)
    route = Route.objects.get()
    assert (route.enabled, route.priority, route.rules) == (False, 7, {"thinking": "always"})
    assert load(context_length="context_length = 1_047_576\nenabled = true") == (0, 1, 2, 0)


@pytest.mark.django_db
def test_rows_that_are_not_in_the_file_are_not_touched():
    local = make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    make_route("local/llama", local)
    make_route(provider=local, upstream_model="mini")
    before = list(Route.objects.order_by("pk").values()), list(Provider.objects.values())
    load()
    of_local = Route.objects.filter(provider=local).order_by("pk")
    assert (list(of_local.values()), list(Provider.objects.filter(pk=local.pk).values())) == before


@pytest.mark.django_db
def test_a_route_may_use_an_operators_provider():
    make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    load(route='[[models.routes]]\nprovider = "local"\nupstream_model = "mini"')
    assert Route.objects.get().provider.name == "local"


@pytest.mark.django_db
def test_a_disabled_route_may_wait_for_its_price():
    assert load(price="enabled = false") == (3, 0, 0, 0)
    route = Route.objects.get()
    assert (route.enabled, route.price) == (False, None)
    assert load(price=LINES["price"] + "\nenabled = true") == (0, 1, 2, 1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"price": ""}, "route by openrouter: price is missing; without one the route must say enabled = false"),
        ({"price": "price = { input = 0.40 }"}, "Object missing required field `output` - at `$.routes[0].price`"),
        ({"price": "price = { input = 0.0000004, output = 1.60 }"}, "price: input: 4E-7 USD has too many decimals"),
        (
            {"price": "price = { input = -0.40, output = 1.60 }"},
            "price: input: -0.40 USD has too many decimals or is n",
        ),
        ({"price": "price = { input = nan, output = 1.60 }"}, "price: input: NaN is no price"),
        ({"price": "price = { input = inf, output = 1.60 }"}, "price: input: Infinity is no price"),
        ({"price": "price = { input = 1e9, output = 1.60 }"}, "price: input: 1E+9 is no price"),
        (
            {"price": "price = { input = true, output = 1.60 }"},
            "Expected `decimal`, got `bool` - at `$.routes[0].price",
        ),
        ({"price": "price = { input = 1, output = 1, cached = 1 }"}, "unknown field `cached` - at `$.routes[0].price`"),
        ({"price": LINES["price"] + "\ntier = []"}, "Object contains unknown field `tier` - at `$.routes[0]`"),
        (
            {"price": "enabled = false\ntiers = [{ above_prompt_tokens = 1 }]"},
            "route by openrouter: tiers need a price",
        ),
        (
            {"price": LINES["price"] + "\ntiers = [{ above_prompt_tokens = 9, input = -1 }]"},
            "route by openrouter: tier above 9: input: -1 USD has too many decimals or is negative",
        ),
        (
            {"price": LINES["price"] + "\ntiers = [{ above_prompt_tokens = 9 }, { above_prompt_tokens = 9 }]"},
            "route by openrouter: tiers: above_prompt_tokens 9 is there twice",
        ),
        ({"capabilities": 'capabilities = ["tool"]'}, "route by openrouter: capabilities: unknown 'tool'"),
        ({"capabilities": 'capabilities = ["web_search"]'}, "price: web_search is missing for what the route can do"),
        ({"capabilities": 'capabilities = "tools"'}, "Expected `array`, got `str` - at `$.routes[0].capabilities`"),
        ({"context_length": ""}, "Object missing required field `context_length` - at `$.routes[0]`"),
        ({"context_length": "context_length = 32_767"}, "max_output_tokens is more than context_length"),
        ({"max_output_tokens": "max_output_tokens = 0"}, "Expected `int` >= 1 - at `$.routes[0].max_output_tokens`"),
        (
            {"route": '[[models.routes]]\nprovider = "nobody"\nupstream_model = "x"'},
            "route by nobody: provider: there is",
        ),
    ],
)
def test_an_error_names_the_model_and_the_field_and_changes_nothing(changes, complaint):
    with pytest.raises(CatalogError) as caught:
        load(**changes)
    assert str(caught.value).startswith("openai/gpt-4.1-mini: ")
    assert complaint in str(caught.value)
    assert (Provider.objects.count(), Model.objects.count(), Price.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[[models]", "not TOML: "),
        ("[[model]]", "unknown top-level key 'model': a catalog has [[providers]] and [[models]]"),
        ("models = 1", "models must be an array of tables: [[models]]"),
        ("models = [1]", "an entry of models without id: Expected `object`, got `int`"),
        ('[[providers]]\nkind = "openai"', "an entry of providers without name: Object missing required field `name`"),
        (f"{LINES['provider']}\n{LINES['provider']}", "providers: name openrouter is there twice"),
        (text() + "\n" + LINES["model"] + "\nroutes = []", "models: id openai/gpt-4.1-mini is there twice"),
        (
            text() + "\n" + "\n".join(list(LINES.values())[2:]),
            "openai/gpt-4.1-mini: route openrouter openai/gpt-4.1-mini is",
        ),
        (text(provider=LINES["provider"] + '\nsecret = "sk-1"'), "openrouter: Object contains unknown field `secret`"),
    ],
)
def test_what_is_no_catalog_is_refused(content, complaint):
    with pytest.raises(CatalogError) as caught:
        parse(content)
    assert complaint in str(caught.value)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("provider", "complaint"),
    [
        ('kind = "openal"', "local: kind: Value 'openal' is not a valid choice."),
        ('kind = "openai"', "local: base_url: An OpenAI-compatible provider needs its base URL."),
        ('kind = "openai"\nbase_url = "http://llm.example.com"', "local: base_url: Plain http is for loopback"),
        ('kind = "openai"\nbase_url = "http://10.0.0.7:8000"', "local: base_url: Plain http is for loopback"),
    ],
)
def test_a_provider_must_be_valid(provider, complaint):
    with pytest.raises(CatalogError) as caught:
        services.load(parse(f'[[providers]]\nname = "local"\n{provider}'))
    assert str(caught.value).startswith(complaint)


@pytest.mark.django_db
def test_a_provider_says_what_becomes_of_a_stream_without_its_client():
    load()
    assert Provider.objects.get().when_client_leaves == "cancel"
    load(provider=LINES["provider"] + '\nwhen_client_leaves = "drain"')
    assert Provider.objects.get().when_client_leaves == "drain"
    load()  # what the file does not say stays
    assert Provider.objects.get().when_client_leaves == "drain"
    with pytest.raises(CatalogError, match="openrouter: Invalid enum value 'leave'"):
        load(provider=LINES["provider"] + '\nwhen_client_leaves = "leave"')


@pytest.mark.django_db
def test_a_file_cannot_take_a_stored_secret_to_another_host():
    local = make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    local.set_secret("hidden value")
    local.save()
    with pytest.raises(CatalogError, match="local: base_url: Enter the secret again"):
        services.load(parse('[[providers]]\nname = "local"\nkind = "openai"\nbase_url = "https://evil.example.com"'))
    assert Provider.objects.get().base_url == "https://llm.example.com/v1"


@pytest.mark.django_db
def test_the_command_counts_and_repeats_itself(tmp_path):
    file = tmp_path / "catalog.toml"
    file.write_text(text())
    first, second = StringIO(), StringIO()
    call_command("loadcatalog", str(file), "--json", stdout=first)
    call_command("loadcatalog", str(file), "--json", stdout=second)
    assert json.loads(first.getvalue()) == {"created": 3, "updated": 0, "unchanged": 0, "prices": 1}
    assert json.loads(second.getvalue()) == {"created": 0, "updated": 0, "unchanged": 3, "prices": 0}


@pytest.mark.django_db
def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"missing\.toml cannot be read: No such file or directory"):
        call_command("loadcatalog", str(tmp_path / "missing.toml"))


def test_a_bad_file_ends_the_command_with_one_line_and_exit_code_1(process_environment, tmp_path):
    file = tmp_path / "catalog.toml"
    file.write_text(text(price=""))
    command = [sys.executable, str(CHECKOUT / "manage.py"), "loadcatalog", str(file), "--json"]
    ended = subprocess.run(command, env=process_environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("CommandError: openai/gpt-4.1-mini: route by openrouter: price is missing")


@pytest.mark.django_db
def test_the_shipped_catalog_loads_and_serves():
    file = parse(SHIPPED.read_text())
    loaded = services.load(file)
    routes = sum(len(model.routes) for model in file.models)
    assert (loaded.created, loaded.prices) == (len(file.providers) + len(file.models) + routes, routes)
    assert services.load(file).unchanged == loaded.created
    assert list(load_catalog().models) == sorted(model.id for model in file.models)
    assert not Route.objects.filter(enabled=False).exists()


@pytest.mark.django_db
def test_every_claude_is_served_by_openrouter_first_and_by_anthropic_with_its_rules():
    services.load(parse(SHIPPED.read_text()))
    claudes = [card for name, card in load_catalog().models.items() if name.startswith("anthropic/")]
    assert len(claudes) == 11
    for card in claudes:
        assert [route.provider.name for route in card.routes] == ["openrouter", "anthropic"]
        assert card.routes[0].rules == NO_RULES
        assert card.routes[1].rules.thinking
        assert card.routes[0].price.base == card.routes[1].price.base


@pytest.mark.django_db
def test_the_public_apis_own_model_is_in_the_shipped_catalog():
    services.load(parse(SHIPPED.read_text()))
    (route,) = load_catalog().resolve("openai/gpt-4.1-mini")
    assert (route.provider.name, route.upstream_model) == ("openrouter", "openai/gpt-4.1-mini")
    assert (route.price.base.input, route.price.base.output, route.price.base.cache_read) == (
        400_000,
        1_600_000,
        100_000,
    )
    assert (route.context_length, route.max_output_tokens) == (1_047_576, 32_768)
    assert {"tools", "image_input", "structured_outputs", "json_mode", "logprobs"} <= route.capabilities


@pytest.mark.django_db
def test_claude_haiku_5_5_changes_its_price_above_100_000_prompt_tokens():
    services.load(parse(SHIPPED.read_text()))
    price = Route.objects.get(upstream_model="claude-haiku-5-5").price.to_struct()
    short, long = price.rates(100_000), price.rates(100_001)
    assert (short.input, short.output, short.cache_read) == (100_000, 500_000, 10_000)
    assert (short.cache_write_5m, short.cache_write_1h) == (125_000, 200_000)
    assert (long.input, long.output, long.cache_read) == (500_000, 2_500_000, 50_000)
    assert (long.cache_write_5m, long.cache_write_1h) == (625_000, 1_000_000)


def test_no_shipped_model_is_of_the_future():
    assert all(model.created <= timezone.now().date() for model in parse(SHIPPED.read_text()).models)
