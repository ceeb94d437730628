"""There is no way to a provider without a hold: not by any address, and not by any path through the code."""

import ast
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from benchmarks.contenders import BODY, STREAM_BODY
from billing.ledger.commands import Refused, Reserve, Settle, Void
from billing.oversight import verifier
from tests.kit import CHECKOUT, MODEL
from tests.kit.calls import call, chat, holds, post, wallet
from tests.kit.live import make_tenant
from tests.kit.world import CLAUDE, World, in_world

CLIENTS = {"aiohttp", "httpx", "pyreqwest", "requests", "urllib.request", "urllib3", "http.client"}
SENDING = ("post", "put", "patch", "request", "send")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
COMPLETIONS = "/v1/chat/completions"
OURS = ("accounts", "billing", "common", "completions", "quantized")
TOOLS = ("sandbox", "quantized/devstack")  # a provider of our own, and what starts everything


def addresses(patterns, prefix="/") -> Iterator[str]:
    """Every address of the URL table, its parameters filled in."""
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern):
            yield address


def fill(address: str) -> str:
    parts = [MODEL if part.startswith("<") else part for part in address.replace("path:model_id>", "x>").split("/")]
    return "/".join(parts)


def api_addresses() -> list[str]:
    return [fill(address) for address in addresses(get_resolver().url_patterns) if address.startswith("/v1/")]


def test_no_address_reaches_a_provider_for_a_wallet_without_credits(gateway, sandbox, live_db):
    sandbox.reset()
    bob = make_tenant(0)
    assert COMPLETIONS in api_addresses()
    for stream in (False, True):
        body = chat(stream=stream)
        for address in api_addresses():
            statuses = {method: request(gateway, method, address, bob, body).status for method in METHODS}
            assert statuses["POST"] == 402 if address == COMPLETIONS else statuses["POST"] >= 400, address
    assert sandbox.counters["received"] == 0
    assert (wallet(bob), holds(bob)) == ((0, 0), [])
    assert verifier.violations() == []


def request(server, method, address, tenant, body):
    if method in ("GET", "HEAD", "OPTIONS"):
        return call(server, method, address, tenant.headers)
    if address == COMPLETIONS and method == "POST":
        return post(server, tenant, body)
    return call(server, method, address, {**tenant.headers, "content-type": "application/json"}, b"{}")


# --- The code -------------------------------------------------------------------------------------------


@cache
def modules() -> dict[str, ast.Module]:
    paths = (path.relative_to(CHECKOUT).as_posix() for room in OURS for path in (CHECKOUT / room).rglob("*.py"))
    return {path: ast.parse((CHECKOUT / path).read_text()) for path in paths if not path.startswith(TOOLS)}


def imported(module: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module.partition(".")[0], node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


def functions_with(wanted: Callable[[ast.expr], bool]) -> set[str]:
    """`path name` of every function that holds such an expression."""
    return {
        f"{path} {function.name}"
        for path, module in modules().items()
        for function in ast.walk(module)
        if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef)
        and any(isinstance(node, ast.expr) and wanted(node) for node in ast.walk(function))
    }


def users(attribute: str) -> set[str]:
    last = attribute.rpartition(".")[2]
    return functions_with(
        lambda node: isinstance(node, ast.Attribute) and node.attr == last and ast.unparse(node).endswith(attribute)
    )


def makers(name: str) -> set[str]:
    return functions_with(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == name)


def test_one_module_alone_can_send_a_prompt():
    """The others that know an HTTP client ask a provider for its prices, bills and health, without a body. Billing has
    clients for Stripe and for tenants' webhooks, and stands under the rooms that see prompts."""
    [opener] = makers("Connection")
    assert opener == "completions/upstream/client.py _connect_to"
    assert users(".create_connection") == {opener, "billing/notices/webhook_http.py connect"}
    clients = {path: imported(module) & CLIENTS for path, module in modules().items()}
    others = {path for path, found in clients.items() if found and not path.startswith("billing/")}
    assert others - {"common/outbound.py"} == {  # which makes their sessions, and sends nothing
        "completions/catalog/sync.py",
        "completions/reconciliation/lookups.py",
        "completions/catalog/probe.py",
        "completions/reconciliation/reports.py",
    }
    for path in others - {"common/outbound.py"}:
        calls = {ast.unparse(node) for node in ast.walk(modules()[path]) if isinstance(node, ast.Attribute)}
        assert calls & {"requests.get", "session.get", "self._session.get"}
        assert not {f"{by}.{verb}" for by in ("requests", "session", "self._session") for verb in SENDING} & calls


def test_one_function_alone_opens_it():
    """Whatever it is given is a Call, and `holds.open` alone makes one: what is committed before is a test below."""
    assert users("upstream.open") == {"completions/calls/attempts.py _ask"}
    assert [name.split()[0] for name in makers("Call")] == ["completions/calls/holds.py"]


# --- The order of things --------------------------------------------------------------------------------


def test_a_provider_is_asked_under_a_hold_that_is_open():
    """Of both kinds of answer and of provider: when the upstream is opened, this call's hold is committed, and nothing
    has ended it."""

    async def work(world: World) -> None:
        seen = []
        world.upstream.at_open = lambda: seen.append([type(command) for command in world.wire.commands])
        for body, model in ((BODY, MODEL), (STREAM_BODY, MODEL), (BODY, CLAUDE), (STREAM_BODY, CLAUDE)):
            world.forget()
            await world.ask(body.replace(MODEL.encode(), model.encode()))
            assert seen.pop() == [Reserve]
            assert type(world.wire.commands[-1]) in (Settle, Void)

    in_world(work)


@pytest.mark.parametrize("reason", ["credits", "key_limit", "organization_suspended", "revoked_api_key", "no_wallet"])
def test_without_a_hold_none_is_asked(reason):
    async def work(world: World) -> None:
        world.wire.outcomes[Reserve] = Refused(reason, required=1)
        for body in (BODY, STREAM_BODY):
            assert (await world.ask(body)).status >= 400
        assert {type(command) for command in world.wire.commands} == {Reserve}
        assert world.upstream.requests == []

    in_world(work)
