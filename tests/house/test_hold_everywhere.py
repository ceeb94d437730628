"""There is no way to a provider without a hold: not by any address, and not by any path through the code."""

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from uuid import UUID

import msgspec
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from benchmarks.contenders import BODY, STREAM_BODY
from billing.ledger.commands import AnyCommand, Expire, Refused, Reserve, Settle, Void
from billing.oversight import verifier
from completions.routes import Provider, Route
from tests.kit import CHECKOUT, MODEL
from tests.kit.calls import call, chat, holds, post, wallet
from tests.kit.tenants import make_tenant
from tests.kit.world import CLAUDE, World, claude, claude_stream, in_world, openrouter, openrouter_stream

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
    [opener] = {place.split()[0] for place in makers("Connection")}
    assert opener == "completions/upstream/client.py"
    assert {place.split()[0] for place in makers("Upstream")} == {"quantized/runtime.py"}, "who else could open one?"
    assert {place.split()[0] for place in users(".create_connection")} == {opener, "billing/notices/webhook_http.py"}
    clients = {path: imported(module) & CLIENTS for path, module in modules().items()}
    others = {path for path, found in clients.items() if found and not path.startswith("billing/")}
    assert others - {"common/outbound.py"} == {  # which makes their sessions, and sends nothing
        "completions/catalog/sync.py",
        "completions/reconciliation/lookups.py",
        "completions/catalog/probe.py",
        "completions/reconciliation/reports.py",
    }
    for path in others - {"common/outbound.py"}:
        calls = [
            ast.unparse(node).rpartition(".") for node in ast.walk(modules()[path]) if isinstance(node, ast.Attribute)
        ]
        verbs = {verb for client, _, verb in calls if client.endswith(("requests", "session"))}
        assert "get" in verbs
        assert not verbs & set(SENDING)


def test_one_function_alone_opens_it():
    """Whatever it is given is a Call, and only the room of the holds makes one."""
    assert users("upstream.open") == {"completions/calls/attempts.py _ask"}
    assert {place.split()[0] for place in makers("Call")} == {"completions/calls/holds.py"}


# --- The pipeline ---------------------------------------------------------------------------------------


def second() -> Route:
    """Another way to the first one's model."""
    provider = Provider(2, "second", "openrouter", "http://127.0.0.1:9/api/v1", "sk-or")
    return msgspec.structs.replace(openrouter(), id=2, provider=provider, priority=1)


def open_holds(commands: Sequence[AnyCommand]) -> list[UUID]:
    """What is held and has not been resolved."""
    ended = {command.hold_id for command in commands if isinstance(command, Settle | Void | Expire)}
    return [command.hold_id for command in commands if isinstance(command, Reserve) and command.hold_id not in ended]


@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["whole", "streamed"])
@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failing over"])
@pytest.mark.parametrize(
    "routes", [(openrouter(),), (claude(),), (openrouter(), second())], ids=["plain", "translated", "two"]
)
def test_a_provider_is_asked_while_the_call_is_held_and_then_alone(
    routes: tuple[Route, ...], fails: bool, body: bytes
) -> None:
    async def work(world: World) -> None:
        held: list[list[UUID]] = []
        world.upstream.before_answer = lambda: held.append(open_holds(world.wire.commands))
        if fails:
            world.upstream.answers(b'{"error":{"code":503,"message":"Overloaded."}}', status=503)
        elif body == STREAM_BODY:
            world.upstream.streams((claude_stream if routes[0].model == CLAUDE else openrouter_stream)(2))
        await world.ask(body.replace(MODEL.encode(), routes[0].model.encode()))
        [reserve] = [command for command in world.wire.commands if isinstance(command, Reserve)]
        assert held == [[reserve.hold_id]] * (len(routes) if fails else 1)
        assert reserve.amount > 0
        assert open_holds(world.wire.commands) == []

    in_world(work, *routes)


@pytest.mark.parametrize("body", [BODY, STREAM_BODY], ids=["whole", "streamed"])
def test_without_a_hold_no_provider_is_asked(body: bytes) -> None:
    async def work(world: World) -> None:
        for reason, status in (
            ("credits", 402),
            ("key_limit", 402),
            ("organization_suspended", 403),
            ("no_wallet", 500),
        ):
            world.wire.decide = lambda _, reason=reason: Refused(reason)
            assert (reason, (await world.ask(body)).status) == (reason, status)
        assert world.upstream.requests == []

    in_world(work)
