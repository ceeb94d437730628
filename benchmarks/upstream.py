"""A provider that costs next to nothing: `python -m benchmarks.upstream --port N`.

Answers OpenRouter's and Anthropic's wire formats with the same bytes every time, whole or as a stream. The last
message of a request may say `chunks=40 pause_ms=5`: so many pieces of text, each written alone after such a pause.
`GET /open` tells how many streams are being written, `GET /generation` what a call of benchmarks/books.py did cost.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable

import httptools
import uvloop

MODEL = "openai/gpt-4.1-mini"
ANSWER = "The capital of France is Paris."
PROMPT_TOKENS, COMPLETION_TOKENS = 25, 8
CHUNKS_DEFAULT = 8
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    "cost": 0.0000228,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
CLAUDE_USAGE = {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS}

_CHUNKS = re.compile(rb"chunks=(\d+)")
_PAUSE = re.compile(rb"pause_ms=(\d+)")
_STREAM = re.compile(rb'"stream" ?: ?true')


def whole(body: object) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-generation-id: gen-static\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def piece(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-generation-id: gen-static\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
BODY_END = b"0\r\n\r\n"


def chunk(delta: object, finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "native_finish_reason": finish_reason}
    body = {"id": "gen-static", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "provider": "Static"}
    return b"data: %b\n\n" % json.dumps(body | {"choices": [choice]} | more).encode()


def event(name: str, **body: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name} | body).encode())


class Dialect:
    """One wire format as bytes: the whole answer; a stream's first, repeated and last words."""

    def __init__(self, answer: object, first: bytes, text: bytes, last: bytes) -> None:
        self.whole = whole(answer)
        self.first = STREAM_HEAD + piece(first)
        self.text = piece(text)
        self.last = piece(last) + BODY_END


OPENROUTER = Dialect(
    {
        "id": "gen-static",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "provider": "Static",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER, "refusal": None, "reasoning": None},
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": USAGE,
    },
    chunk({"role": "assistant", "content": ""}),
    chunk({"role": "assistant", "content": " capital"}),
    chunk({"role": "assistant", "content": ""}, "stop")
    + chunk({"role": "assistant", "content": ""}, usage=USAGE)
    + b"data: [DONE]\n\n",
)
CLAUDE_MESSAGE = {"id": "msg_static", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
ANTHROPIC = Dialect(
    CLAUDE_MESSAGE
    | {"content": [{"type": "text", "text": ANSWER}], "stop_reason": "end_turn", "stop_sequence": None}
    | {"usage": CLAUDE_USAGE},
    event(
        "message_start",
        message=CLAUDE_MESSAGE
        | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": CLAUDE_USAGE | {"output_tokens": 1}},
    )
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": " capital"}),
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=CLAUDE_USAGE)
    + event("message_stop"),
)


BILL = whole({"data": {"total_cost": 0.0000095}})


class Connection(asyncio.Protocol):
    open_streams = 0

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._write: Callable[[bytes], None] = transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._ended()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url == b"/open":
            return self._write(whole({"open": Connection.open_streams}))
        if b"/generation?" in self._url:
            return self._write(BILL)
        dialect = ANTHROPIC if self._url.endswith(b"/messages") else OPENROUTER
        if _STREAM.search(self._body) is None:
            return self._write(dialect.whole)
        chunks, pause = _CHUNKS.search(self._body), _PAUSE.search(self._body)
        count = int(chunks[1]) if chunks else CHUNKS_DEFAULT
        if pause is None:
            return self._write(dialect.first + dialect.text * count + dialect.last)
        Connection.open_streams += 1
        self._write(dialect.first)
        self._later(dialect, count, int(pause[1]) / 1000)

    def _later(self, dialect: Dialect, left: int, pause_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._tick, dialect, left, pause_s)

    def _tick(self, dialect: Dialect, left: int, pause_s: float) -> None:
        if left:
            self._write(dialect.text)
            return self._later(dialect, left - 1, pause_s)
        self._write(dialect.last)
        self._ended()

    def _ended(self) -> None:
        self._timer = None
        Connection.open_streams -= 1


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
