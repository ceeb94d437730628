import json
import logging

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from billing.pricing import money
from completions import errors
from completions.catalog.loader import load_catalog
from completions.models import Model, Provider, Route
from completions.providers.anthropic.rules import Rules
from completions.routes import Catalog
from tests.kit.catalogs import CAPABILITIES, MINI, make_price, make_provider, make_route


@pytest.mark.django_db
def test_a_route_reaches_requests_as_a_frozen_struct(settings):
    row = make_route()
    (route,) = load_catalog().resolve(MINI)
    assert (route.id, route.model, route.upstream_model, route.priority) == (row.pk, MINI, MINI, 0)
    assert route.capabilities == frozenset(CAPABILITIES)
    assert (route.context_length, route.max_output_tokens) == (1_047_576, 32_768)
    assert route.price == money.Price(
        id=row.price.pk,
        version=1,
        base=money.Rates(input=400_000, output=1_600_000, cache_read=100_000, web_search=10**10),
    )
    provider = route.provider
    assert (provider.name, provider.kind, provider.base_url) == (
        "openrouter",
        "openrouter",
        "http://127.0.0.1:9/api/v1",
    )
    assert provider.secret == settings.OPENROUTER_API_KEY
    with pytest.raises(AttributeError):
        route.priority = 1


@pytest.mark.django_db
def test_a_card_holds_what_the_list_shows():
    make_route()
    card = load_catalog().card(MINI)
    assert (card.id, card.name, card.owned_by, card.created) == (MINI, "GPT-4.1 Mini", "openai", 1_744_588_800)


@pytest.mark.django_db
def test_loading_costs_one_query_however_many_rows(django_assert_num_queries):
    make_route()
    with django_assert_num_queries(1):
        load_catalog()
    local = make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    for number in range(20):
        make_route(f"local/model-{number}", local)
    with django_assert_num_queries(1):
        assert len(load_catalog().models) == 21


@pytest.mark.django_db
def test_routes_come_by_priority_and_a_forced_provider_stands_alone():
    make_route(priority=2)
    make_route(provider=make_provider("local", kind="openai", base_url="https://llm.example.com/v1"), priority=1)
    catalog = load_catalog()
    assert [route.provider.name for route in catalog.resolve(MINI)] == ["local", "openrouter"]
    assert [route.provider.name for route in catalog.resolve(MINI, "openrouter")] == ["openrouter"]


@pytest.mark.django_db
@pytest.mark.parametrize("asked", ["nobody", "anthropic", "OpenRouter", ""])
def test_a_provider_without_a_route_to_the_model_is_named_with_those_that_have_one(asked):
    make_route()
    make_provider("anthropic", kind="anthropic")
    with pytest.raises(errors.UnknownProvider) as caught:
        load_catalog().resolve(MINI, asked)
    assert caught.value.message == f"Unknown provider: '{asked}'. Known for this model: openrouter."


@pytest.mark.django_db
@pytest.mark.parametrize("asked", [f"{MINI}:online", f"{MINI}:free", "gpt-4.1-mini", "openai/gpt-4.1-mimi"])
def test_an_unknown_model_is_refused_with_the_nearest_name(asked):
    make_route()
    with pytest.raises(errors.ModelNotFound) as caught:
        load_catalog().resolve(asked)
    assert caught.value.message == f"The model '{asked}' does not exist. Did you mean '{MINI}'?"
    assert caught.value.param == "model"


@pytest.mark.django_db
def test_no_name_is_near_to_nonsense():
    make_route()
    for asked in ("zzz", MINI * 50):
        with pytest.raises(errors.ModelNotFound) as caught:
            load_catalog().resolve(asked)
        assert "Did you mean" not in caught.value.message


def test_an_empty_catalog_knows_no_model():
    with pytest.raises(errors.ModelNotFound):
        Catalog({}).resolve(MINI)


@pytest.mark.django_db
@pytest.mark.parametrize("off", ["route", "model", "provider"])
def test_what_is_disabled_is_not_served(off):
    route = make_route()
    row = {"route": route, "model": route.model, "provider": route.provider}[off]
    row.enabled = False
    row.save()
    assert load_catalog().models == {}


@pytest.mark.django_db
def test_a_provider_that_needs_a_key_and_has_none_is_not_served(settings):
    make_route()
    settings.OPENROUTER_API_KEY = ""
    assert load_catalog().models == {}


@pytest.mark.django_db
def test_a_server_of_ones_own_is_served_without_a_key():
    make_route(provider=make_provider("local", kind="openai", base_url="https://llm.example.com/v1/"))
    (route,) = load_catalog().resolve(MINI)
    assert (route.provider.base_url, route.provider.secret) == ("https://llm.example.com/v1", "")


@pytest.mark.django_db
def test_anthropic_takes_its_address_and_key_from_the_settings(settings):
    settings.ANTHROPIC_BASE_URL, settings.ANTHROPIC_API_KEY = "https://anthropic.example.com", "the key"
    make_route(provider=make_provider("anthropic", kind="anthropic"))
    (route,) = load_catalog().resolve(MINI)
    assert (route.provider.base_url, route.provider.secret) == ("https://anthropic.example.com", "the key")


