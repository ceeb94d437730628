"""Claude's routes as the shipped catalog has them, and recordings of its API: thinking in a stream, a tool loop, an
overloaded server."""

from completions.providers.anthropic.kind import ANTHROPIC
from completions.routes import Provider, Route
from tests.kit import CHECKOUT, shipped

ORIGIN = "https://anthropic.example"


CLAUDES = tuple(shipped.entries("anthropic"))


def route(upstream_model: str = "claude-sonnet-4-6", base_url: str = ORIGIN) -> Route:
    model, entry = shipped.entries("anthropic")[upstream_model]
    return Route(
        id=1,
        model=model,
        provider=Provider(1, "anthropic", "anthropic", base_url, "sk-ant-secret"),
        upstream_model=upstream_model,
        priority=entry.priority or 0,
        capabilities=frozenset(entry.capabilities),
        context_length=entry.context_length,
        max_output_tokens=entry.max_output_tokens,
        price=shipped.price(entry),
        rules=ANTHROPIC.read_rules(entry.rules or {}),
    )


def recording(name: str) -> bytes:
    """A recorded body without the file's own last line end, a recorded stream with its blank lines."""
    data = (CHECKOUT / "tests" / "recordings" / name).read_bytes()
    return data if name.endswith(".sse") else data.removesuffix(b"\n")
