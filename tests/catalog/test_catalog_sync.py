import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from threading import Thread
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.models import Price
from completions.catalog import sync as catalog_sync
from completions.catalog.sync import Difference, ListedModel, listed, sync
from completions.models import Route
from tests.kit.catalogs import MINI, make_price, make_provider, make_route

# As OpenRouter lists it, USD per token.
THEIRS: dict[str, Any] = {
    "id": MINI,
    "canonical_slug": "openai/gpt-4.1-mini-2025-04-14",
    "context_length": 1_047_576,
    "architecture": {"input_modalities": ["image", "text"], "output_modalities": ["text"]},
    "pricing": {
        "prompt": "0.0000004",
        "completion": "0.0000016",
        "request": "0",
        "image": "0",
        "web_search": "0.01",
        "internal_reasoning": "0",
        "input_cache_read": "0.0000001",
    },
    "top_provider": {"context_length": 1_047_576, "max_completion_tokens": 32_768, "is_moderated": True},
    "per_request_limits": None,
    "supported_parameters": ["tools", "tool_choice", "response_format", "structured_outputs", "logprobs", "seed"],
}


def theirs(**pricing: Any) -> dict[str, Any]:
    return {**THEIRS, "pricing": {**THEIRS["pricing"], **pricing}}


def compared(model: dict[str, Any], *, apply: bool = False) -> catalog_sync.SyncReport:
    return sync({model["id"]: listed(model)}, apply=apply)