@pytest.mark.django_db
def test_a_capability_without_its_price_is_not_sold(caplog):
    make_route(price=make_price(web_search=None))
    with caplog.at_level(logging.ERROR):
        assert load_catalog().models == {}
    assert "no price for web_search" in caplog.text


@pytest.mark.django_db
def test_a_secret_that_cannot_be_read_takes_one_provider_out_and_no_other(settings, caplog):
    make_route()
    own = make_provider("own", kind="openai", base_url="https://llm.example.com/v1")
    own.set_secret("hidden value")
    own.save()
    make_route("own/model", own)
    settings.SECRET_KEY = "another key, longer than thirty-two characters"
    with caplog.at_level(logging.ERROR):
        assert list(load_catalog().models) == [MINI]
    assert "provider own is not served" in caplog.text


@pytest.mark.django_db
def test_a_secret_shows_in_no_repr():
    provider = make_provider("own", kind="openai", base_url="https://llm.example.com/v1")
    provider.set_secret("hidden value")
    provider.save()
    make_route(provider=provider)
    (route,) = load_catalog().resolve(MINI)
    assert route.provider.secret == "hidden value"
    assert "hidden value" not in repr(route)
    assert "hidden value" not in repr(provider)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "change"),
    [
        (Route, {"price": None}),
        (Route, {"max_output_tokens": 1_047_577}),
        (Route, {"max_output_tokens": 0}),
        (Provider, {"base_url": "http://127.0.0.1:8000"}),
        (Provider, {"secret_encrypted": "sealed"}),
    ],
)
def test_the_database_refuses_what_must_not_be(table, change):
    make_route()
    with pytest.raises(IntegrityError), transaction.atomic():
        table.objects.update(**change)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("openai", "it has no base URL, and its kind 'openai' has none either"),
        ("nobody", "'nobody' is no kind of provider"),
    ],
)
def test_a_provider_that_is_nowhere_is_not_served_and_never_taken_for_another(kind, why, caplog):
    """The database takes it: which kinds there are, and where, is no column's business."""
    route = make_route()
    Provider.objects.update(kind=kind)
    assert load_catalog().models == {}
    assert f"provider openrouter is not served: {why}" in caplog.messages
    route.provider.refresh_from_db()
    with pytest.raises(ValidationError):
        route.provider.full_clean()


@pytest.mark.django_db
def test_a_route_exists_once():
    make_route()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_route()


def test_every_change_is_told_to_every_worker_at_commit(live_db):
    given = connection.get_connection_params() | {"autocommit": True, "cursor_factory": psycopg.Cursor}
    given.pop("context", None)
    with psycopg.connect(**given) as listener:
        listener.execute("LISTEN quantized")
        provider = make_provider("told", kind="openai", base_url="https://llm.example.com/v1")
        route = make_route("told/model", provider)
        Route.objects.filter(pk=route.pk).update(priority=1)
        Model.objects.filter(pk="told/model").update(name="Told")
        route.delete()
        Model.objects.filter(pk="told/model").delete()
        provider.delete()
        heard = [notice.payload for notice in listener.notifies(timeout=5, stop_after=8)]
    assert heard == ["catalog"] * 8


@pytest.mark.django_db
def test_capabilities_are_stored_as_json():
    make_route()
    with connection.cursor() as cursor:
        cursor.execute("SELECT capabilities FROM completions_route")
        assert json.loads(cursor.fetchone()[0]) == CAPABILITIES


@pytest.mark.django_db
def test_rules_that_cannot_be_read_take_one_route_out_and_no_other(settings, caplog):
    settings.ANTHROPIC_API_KEY = "the key"
    make_route()
    make_route("anthropic/claude", make_provider("anthropic", kind="anthropic"), rules={"thinking": ["loud"]})
    with caplog.at_level(logging.ERROR):
        assert list(load_catalog().models) == [MINI]
    assert "anthropic/claude by anthropic) is not served: rules: Invalid enum value 'loud' - at `$.thinking[0]`" in (
        caplog.text
    )


@pytest.mark.django_db
def test_rules_are_what_they_say_and_permit_nothing_else(settings):
    settings.ANTHROPIC_API_KEY = "the key"
    anthropic = make_provider("anthropic", kind="anthropic")
    make_route("a/none", anthropic)
    make_route("a/some", anthropic, rules={"thinking": ["adaptive"], "efforts": ["low"], "sampling": True})
    catalog = load_catalog()
    assert catalog.resolve("a/none")[0].rules == Rules()
    assert catalog.resolve("a/some")[0].rules == Rules(thinking=("adaptive",), efforts=("low",), sampling=True)


@pytest.mark.django_db
def test_a_wrong_rule_is_refused_before_it_is_saved():
    route = make_route("a/b", make_provider("anthropic", kind="anthropic"))
    route.rules = {"temperature": True}
    with pytest.raises(ValidationError, match="Object contains unknown field `temperature`"):
        route.full_clean()
    route.provider = make_provider()
    route.full_clean()
