"""Claude's routes as the shipped catalog has them, and recordings of its API: thinking in a stream, a tool loop, an
overloaded server."""

from functools import cache

from completions.catalog import file as catalog_file
from completions.catalog.file import RouteEntry
from completions.providers.anthropic.kind import ANTHROPIC
from completions.routes import Provider, Route
from sandbox import cards
from tests.kit import CHECKOUT

ORIGIN = "https://anthropic.example"


@cache
def entries() -> dict[str, tuple[str, RouteEntry]]:
    """Model id and route by the name that Anthropic knows."""
    file = catalog_file.parse((CHECKOUT / "catalog.toml").read_text())
    routes = ((model.id, route) for model in file.models for route in model.routes)
    return {route.upstream_model: (model, route) for model, route in routes if route.provider == "anthropic"}


CLAUDES = tuple(entries())


def route(upstream_model: str = "claude-sonnet-4-6", base_url: str = ORIGIN) -> Route:
    model, entry = entries()[upstream_model]
    return Route(
        id=1,
        model=model,
        provider=Provider(1, "anthropic", "anthropic", base_url, "sk-ant-secret"),
        upstream_model=upstream_model,
        priority=entry.priority or 0,
        capabilities=frozenset(entry.capabilities),
        context_length=entry.context_length,
        max_output_tokens=entry.max_output_tokens,
        price=cards.read(cards.CATALOG, "anthropic")[upstream_model].price,
        rules=ANTHROPIC.read_rules(entry.rules or {}),
    )


def recording(name: str) -> bytes:
    """A recorded body without the file's own last line end, a recorded stream with its blank lines."""
    data = (CHECKOUT / "tests" / "recordings" / name).read_bytes()
    return data if name.endswith(".sse") else data.removesuffix(b"\n")
