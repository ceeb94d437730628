"""A server process in memory: a call goes through the front door's lean lane, the view, the gateway and the adapter.

The provider and the database's wire are played, all between is ours. There is no socket, and nothing takes longer than
a few milliseconds:

    async def work(world: World) -> None:
        world.upstream.streams(openrouter_stream(3))
        answer = await world.ask(STREAM_BODY)
        assert (answer.status, answer.events[-1]) == (200, "[DONE]")
        assert [type(command) for command in world.wire.commands] == [Reserve, Settle]

    in_world(work)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from accounts import keys
from benchmarks.upstream import ANTHROPIC, OPENROUTER, chunk, event
from billing.ledger.commands import AnyCommand, Done, Held, Outcome, Reserve, Settle, Settled
from completions.dialects import DIALECTS
from completions.dialects.base import Dialect
from completions.routes import Catalog, ModelCard, Provider, Route
from completions.upstream.request import UpstreamRequest
from quantized.asgi import Application
from quantized.runtime import Runtime
from tests.kit import MODEL, claude_routes, shipped
from tests.kit.calls import PATH, Answer

T = TypeVar("T")

CLAUDE = "claude"  # the model that Anthropic serves in this world
BALANCE_MICRO = 1_000_000  # after every settlement
KEY_ID, ORGANIZATION_ID = UUID(int=1), UUID(int=2)  # the one key, and whose it is
GENERATION_ID = "gen-static"
JSON, EVENTS = "application/json", "text/event-stream"
ANYWHERE = ""  # as a base URL: of every provider that was given no answer of its own
SETTLING_TURNS = 50  # of the event loop, until what a call left behind has ended


class PlayedAnswer:
    """What an upstream's `open` yields."""

    def __init__(self, status: int, pieces: Sequence[bytes], media_type: str) -> None:
        self.status = status
        self.media_type = media_type
        self._pieces = pieces

    async def __aenter__(self) -> "PlayedAnswer":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def header(self, name: str) -> str | None:
        return GENERATION_ID if name == "x-generation-id" else None

    async def body(self) -> bytes:
        return b"".join(self._pieces)

    async def error_body(self) -> bytes:
        return b"".join(self._pieces)

    async def chunks(self, _bytes_max: int | None = None) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if self.media_type != JSON:
                await asyncio.sleep(0)  # each comes alone
            yield piece


class PlayedUpstream:
    """Answers every request with the same, or with what its base URL was given; `requests` are what came.
    `before_answer` is called when one has come."""

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []
        self.before_answer: Callable[[], None] = lambda: None
        self._played: dict[str, PlayedAnswer] = {}
        self.answers(OPENROUTER.whole.partition(b"\r\n\r\n")[2])

    def answers(self, body: bytes, status: int = 200, *, at: str = ANYWHERE) -> None:
        self._played[at] = PlayedAnswer(status, [body], JSON)

    def streams(self, pieces: Sequence[bytes], media_type: str = EVENTS, *, at: str = ANYWHERE) -> None:
        self._played[at] = PlayedAnswer(200, pieces, media_type)

    def open(self, base_url: str, request: UpstreamRequest) -> PlayedAnswer:
        self.requests.append(request)
        self.before_answer()
        return self._played.get(base_url) or self._played[ANYWHERE]


class PlayedWire:
    """Commits at once, in memory, what `decide` says; `commands` are what was committed."""

    connected = True

    def __init__(self) -> None:
        self.commands: list[AnyCommand] = []
        self.decide: Callable[[AnyCommand], Outcome] = outcome

    async def connect(self) -> None: ...
    async def disconnect(self) -> None: ...

    async def transact(self, commands: Sequence[AnyCommand]) -> list[Outcome]:
        self.commands += commands
        return [self.decide(command) for command in commands]


def outcome(command: AnyCommand) -> Outcome:
    if isinstance(command, Reserve):
        return Held(command.amount)
    return Settled(command.actual, BALANCE_MICRO) if isinstance(command, Settle) else Done(True)


