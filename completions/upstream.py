"""The only HTTP client that talks to providers, and the only place that knows its exceptions.

No redirects, no proxies from the environment, no cookies: a secret goes to the host it was saved
for and nowhere else. Whatever a provider sends is bounded in size and time. Leaving the `async with`
closes the connection unless the answer was read to its end; cancelling does so at once. Before the
provider's head it does so with that: pyreqwest 0.15 lets go of a request under way, but does not end it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Literal, TypeVar

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ConnectError, PyreqwestError, RequestTimeoutError
from pyreqwest.response import Response

from completions.providers.base import UpstreamRequest

T = TypeVar("T")

USER_AGENT = "quantized/1"
ANSWER_BYTES_MAX = 128 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
IDLE_CONNECTIONS_MAX = 256
IDLE_LIFE = timedelta(seconds=60)


class UpstreamError(Exception):
    """The provider was not reached, was too slow, or broke off. `kind` says which."""

    def __init__(self, kind: Literal["connect", "timeout", "broken", "too_large"], detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class UpstreamAnswer:
    """One provider's answer: status and headers now, the body when asked for."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str | None:
        return self._response.get_header(name)

    @property
    def is_event_stream(self) -> bool:
        return (self.header("content-type") or "").partition(";")[0].strip().lower() == "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        reader = self._response.body_reader
        while (chunk := await _translated(reader.read_chunk())) is not None:
            heed_cancellation()
            yield bytes(chunk)

    async def body(self, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > bytes_max:
                raise UpstreamError("too_large", f"the answer is larger than {bytes_max} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def error_body(self) -> bytes:
        """The first bytes of an error's body; errors may be HTML pages of any size."""
        parts, size = [], 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size >= ERROR_BYTES_MAX:
                break
        return b"".join(parts)[:ERROR_BYTES_MAX]


class Upstream:
    """A pool of connections, shared by every call of the process."""

    def __init__(self, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._client = build_client(connect_timeout_s, read_timeout_s)

    @asynccontextmanager
    async def open(self, base_url: str, request: UpstreamRequest) -> AsyncIterator[UpstreamAnswer]:
        """Send a request; yields once the headers are there. Raises UpstreamError."""
        prepared = (
            self._client.post(base_url + request.path)
            .headers(list(request.headers))
            .body_bytes(request.body)
            .streamed_read_buffer_limit(0)  # otherwise it waits for the first chunks before it returns
            .build_streamed()
        )
        response = await _translated(prepared.__aenter__())
        try:
            heed_cancellation()
            yield UpstreamAnswer(response)
        finally:
            await prepared.__aexit__(None, None, None)

    async def close(self) -> None:
        await self._client.close()


def build_client(connect_timeout_s: float, read_timeout_s: float) -> Client:
    return (
        ClientBuilder()
        .user_agent(USER_AGENT)
        .no_proxy()
        .follow_redirects(False)
        .connect_timeout(timedelta(seconds=connect_timeout_s))
        .read_timeout(timedelta(seconds=read_timeout_s))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_LIFE)
        .build()
    )


def heed_cancellation() -> None:
    """pyreqwest 0.15 loses a cancellation that comes at the same moment as what was waited for."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _translated(awaitable: Awaitable[T]) -> T:
    """The border: pyreqwest's exceptions become ours."""
    try:
        return await awaitable
    except ConnectError as error:
        raise UpstreamError("connect", type(error).__name__) from error
    except RequestTimeoutError as error:
        raise UpstreamError("timeout", type(error).__name__) from error
    except PyreqwestError as error:
        raise UpstreamError("broken", type(error).__name__) from error
