"""A model with two routes: the next one is asked before the first byte, never after, and only who served is paid."""

import os
import time
from collections.abc import Iterator
from itertools import product

import httpx
import pytest

from billing.models import Usage
from sandbox.server import SandboxServer
from tests.kit.calls import shared_server
from tests.kit.catalogs import make_price, make_provider, make_route
from tests.kit.failover import House, usage_of
from tests.kit.live import Server
from tests.kit.tenants import Tenant

FAULTS = ("http:503", "http:529", "http:429", "http:401", "die_before", "html", "200_error_top", "stall_before")
CIRCUIT_FAILURES = 3


@pytest.fixture
def house(
    request: pytest.FixtureRequest,
    server_environment: dict[str, str],
    shared_servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """Upstreams, routes and a model of the test's own, so its circuits are closed; the server is shared. The second
    upstream costs double. Parametrize indirectly for other settings of the server."""
    tag = os.urandom(4).hex()
    with SandboxServer() as first, SandboxServer() as second:
        names = (f"first-{tag}", f"second-{tag}")
        for priority, (name, upstream) in enumerate(zip(names, (first, second), strict=True)):
            provider = make_provider(name, kind="openai", base_url=upstream.base_url, allow_plain_http=True)
            provider.set_secret("sk-test")
            provider.save()
            price = make_price(input="0.80", output="3.20") if priority else make_price()
            make_route(f"test/{tag}", provider, upstream_model="openai/gpt-4.1-mini", priority=priority, price=price)
        settings = {"UPSTREAM_READ_TIMEOUT_S": "1", **getattr(request, "param", {})}
        name = "-".join(("failover", *settings.values()))
        server = shared_server(shared_servers, name, {**server_environment, **settings}, tmp_path_factory)
        house = House(server, first, second, f"test/{tag}", names)
        house.wait_served()
        yield house


def test_the_next_route_answers_when_the_first_fails(house: House, alice: Tenant):
    first, second = house.names
    for fault, stream in product(FAULTS, (False, True)):
        house.break_first(f"fault={fault}")
        response = house.ask(alice, stream=stream)
        assert (fault, response.status_code) == (fault, 200)
        assert response.headers["x-quantized-provider"] == second
        tried, served = response.headers["x-quantized-attempts"].split(", ")
        assert (tried.split("=")[0], served) == (first, f"{second}=ok")
        usage = usage_of(response)
        assert (usage.provider, usage.charged) == (second, 3_958)
        assert [attempt["provider"] for attempt in usage.attempts] == [first, second]
    assert len(house.second.calls) == 2 * len(FAULTS)


def test_what_is_not_asked_again(house: House, alice: Tenant):
    """A first route that works, a refusal of the request, a stream that has begun, a forced provider."""
    first = house.names[0]
    working = house.ask(alice)
    assert working.headers["x-quantized-provider"] == first
    assert "x-quantized-attempts" not in working.headers
    assert usage_of(working).charged == 1_979
    house.break_first("fault=http:400")
    assert house.ask(alice).status_code == 400
    house.break_first("tokens=20 fault=die_after:3")
    begun = house.ask(alice, stream=True)
    assert (begun.status_code, begun.text.count('"error"'), "[DONE]" in begun.text) == (200, 1, False)
    house.break_first("fault=http:503")
    forced = house.ask(alice, provider=first)
    assert (forced.status_code, forced.json()["error"]["code"]) == (503, "provider_unavailable")
    assert house.second.calls == []


def test_both_down_is_the_clients_503_and_charges_nothing(house: House, alice: Tenant):
    house.break_first("fault=http:503")
    httpx.post(f"{house.second.origin}/_sandbox/default", json={"directive": "fault=http:502"}).raise_for_status()
    response = house.ask(alice)
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert response.headers["x-quantized-attempts"] == ", ".join(f"{name}=unavailable" for name in house.names)
    assert usage_of(response).error_code == "unavailable"
    usage = Usage.objects.get(wallet_id=alice.organization_id)
    assert [attempt["provider"] for attempt in usage.attempts] == list(house.names)
    assert usage.charged == 0


@pytest.mark.parametrize("house", [{"CIRCUIT_FAILURES": str(CIRCUIT_FAILURES), "CIRCUIT_OPEN_S": "1"}], indirect=True)
def test_an_open_circuit_spares_the_provider_until_a_probe_succeeds(house: House, alice: Tenant):
    house.break_first("fault=http:503")
    for _ in range(CIRCUIT_FAILURES + 2):
        assert house.ask(alice).status_code == 200
    assert len(house.first.calls) == CIRCUIT_FAILURES
    refused = house.ask(alice, provider=house.names[0])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    house.break_first("")
    deadline_asks = 60
    while house.ask(alice).headers["x-quantized-provider"] != house.names[0]:
        deadline_asks -= 1
        assert deadline_asks, "the circuit never closed"
    assert len(house.first.calls) == CIRCUIT_FAILURES + 1


@pytest.mark.parametrize("house", [{"CIRCUIT_FAILURES": str(CIRCUIT_FAILURES), "CIRCUIT_OPEN_S": "1"}], indirect=True)
def test_a_long_stream_as_the_probe_keeps_nobody_out(house: House, alice: Tenant):
    house.break_first("fault=http:503")
    for _ in range(CIRCUIT_FAILURES):
        house.ask(alice)
    house.break_first("tokens=8 delay_ms=400")
    time.sleep(1.1)
    headers = {**alice.headers, "X-Quantized-Provider": house.names[0]}
    body = {"model": house.model, "messages": [{"role": "user", "content": "Count."}], "max_tokens": 64, "stream": True}
    url = f"{house.server.base_url}/chat/completions"
    with httpx.stream("POST", url, headers=headers, json=body, timeout=20) as probe:
        events = probe.iter_raw()
        next(events)
        house.break_first("")
        assert house.ask(alice, provider=house.names[0]).status_code == 200