class World:
    """One server process's runtime, with one key that may do everything."""

    def __init__(self, *routes: Route, dialects: Mapping[str, Dialect] = DIALECTS) -> None:
        self.upstream = PlayedUpstream()
        self.wire = PlayedWire()
        self.application = Application(dialects)
        self.key = keys.mint()
        played: dict[str, Any] = {"wire": self.wire, "upstream": self.upstream, "reader": self}
        self.runtime = Runtime(**played)
        self.runtime.terms.catalog = catalog_of(routes or (openrouter(), claude()))

    async def fetch_one(self, _sql: str, _params: Sequence[Any]) -> tuple[Any, ...]:
        """The row of the one key; nothing else is asked for."""
        return KEY_ID, ORGANIZATION_ID, None, None, None, "active", None, None, None

    async def ask(self, body: bytes, headers: Mapping[str, str] | None = None, *, path: str = PATH) -> Answer:
        """One request, and what came of it once all that it left behind has ended."""
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(self.scope(body, headers or {}, path), receive, send)
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
        start, *parts = sent
        told = {name.decode().lower(): value.decode("latin1") for name, value in start["headers"]}
        return Answer(start["status"], told, b"".join(part.get("body", b"") for part in parts))

    async def call(self, body: bytes) -> bytes:
        """The body of an answer that is a 200."""
        answer = await self.ask(body)
        assert answer.status == 200, answer
        return answer.body

    def scope(self, body: bytes, headers: Mapping[str, str], path: str) -> dict[str, Any]:
        sent = {
            "host": "127.0.0.1:8000",
            "content-type": "application/json",
            "authorization": f"Bearer {self.key}",
            "content-length": str(len(body)),
            **headers,
        }
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50_000),
            "state": {"runtime": self.runtime},
        }

    def forget(self) -> None:
        """What was recorded of the calls until now."""
        self.upstream.requests.clear()
        self.wire.commands.clear()


def in_world(work: Callable[[World], Awaitable[T]], *routes: Route, dialects: Mapping[str, Dialect] = DIALECTS) -> T:
    """What `work` returns, on an event loop of its own. Without routes there are OpenRouter's for MODEL and
    Anthropic's for CLAUDE."""

    async def run() -> T:
        world = World(*routes, dialects=dialects)
        await world.runtime.writer.start()
        try:
            return await work(world)
        finally:
            await world.runtime.writer.close(1)
            await world.runtime.gateway.close_connections()

    return asyncio.run(run())


# --- routes -------------------------------------------------------------------------------------


def catalog_of(routes: Sequence[Route]) -> Catalog:
    """Routes to one model are in the order of their turns."""
    models: dict[str, list[Route]] = {}
    for route in routes:
        models.setdefault(route.model, []).append(route)
    return Catalog({model: card(model, ways) for model, ways in models.items()})


def card(model: str, routes: Sequence[Route]) -> ModelCard:
    return ModelCard(id=model, name=model, owned_by="bench", created=0, routes=tuple(routes))


def openrouter() -> Route:
    return Route(
        id=1,
        model=MODEL,
        provider=Provider(1, "openrouter", "openrouter", "http://127.0.0.1:9/api/v1", "sk-or"),
        upstream_model=MODEL,
        priority=0,
        capabilities=frozenset({"tools", "json_mode"}),
        context_length=1_047_576,
        max_output_tokens=32_768,
        price=shipped.price(shipped.entries("openrouter")[MODEL][1]),
    )


def claude() -> Route:
    return msgspec.structs.replace(claude_routes.route(), model=CLAUDE)


# --- streams ------------------------------------------------------------------------------------


def openrouter_stream(chunks: int) -> list[bytes]:
    """A stream's pieces, of which so many say the same word."""
    first, last = (unframed(part) for part in (OPENROUTER.first, OPENROUTER.last))
    return [first, *[chunk({"role": "assistant", "content": " capital"})] * chunks, last]


def claude_stream(chunks: int) -> list[bytes]:
    first, last = (unframed(part) for part in (ANTHROPIC.first, ANTHROPIC.last))
    text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": " capital"})
    return [first, *[text] * chunks, last]


def unframed(part: bytes) -> bytes:
    """The events in one piece of a chunked body, which may have a head before it and the body's end after it."""
    body = part.partition(b"\r\n\r\n")[2] if part.startswith(b"HTTP") else part
    size, _, rest = body.partition(b"\r\n")
    return rest[: int(size, 16)]
