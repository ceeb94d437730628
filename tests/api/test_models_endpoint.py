from datetime import UTC, datetime

import pytest
from django.test import Client

from completions.api.models import micro_credits
from completions.models import Model
from tests.kit.catalogs import MINI, make_price, make_provider, make_route

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at")]

MINI_BODY = {
    "id": MINI,
    "object": "model",
    "created": 1_744_588_800,
    "owned_by": "openai",
    "name": "GPT-4.1 Mini",
    "context_length": 1_047_576,
    "max_output_tokens": 32_768,
    "capabilities": [
        "tools",
        "structured_outputs",
        "json_mode",
        "logprobs",
        "web_search",
        "prompt_caching",
        "image_input",
    ],
    "providers": [
        {
            "name": "openrouter",
            "priority": 0,
            "context_length": 1_047_576,
            "max_output_tokens": 32_768,
            "capabilities": [
                "tools",
                "structured_outputs",
                "json_mode",
                "logprobs",
                "web_search",
                "prompt_caching",
                "image_input",
            ],
            "price_version": 1,
            "pricing": {"input": "0.4", "output": "1.6", "cache_read": "0.1", "web_search": "0.01"},
            "credits": {
                "input": "42105263.157895",
                "output": "168421052.631579",
                "cache_read": "10526315.789474",
                "web_search": "1052631.578948",
            },
            "tiers": [],
        }
    ],
}


def test_the_list_is_openais_with_prices(client):
    make_route()
    answer = client.get("/v1/models")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json() == {"object": "list", "data": [MINI_BODY]}


def test_one_model_is_found_by_its_id_with_the_slash(client):
    make_route()
    make_route("openai/other")
    answer = client.get(f"/v1/models/{MINI}")
    assert answer.status_code == 200
    assert answer.json() == MINI_BODY


def test_an_empty_catalog_is_an_empty_list(client):
    assert client.get("/v1/models").json() == {"object": "list", "data": []}


@pytest.mark.parametrize("model", ["openai/gpt-4.1-mini:online", "openai/nothing-like-it", "x", "a/b/c"])
def test_an_unknown_model_is_a_404_in_json(client, model):
    make_route()
    answer = client.get(f"/v1/models/{model}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("not_found_error", "model_not_found", "model")
    assert error["message"].startswith(f"The model '{model}' does not exist.")


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MINI}"])
def test_the_list_is_only_read(client, path):
    make_route()
    answer = client.post(path, {"id": "openai/mine"}, content_type="application/json")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert Model.objects.count() == 1


def test_an_authorization_header_changes_nothing(client):
    make_route()
    assert client.get("/v1/models", headers={"authorization": "Bearer nonsense"}).status_code == 200


def test_who_has_the_list_is_told_so(client):
    make_route()
    first = client.get("/v1/models")
    assert first["Cache-Control"] == "public, max-age=60"
    again = client.get("/v1/models", headers={"if-none-match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    make_route("openai/other")
    assert client.get("/v1/models", headers={"if-none-match": first["ETag"]}).status_code == 200


def test_a_model_can_what_its_routes_can(client):
    make_route(capabilities=["tools"], max_output_tokens=100, context_length=2000)
    local = make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    make_route(provider=local, capabilities=["reasoning"], max_output_tokens=200, context_length=1000, priority=1)
    body = client.get(f"/v1/models/{MINI}").json()
    assert (body["capabilities"], body["context_length"], body["max_output_tokens"]) == (
        ["tools", "reasoning"],
        2000,
        200,
    )
    assert [(one["name"], one["priority"], one["max_output_tokens"]) for one in body["providers"]] == [
        ("openrouter", 0, 100),
        ("local", 1, 200),
    ]


def test_a_model_without_a_usable_route_is_not_listed(client, settings):
    make_route()
    settings.OPENROUTER_API_KEY = ""
    assert client.get("/v1/models").json()["data"] == []
    assert client.get(f"/v1/models/{MINI}").status_code == 404


def test_tiers_show_everything_that_a_longer_prompt_pays(client, settings):
    settings.MARGIN, settings.CREDITS_PER_USD = 0, 100
    tiers = [{"above_prompt_tokens": 200_000, "input": "0.80", "output": "2.40"}]
    make_route(price=make_price(tiers=tiers, web_search=None), capabilities=[])
    (provider,) = client.get(f"/v1/models/{MINI}").json()["providers"]
    assert provider["credits"] == {"input": 40_000_000, "output": 160_000_000, "cache_read": 10_000_000}
    assert provider["tiers"] == [
        {
            "above_prompt_tokens": 200_000,
            "pricing": {"input": "0.8", "output": "2.4", "cache_read": "0.1"},
            "credits": {"input": 80_000_000, "output": 240_000_000, "cache_read": 10_000_000},
        }
    ]


def test_every_class_of_a_price_is_shown_and_none_with_an_exponent(client):
    price = make_price(
        input="0.000001",
        output="10",
        cache_write_5m="1.25",
        cache_write_1h="2",
        reasoning="10",
        audio_input="32",
        audio_output="64",
        image="0.000000000001",
        request="0.005",
    )
    make_route(price=price, capabilities=[])
    (provider,) = client.get(f"/v1/models/{MINI}").json()["providers"]
    assert provider["pricing"] == {
        "input": "0.000001",
        "output": "10",
        "cache_read": "0.1",
        "cache_write_5m": "1.25",
        "cache_write_1h": "2",
        "reasoning": "10",
        "audio_input": "32",
        "audio_output": "64",
        "image": "0.000000000001",
        "request": "0.005",
        "web_search": "0.01",
    }
    assert provider["credits"]["input"] == "105.263158"
    assert provider["credits"]["image"] == "0.000106"


def test_nothing_secret_is_listed(client):
    provider = make_provider("local", kind="openai", base_url="https://llm.example.com/v1")
    provider.set_secret("hidden value")
    provider.save()
    make_route(provider=provider, upstream_model="their-name")
    text = client.get("/v1/models").content.decode()
    for hidden in ("hidden value", "llm.example.com", "their-name", provider.secret_encrypted):
        assert hidden not in text


def test_the_list_costs_one_query(client, django_assert_num_queries):
    make_route()
    make_route("openai/other")
    with django_assert_num_queries(1):
        client.get("/v1/models")


def test_credits_are_exact_or_rounded_up_in_the_sixth_decimal(settings):
    settings.MARGIN, settings.CREDITS_PER_USD = 0, 1
    assert micro_credits(10**12) == 1_000_000
    assert micro_credits(0) == 0
    assert micro_credits(1) == "0.000001"
    settings.CREDITS_PER_USD = 3
    assert micro_credits(1) == "0.000003"
    settings.MARGIN = 0.5
    assert micro_credits(10**6) == 6


def test_created_is_unix_time(client):
    Model.objects.create(pk="a/b", name="B", owned_by="a", created=datetime(2026, 1, 1, tzinfo=UTC))
    make_route("a/b")
    assert Client().get("/v1/models/a/b").json()["created"] == 1_767_225_600
