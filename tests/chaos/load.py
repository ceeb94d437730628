"""Clients: each has a key of its own, calls one after the other, well-behaved or not, and notes what it was told."""

import asyncio
import json
import random
import threading
import time
from typing import Any

import httptools
import msgspec

from quantized.devstack.processes import HOST
from tests.chaos.stack import FLAKY, FLAKY_MODEL

PATIENCE_S = 30.0
REST_S = 0.1  # after a refusal
OPENROUTER, ANTHROPIC = "openrouter", "anthropic"
MODELS = {OPENROUTER: "openai/gpt-4.1-mini", ANTHROPIC: "anthropic/claude-haiku-4.5", FLAKY: FLAKY_MODEL}
# What a provider may do, and how often: most of the time, answer.
FAULTS = (
    *[""] * 24,
    "fault=http:500",
    "fault=http:429",
    "fault=http:529",
    "fault=200_error_top",
    "fault=200_error_choice",
    "fault=midstream_documented:3",
    "fault=midstream_recorded:3",
    "fault=die_before",
    "fault=die_after:3",
    "fault=reset_after:2",
    "fault=stall_before",
    "fault=stall_after:3",
    "fault=invalid_json",
    "fault=no_choices",
    "fault=no_done",
    "usage=missing",
    "usage=zero",
    "billed=0.0001",
    "head_ms=300",
)


class Told(msgspec.Struct, kw_only=True):
    """One request as its client saw it. Times are Unix seconds; `is_whole`: the answer was read to its end."""

    client: int
    number: int
    provider: str
    began_at: float
    ended_at: float = 0.0
    status: int = 0  # 0: no answer
    generation: str = ""
    port: int = 0
    idempotency_key: str = ""
    code: str = ""  # of an error
    said: str = ""  # the answer's text
    used: int | None = None
    remaining: int | None = None
    is_whole: bool = False
    is_error: bool = False  # told in so many words: an error body, or an error event
    left: bool = False  # the client went away on purpose
    trouble: str = ""  # what broke the connection

    @property
    def tag(self) -> str:
        return f"chaos-{self.client}-{self.number}."


class Plan(msgspec.Struct, frozen=True):
    provider: str
    stream: bool
    directive: str
    leave_after_bytes: int | None  # of the answer; None: stay
    leave_after_s: float | None
    twins: bool  # two at once with the same Idempotency-Key, and once more when they have ended


def plan(random: random.Random) -> Plan:
    stream = random.random() < 0.6
    pace = f"tokens={random.randint(3, 60)} delay_ms={random.choice([0, 0, 5, 30])}"
    leaves = random.random()
    return Plan(
        provider=random.choice([OPENROUTER, OPENROUTER, OPENROUTER, ANTHROPIC, FLAKY]),
        stream=stream,
        directive=f"{pace} {random.choice(FAULTS)}",
        leave_after_bytes=random.randint(1, 4000) if leaves < 0.12 else None,
        leave_after_s=random.uniform(0, 0.3) if 0.12 <= leaves < 0.2 else None,
        twins=random.random() < 0.05,
    )


class Answer:
    """httptools' callbacks, and what they found."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


class Client:
    def __init__(self, number: int, api_key: str, ports: list[int], seed: int) -> None:
        self.number = number
        self.told: list[Told] = []
        self._api_key = api_key
        self._ports = ports
        self._random = random.Random(seed)

    async def run(self, over: threading.Event) -> None:
        while not over.is_set():
            chosen = plan(self._random)
            if chosen.twins:
                key = f"twin-{self.number}-{len(self.told)}"
                tag = f"chaos-{self.number}-{len(self.told)}."  # the same request, to the letter
                await asyncio.gather(self._call(chosen, key, tag), self._call(chosen, key, tag))
                await self._call(chosen, key, tag)
            else:
                await self._call(chosen)
            if self.told[-1].status != 200:
                await asyncio.sleep(REST_S)  # nobody there, or no credits: come again

    async def _call(self, chosen: Plan, idempotency_key: str = "", tag: str = "") -> None:
        told = Told(
            client=self.number,
            number=len(self.told),
            provider=chosen.provider,
            began_at=time.time(),
            idempotency_key=idempotency_key,
        )
        tag = tag or told.tag
        self.told.append(told)
        answer = Answer()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._exchange(request(chosen, tag, self._api_key, idempotency_key), chosen, answer, told)
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            told.trouble = type(error).__name__
        told.ended_at = time.time()
        read(answer, told)

    async def _exchange(self, sent: bytes, chosen: Plan, answer: Answer, told: Told) -> None:
        told.port = self._random.choice(self._ports)
        reader, writer = await asyncio.open_connection(HOST, told.port)
        try:
            writer.write(sent)
            while not answer.is_complete:
                async with asyncio.timeout(chosen.leave_after_s):
                    data = await reader.read(65536)
                if not data:
                    told.trouble = "cut"
                    return
                answer.parser.feed_data(data)
                if chosen.leave_after_bytes is not None and len(answer.body) > chosen.leave_after_bytes:
                    told.left = True
                    return
        except TimeoutError:
            if chosen.leave_after_s is None:
                raise
            told.left = True
        finally:
            writer.close()


def request(chosen: Plan, tag: str, api_key: str, idempotency_key: str) -> bytes:
    body: dict[str, Any] = {
        "model": MODELS[chosen.provider],
        "messages": [{"role": "user", "content": f"Say {tag}"}],
        "max_tokens": 64,
        "user": f"sandbox:{chosen.directive}",
    }
    if chosen.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    content = json.dumps(body).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"host: {HOST}",
        f"authorization: Bearer {api_key}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        *([f"x-quantized-provider: {chosen.provider}"] if chosen.provider != FLAKY else []),
        "connection: close",
        *([f"idempotency-key: {idempotency_key}"] if idempotency_key else []),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + content


def read(answer: Answer, told: Told) -> None:
    """What the answer says of its call."""
    if not answer.headers:
        return
    told.status = answer.parser.get_status_code()
    told.generation = answer.headers.get(b"x-generation-id", b"").decode()
    told.is_whole = answer.is_complete
    if b"text/event-stream" in answer.headers.get(b"content-type", b""):
        events = [event[6:] for event in bytes(answer.body).split(b"\n\n") if event.startswith(b"data: {")]
        decoded = [json.loads(event) for event in events if told.is_whole or event is not events[-1]]
    else:
        decoded = [json.loads(answer.body)] if told.is_whole and answer.body else []
    for event in decoded:
        if "error" in event:
            told.is_error, told.code = True, str(event["error"]["code"])
        told.said += "".join(said_in(choice) for choice in event.get("choices", ()))
        if usage := event.get("usage"):
            told.used, told.remaining = usage["credits_used"], usage["credits_remaining"]


def said_in(choice: dict[str, Any]) -> str:
    return (choice.get("delta") or choice.get("message") or {}).get("content") or ""
