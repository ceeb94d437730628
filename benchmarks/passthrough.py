"""The limit for a gateway in Python: ASGI in, our HTTP client out, nothing between. `python -m benchmarks.passthrough`.

No key is asked for, nothing is read and nothing is booked; bodies pass as they come.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from completions.upstream.client import Upstream, UpstreamAnswer
from completions.upstream.request import UpstreamRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEADERS = (("content-type", "application/json"), ("authorization", "Bearer sk-static"))
PATHS = {"/v1/chat/completions": "/chat/completions", "/v1/messages": "/messages"}


class PassThrough:
    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._upstream: Upstream

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        request = UpstreamRequest(PATHS[scope["path"]], HEADERS, await whole_body(receive))
        async with self._upstream.open(self._base_url, request) as answer:
            await pass_on(answer, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._upstream = Upstream(connect_timeout_s=5, read_timeout_s=60)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._upstream.close()
        await send({"type": "lifespan.shutdown.complete"})


async def whole_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            return body


async def pass_on(answer: UpstreamAnswer, send: Send) -> None:
    headers = [(b"content-type", (answer.header("content-type") or "").encode())]
    if answer.media_type != "text/event-stream":
        body = await answer.body()
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for data in answer.chunks():
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--base-url", required=True)
    given = parser.parse_args()
    app = PassThrough(given.base_url)
    uvicorn.run(app, port=given.port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