@contextmanager
def upstream(body: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """A real server that answers every GET like this; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    paths: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert set(paths) <= {"/api/v1/models"}


def test_a_listing_is_read_in_our_terms():
    assert listed(THEIRS) == ListedModel(
        usd={
            "input": Decimal("0.4"),
            "output": Decimal("1.6"),
            "cache_read": Decimal("0.1"),
            "web_search": Decimal("0.01"),
        },
        tiers=(),
        capabilities=frozenset(
            {"tools", "structured_outputs", "json_mode", "logprobs", "web_search", "prompt_caching", "image_input"}
        ),
        context_length=1_047_576,
        max_output_tokens=32_768,
        notes=(),
    )


@pytest.mark.parametrize(
    ("pricing", "expected"),
    [
        ({"input_cache_write": "0.0000005"}, {"cache_write_5m": "0.5"}),
        ({"input_cache_write_1h": "0.0000008"}, {"cache_write_1h": "0.8"}),
        ({"input_cache_write": "0.000000083333"}, {"cache_write_5m": "0.483333"}),  # storage, on top of the input
        ({"internal_reasoning": "0.000002"}, {"reasoning": "2"}),
        ({"internal_reasoning": "0.0000016"}, {}),  # not apart
        ({"audio": "0.000032", "audio_output": "0.000064"}, {"audio_input": "32", "audio_output": "64"}),
        ({"image": "0.0025"}, {"image": "0.0025"}),
        ({"image": "0.0000004"}, {}),  # of an image token, which is a prompt token
        ({"request": "0.005"}, {"request": "0.005"}),
        ({"discount": Decimal("0.5")}, {"input": "0.2", "output": "0.8", "cache_read": "0.05", "web_search": "0.005"}),
        ({"prompt": "0.00000040000001"}, {"input": "0.400001"}),  # never less than theirs
    ],
)
def test_their_prices_become_ours(pricing, expected):
    usual = {"input": "0.4", "output": "1.6", "cache_read": "0.1", "web_search": "0.01"}
    assert listed(theirs(**pricing)).usd == {name: Decimal(value) for name, value in (usual | expected).items()}


def test_overrides_become_tiers_and_later_ones_win():
    overrides = [
        {"min_prompt_tokens": 200_000, "prompt": "0.0000008", "completion": "0.0000024"},
        {"min_prompt_tokens": 500_000, "prompt": "0.0000010"},
        {"min_prompt_tokens": 200_000, "prompt": "0.0000009"},
        {"utc_start": "0100", "utc_end": "0500", "prompt": "0.0000001"},
    ]
    found = listed(theirs(overrides=overrides))
    assert found.tiers == (
        {"above_prompt_tokens": 200_000, "input": "0.900000", "output": "2.400000"},
        {"above_prompt_tokens": 500_000, "input": "0.900000", "output": "2.400000"},
    )
    assert found.notes == ("a price by time of day cannot be represented: ignored",)


@pytest.mark.parametrize("value", ["-1", "NaN", "Infinity", "much", None, True, [], "2"])
def test_what_is_no_price_is_none(value):
    found = listed(theirs(prompt=value))
    assert (found.usd, found.context_length) == ({}, 1_047_576)


@pytest.mark.parametrize(
    "model",
    [
        {"id": MINI},
        {"id": MINI, "pricing": [], "architecture": 1, "top_provider": None, "supported_parameters": "tools"},
        {
            "id": MINI,
            "pricing": {"prompt": {}, "overrides": 3},
            "context_length": -1,
            "supported_parameters": [1, None],
        },
        {"id": MINI, "pricing": {"overrides": [None, {"min_prompt_tokens": "many"}]}},
    ],
)
def test_a_strange_listing_offers_nothing(model):
    found = listed(model)
    assert (found.usd, found.tiers, found.capabilities, found.context_length) == ({}, (), frozenset(), None)


def test_a_capability_counts_only_with_its_price():
    modalities = {"architecture": {"input_modalities": ["text", "audio"], "output_modalities": ["audio", "image"]}}
    assert not listed({**THEIRS, **modalities}).capabilities & {"audio_input", "audio_output", "image_output"}
    priced = theirs(audio="0.000032", audio_output="0.000064") | modalities
    assert listed(priced).capabilities >= {"audio_input", "audio_output"}


@pytest.mark.django_db
def test_no_difference_is_said_to_be_none():
    make_route()
    found = compared(THEIRS)
    assert (found.checked, found.differences, found.notes, found.applied) == (1, [], [], 0)


@pytest.mark.django_db
def test_every_difference_names_model_field_ours_and_theirs():
    make_route(context_length=1_000_000)
    model = theirs(prompt="0.0000005", web_search="0", input_cache_write="0.000001")
    model["top_provider"] = {"context_length": 900_000, "max_completion_tokens": 16_384}
    model["supported_parameters"] = ["tools", "reasoning"]
    assert compared(model).differences == [
        Difference(MINI, "input", "0.4", "0.5"),
        Difference(MINI, "cache_write_5m", None, "1"),
        Difference(MINI, "web_search", "0.01", None),
        Difference(MINI, "context_length", 1_000_000, 900_000),
        Difference(MINI, "max_output_tokens", 32_768, 16_384),
        Difference(MINI, "capabilities", ["json_mode", "logprobs", "structured_outputs", "web_search"], ["reasoning"]),
    ]


@pytest.mark.django_db
def test_tiers_are_compared_by_value():
    tiers = [{"above_prompt_tokens": 200_000, "input": "0.8"}]
    make_route(price=make_price(tiers=tiers))
    override = {"min_prompt_tokens": 200_000, "prompt": "0.0000008"}
    assert compared(theirs(overrides=[override])).differences == []
    (difference,) = compared(THEIRS).differences
    assert (difference.field, difference.ours, difference.theirs) == ("tiers", tiers, [])


@pytest.mark.django_db
def test_a_model_they_do_not_list_is_a_difference():
    make_route()
    assert sync({}, apply=True).differences == [Difference(MINI, "upstream_model", MINI, None)]
    assert Price.objects.count() == 1


@pytest.mark.django_db
def test_only_enabled_routes_by_openrouter_are_compared():
    make_route("openai/off", enabled=False)
    make_route(provider=make_provider("local", kind="openai", base_url="https://llm.example.com/v1"))
    assert sync({}, apply=False).checked == 0


@pytest.mark.django_db
def test_looking_changes_nothing():
    route = make_route()
    assert compared(theirs(prompt="0.0000005")).applied == 0
    assert Route.objects.get().price_id == route.price_id


@pytest.mark.django_db
def test_applying_makes_a_new_price_version_once():
    route = make_route()
    dearer = theirs(prompt="0.0000005", overrides=[{"min_prompt_tokens": 9, "prompt": "0.0000006"}])
    assert compared(dearer, apply=True).applied == 1
    price = Route.objects.get().price
    assert (price.version, price.usd["input"], price.usd["output"]) == (2, Decimal("0.5"), Decimal("1.6"))
    assert price.tiers == [{"above_prompt_tokens": 9, "input": "0.600000"}]
    assert Price.objects.get(pk=route.price_id).usd["input"] == Decimal("0.4")
    again = compared(dearer, apply=True)
    assert (again.differences, again.applied, Price.objects.count()) == ([], 0, 2)


@pytest.mark.django_db
def test_limits_and_capabilities_are_the_operators_to_change():
    make_route(max_output_tokens=100, capabilities=["tools"])
    assert compared(THEIRS, apply=True).applied == 0
    route = Route.objects.get()
    assert (route.max_output_tokens, route.capabilities) == (100, ["tools"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pricing", "note"),
    [
        ({"prompt": "0"}, f"{MINI}: not applied: input became free"),
        ({"completion": "0"}, f"{MINI}: not applied: output became free"),
        ({"web_search": "0"}, f"{MINI}: not applied: no price for web_search"),
        ({"prompt": "-1"}, f"{MINI}: prompt is -1, which is no price: ignored"),
        ({"prompt": "2"}, f"{MINI}: prompt is 2, which is no price: ignored"),
    ],
)
def test_a_price_that_would_give_away_what_we_sell_is_not_applied(pricing, note):
    make_route()
    found = compared(theirs(**pricing), apply=True)
    assert (found.notes, found.applied, Price.objects.count()) == ([note], 0, 1)


@pytest.mark.django_db
def test_the_command_asks_openrouter_and_answers_in_json(settings):
    make_route()
    body = json.dumps({"data": [theirs(prompt="0.0000005"), {"id": "other/model"}], "total_count": 2}).encode()
    with upstream(body) as settings.OPENROUTER_BASE_URL:
        out = StringIO()
        call_command("synccatalog", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {
        "checked": 1,
        "differences": [{"model": MINI, "field": "input", "ours": "0.4", "theirs": "0.5"}],
        "notes": [],
        "applied": 0,
    }


@pytest.mark.django_db
def test_without_json_every_difference_is_a_line(settings):
    make_route()
    with upstream(json.dumps({"data": [theirs(prompt="0.0000005")]}).encode()) as settings.OPENROUTER_BASE_URL:
        out = StringIO()
        call_command("synccatalog", "--apply", stdout=out)
    assert out.getvalue().splitlines() == [
        "checked      1",
        f"differences  {MINI}: input: ours 0.4, theirs 0.5",
        "notes        -",
        "applied      1",
    ]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{}", 200, "'data'"),
        (b"[]", 200, "list indices must be integers"),
        (b"nonsense", 200, "Expecting value"),
        (b'{"data": [{}]}', 200, "'id'"),
        (b"[" * 100_000, 200, "recursion"),
        (b"no", 503, "HTTP status 503"),
        (b"moved", 302, "HTTP status 302"),
        (b'{"data": [], "more": "' + b"x" * 1000 + b'"}', 200, "too long, or too slow"),
    ],
)
def test_an_upstream_that_talks_nonsense_is_one_clear_line(settings, monkeypatch, body, status, reason):
    monkeypatch.setattr(catalog_sync, "LIST_BYTES_MAX", 500 if b"more" in body else 10**6)
    answer = upstream(body, status, Location="http://127.0.0.1:9/")
    with answer as settings.OPENROUTER_BASE_URL, pytest.raises(CommandError) as caught:
        call_command("synccatalog", "--json")
    message = str(caught.value)
    assert message.startswith(f"{settings.OPENROUTER_BASE_URL}/models gave no model list: ")
    assert reason in message
    assert "\n" not in message


def test_an_upstream_that_cannot_be_reached_is_one_clear_line(settings):
    settings.OPENROUTER_BASE_URL = "http://127.0.0.1:9/api/v1"
    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:9/api/v1/models gave no model list: .*refused"):
        call_command("synccatalog")


def test_no_proxy_of_the_environment_is_used(settings, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with upstream(json.dumps({"data": [THEIRS]}).encode()) as settings.OPENROUTER_BASE_URL:
        assert list(catalog_sync.fetch()) == [MINI]
