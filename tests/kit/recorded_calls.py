"""The calls that are recorded (recorded_answers.py): which stories there are, and what is called in each.

Most come of tables: every conversation is had over every wire, whole and streamed, and every fault of a provider
happens on every wire. A story's name is `family/story`; a family is a file of recordings. Calls go over HTTP and
reach behind it only for what no address can do: a key that has expired, an organization that is suspended.
"""

import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import override_settings
from prometheus_client.parser import text_string_to_metric_families

from accounts.models import ApiKey, LogInThrottle, Organization
from billing.models import Wallet
from tests.kit import CHECKOUT, MODEL
from tests.kit.calls import PATH
from tests.kit.canned_provider import CannedProvider, response
from tests.kit.conversations import CAPITAL, COUNT, FRANCE, PARIS, PIXEL, STORY, TIME, TWO_CITIES, WEATHER, picture
from tests.kit.live import Server
from tests.kit.members import PASSWORD
from tests.kit.recorded_answers import QUICK_HASHERS, Stage, claims, compact, new_email
from tests.kit.tenants import Tenant


class Places(NamedTuple):
    """Where stories are told: the suite's gateway, one that waits for nobody long, and a provider that says what it
    is told to."""

    gateway: Server
    impatient: Server
    canned: CannedProvider

    def stage(self, credits_micro: int = 100_000_000, *, is_impatient: bool = False, **options: Any) -> Stage:
        server = self.impatient if is_impatient else self.gateway
        origins = {"server": server.origin, "canned provider": self.canned.origin}
        return Stage(server, origins, credits_micro, **options)


Story = Callable[[Places], Stage]
STORIES: dict[str, Story] = {}


def story(name: str) -> Callable[[Story], Story]:
    def added(told: Story) -> Story:
        assert name not in STORIES, name
        STORIES[name] = told
        return told

    return added


# --- Conversations, over every wire ------------------------------------------------------------------

# Rows of the catalog that the stories add to the shipped ones (test_recorded_answers.py).
LOCAL, CANNED, AWAY = "recorded/local", "recorded/canned", "recorded/away"
SECOND_AFTER_AWAY, SECOND_AFTER_CANNED = "recorded/second-after-away", "recorded/second-after-canned"
SONNET, HAIKU, HAIKU_5, FABLE = (
    f"anthropic/claude-{name}" for name in ("sonnet-4.6", "haiku-4.5", "haiku-5.5", "fable-5.1")
)

Asked = dict[str, Any]


class Wire(NamedTuple):
    model: str
    provider: str | None = None

    def body(self, fields: Asked, directive: str = "", **more: Any) -> Asked:
        told = {"user": f"sandbox:{directive}"} if directive else {}
        return {"model": self.model, "messages": [FRANCE], "max_tokens": 64, **told, **fields, **more}

    @property
    def headers(self) -> dict[str, str]:
        return {"x-quantized-provider": self.provider} if self.provider else {}


WIRES = {
    "openrouter": Wire(MODEL),
    "openrouter-claude": Wire(SONNET, "openrouter"),
    "anthropic": Wire(SONNET, "anthropic"),
    "openai": Wire(LOCAL),
}
STREAMED: Asked = {"stream": True}
WITH_USAGE: Asked = {"stream": True, "stream_options": {"include_usage": True}}
MODES: dict[str, Asked] = {"whole": {}, "streamed": STREAMED, "streamed with usage": WITH_USAGE}

LOOKED_UP = [
    TWO_CITIES,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{city}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
            for city, arguments in (("paris", '{"city": "Paris"}'), ("berlin", '{"city": "Berlin"}'))
        ],
    },
    {"role": "tool", "tool_call_id": "call_paris", "content": '{"temp": 18, "unit": "C"}'},
    {"role": "tool", "tool_call_id": "call_berlin", "content": '{"temp": 7, "unit": "C"}'},
]
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQKJUVPRgo=", "filename": "a.pdf"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}}


def saying(*parts: Asked) -> list[Asked]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is in this?"}, *parts]}]


CONVERSATIONS: dict[str, Asked] = {
    "text": {},
    "no bound": {"max_tokens": None},
    "several turns": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            FRANCE,
            {"role": "assistant", "content": PARIS},
            {"role": "user", "content": "What about Germany?"},
        ]
    },
    "a temperature": {"temperature": 0.5, "stop": ["END"]},
    "sampling": {"temperature": 0.5, "top_p": 0.9},
    "every sampling setting": {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "repetition_penalty": 1.1,
        "seed": 7,
        "logit_bias": {"50256": -100},
        "user": "user-1",
        "metadata": {"purpose": "a recording"},
    },
    "settings that ask for nothing": {
        "temperature": 1,
        "frequency_penalty": 0,
        "logprobs": False,
        "stop": None,
        "seed": None,
        "response_format": {"type": "text"},
    },
    "one tool": {"messages": [{"role": "user", "content": "What's the weather in Paris?"}], "tools": [WEATHER]},
    "parallel tools": {"messages": [TWO_CITIES], "tools": [WEATHER, TIME], "tool_choice": "auto"},
    "a tool by name": {
        "tools": [WEATHER, TIME],
        "tool_choice": {"type": "function", "function": {"name": "get_time"}},
    },
    "tools' results": {"messages": LOOKED_UP, "tools": [WEATHER]},
    "an image by url": {"messages": [picture(url="https://example.com/photo.jpg")]},
    "an image as data": {"messages": [picture(url=PIXEL, detail="low")]},
    "a file": {"messages": saying(FILE)},
    "a sound": {"messages": saying(SOUND)},
    "sound asked for": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    "a json object": {"response_format": {"type": "json_object"}},
    "a json schema": {"response_format": {"type": "json_schema", "json_schema": CAPITAL}},
    "a stop sequence": {"messages": [COUNT], "stop": " 4"},
    "an output bound": {"messages": [COUNT], "max_tokens": None, "max_completion_tokens": 5},
    "reasoning by effort": {"reasoning": {"effort": "low"}, "max_tokens": 4096},
    "reasoning by budget": {"reasoning": {"max_tokens": 1024}, "max_tokens": 4096},
    "reasoning left out": {"reasoning": {"effort": "low", "exclude": True}, "max_tokens": 4096},
    "reasoning switched off": {"reasoning": {"enabled": False}},
    "log probabilities": {"logprobs": True, "top_logprobs": 2},
    "a web search": {"web_search_options": {"search_context_size": "low"}},
    "cached tokens": {"user": "sandbox:prompt=5000 cached=4000 cache_write=900"},
}
# The others are streamed with their usage alone, in chunks of a few tokens: they are many.
STREAMED_BOTH_WAYS = ("text", "one tool")


def conversation(name: str, wire: Wire) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage()
        for mode, more in MODES.items():
            if mode != "streamed" or name in STREAMED_BOTH_WAYS:
                directive = "" if name == "text" or "user" in CONVERSATIONS[name] else "chunk=9"
                stage.ask(mode, wire.body(CONVERSATIONS[name], directive, **more), headers=wire.headers)
        return stage

    return told


# OpenRouter's Claudes are asked as its other models are, but for what those do not have.
OF_CLAUDE = ("text", "an output bound", "cached tokens", *(name for name in CONVERSATIONS if "reasoning" in name))

for name in CONVERSATIONS:
    for wire_name, wire in WIRES.items():
        if wire_name != "openrouter-claude" or name in OF_CLAUDE:
            story(f"chat-{wire_name}/{name}")(conversation(name, wire))

# What only some models do.
ONLY_SOME: dict[str, tuple[Wire, Asked]] = {
    "beyond a tier by anthropic": (
        Wire(HAIKU_5, "anthropic"),
        {"user": "sandbox:prompt=100001", "reasoning": {"effort": "none"}},
    ),
    "beyond a tier by openrouter": (Wire("openai/gpt-6-luna"), {"user": "sandbox:prompt=272001"}),
    "beyond a tier by openai": (Wire(LOCAL), {"user": "sandbox:prompt=1001"}),
    "reasoning by openrouter": (
        Wire("openai/gpt-5.4-mini"),
        {"reasoning": {"effort": "minimal"}, "max_tokens": 128},
    ),
    "reasoning by budget by anthropic": (
        Wire(HAIKU, "anthropic"),
        {"reasoning": {"max_tokens": 1024}, "max_tokens": 2048},
    ),
    "unasked reasoning by anthropic": (Wire(FABLE, "anthropic"), {"max_tokens": 2048}),
    "a later system message by anthropic": (
        Wire(FABLE, "anthropic"),
        {
            "messages": [
                FRANCE,
                {"role": "assistant", "content": PARIS},
                FRANCE,
                {"role": "system", "content": "Now."},
            ],
            "max_tokens": 2048,
        },
    ),
    "an assistant's beginning by anthropic": (
        Wire(HAIKU, "anthropic"),
        {"messages": [FRANCE, {"role": "assistant", "content": "The capital"}]},
    ),
    "a sound by openrouter": (Wire("openai/gpt-audio-mini"), {"messages": saying(SOUND)}),
    "sound counted by openai": (Wire(LOCAL), {"user": "sandbox:prompt=50 audio=20"}),
    "reasoning counted by openai": (Wire(LOCAL), {"user": "sandbox:completion=20 reasoning=12"}),
    "searches counted by openai": (Wire(LOCAL), {"user": "sandbox:searches=3"}),
    "prose by openrouter": (Wire(MODEL), {"messages": [STORY], "seed": 7}),
}


def of_some(wire: Wire, fields: Asked) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage(1_000_000_000)
        for mode in ("whole", "streamed with usage"):
            stage.ask(mode, wire.body(fields, **MODES[mode]), headers=wire.headers)
        return stage

    return told


for name, (wire, fields) in ONLY_SOME.items():
    story(f"chat-some-models/{name}")(of_some(wire, fields))


@story("chat-some-models/a tool loop with sealed thoughts by anthropic")
def _(places: Places) -> Stage:
    stage = places.stage()
    wire = Wire(SONNET, "anthropic")
    fields = {"tools": [WEATHER], "reasoning": {"effort": "low"}, "max_tokens": 4096}
    first = stage.ask("first", wire.body({"messages": [TWO_CITIES], **fields}), headers=wire.headers)
    message = first.json["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": each["id"], "content": '{"temp": 18}'} for each in message["tool_calls"]
    ]
    for mode in ("whole", "streamed with usage"):
        followed = wire.body({"messages": [TWO_CITIES, message, *results], **fields}, **MODES[mode])
        stage.ask(f"second, {mode}", followed, headers=wire.headers)
    changed = [{**message["reasoning_details"][0], "text": "Something else."}]
    messages = [TWO_CITIES, {**message, "reasoning_details": changed}, *results]
    stage.ask("a changed thought", wire.body({"messages": messages, **fields}), headers=wire.headers)
    return stage


def cache_marks(wire: Wire) -> Story:
    def told(places: Places) -> Stage:
        """The book is one that no other run has sent, or its provider would know it."""
        stage = places.stage()
        nonce = stage.tenant.organization_id.hex.translate(str.maketrans("0123456789", "ghijklmnop"))[:12]
        stage.names.know(nonce, "nonce")
        book = {
            "type": "text",
            "text": f"{nonce} " + "word " * 4200,
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        }
        question = {"type": "text", "text": FRANCE["content"], "cache_control": {"type": "ephemeral"}}
        fields = {
            "messages": [{"role": "system", "content": [book]}, {"role": "user", "content": [question]}],
        }
        for title, mode in (("written", "whole"), ("read", "whole"), ("read in a stream", "streamed with usage")):
            stage.ask(title, wire.body(fields, "chunk=9", **MODES[mode]), headers=wire.headers)
        return stage

    return told


for wire_name, wire in WIRES.items():
    story(f"chat-some-models/cache marks by {wire_name}")(cache_marks(wire))


# --- Providers in trouble ----------------------------------------------------------------------------

TROUBLE = {
    "says no": [f"fault=http:{status}" for status in (400, 401, 402, 403, 404, 413, 422)],
    "is away": [
        *(f"fault=http:{status}" for status in (408, 429, 500, 503, 529)),
        "fault=http:429 retry_after=7",
        "fault=http:503 retry_after=999999",
        "fault=200_error_top",
    ],
    "breaks off": [
        "fault=200_error_choice",
        "fault=midstream_documented:2",
        "fault=midstream_recorded:2",
        "fault=die_after:0",
        "fault=die_after:2",
        "fault=reset_after:2",
        "fault=no_done",
    ],
    "talks nonsense": [
        f"fault={fault}"
        for fault in (
            *("html", "empty_body", "invalid_json", "truncated_json", "wrong_content_type", "no_choices"),
            *("huge_line:40", "comments_only"),
        )
    ],
    "counts oddly": [
        *(f"usage={form}" for form in ("empty_choices", "2025", "missing", "zero", "negative", "absurd", "bare")),
        *("usage=wrong_types", "cached=20", "cost=0.5", "prompt=1000000"),
    ],
    "ends oddly": [
        "finish=length",
        "finish=content_filter",
        "finish=odd",
        "repeat_finish",
        "model=other provider=Other",
    ],
}
# The plain kind reads what the others read; what differs is what it counts.
SLOWLY_MS = 100
OF_OPENAI = ("breaks off", "counts oddly")


def trouble(wire: Wire, directives: list[str], *, is_slow: bool) -> Story:
    """Streams that break off do so slowly: what the client and the head of the answer are told until then would
    depend on how the provider's packets come."""

    def told(places: Places) -> Stage:
        stage = places.stage(1_000_000_000)
        for directive in directives:
            whole, slow = f"chunk=9 {directive}", f"delay_ms={SLOWLY_MS} {directive}"
            stage.ask(f"{directive}, whole", wire.body({}, whole), headers=wire.headers)
            streamed = wire.body({}, slow if is_slow else whole, **WITH_USAGE)
            stage.ask(f"{directive}, streamed with usage", streamed, headers=wire.headers)
        return stage

    return told


for kind, directives in TROUBLE.items():
    for wire_name in ("openrouter", "anthropic", "openai") if kind in OF_OPENAI else ("openrouter", "anthropic"):
        story(f"trouble-{wire_name}/a provider that {kind}")(
            trouble(WIRES[wire_name], directives, is_slow=kind == "breaks off")
        )


def patience(wire: Wire) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage(is_impatient=True)
        for directive, mode in (("fault=stall_before", "whole"), ("fault=stall_after:2", "streamed with usage")):
            stage.ask(f"{directive}, {mode}", wire.body({}, directive, **MODES[mode]), headers=wire.headers)
        return stage

    return told


for wire_name in ("openrouter", "anthropic"):
    story(f"trouble-{wire_name}/a provider that takes too long")(patience(WIRES[wire_name]))

LEAK = "Not for user_2abCdefGhijklmnopqrstuvwxyz (req_011CSHoEeqs5C35K2UUqR7Fy), key sk-or-v1-0123456789abcdef"


def refusing(status: int, message: str, *headers: str) -> bytes:
    return response(status, compact({"error": {"message": message, "code": status}}).encode(), *headers)


CANNED_REPLIES = {
    "a context that is too long": refusing(400, "This endpoint's maximum context length is 8192 tokens."),
    "ids in a refusal": refusing(400, LEAK, "x-generation-id: gen-1790000001-aB3dE5fG7hJ9kL1mN3pQ"),
    "a key's limit": refusing(403, "Key limit exceeded"),
    "moderation": response(
        403,
        compact(
            {"error": {"message": "Flagged", "code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "x"}}}
        ).encode(),
    ),
    "a redirect": response(302, b"", "location: https://example.com/elsewhere"),
    "no http": b"hello\r\n\r\n",
    "a message that is none": response(200, b'{"id": "x", "choices": [{"message": 7}]}'),
    "an event that is empty": response(200, b"data: {}\n\n", content_type="text/event-stream"),
    "an end at once": response(200, b"data: [DONE]\n\n", content_type="text/event-stream"),
    "an odd status": response(999, b""),
}


@story("trouble-openai/a provider that says what no sandbox does")
def _(places: Places) -> Stage:
    stage = places.stage()
    for title, reply in CANNED_REPLIES.items():
        places.canned.reply = reply
        for mode in ("whole", "streamed with usage"):
            stage.ask(f"{title}, {mode}", Wire(CANNED).body({}, **MODES[mode]))
    return stage


@story("trouble-openai/a provider that is not there")
def _(places: Places) -> Stage:
    stage = places.stage()
    for mode in ("whole", "streamed with usage"):
        stage.ask(mode, Wire(AWAY).body({}, **MODES[mode]))
    return stage


@story("failover/the next provider answers")
def _(places: Places) -> Stage:
    stage = places.stage()
    failures = {
        "overloaded": refusing(503, "Overloaded"),
        "too many": refusing(429, "Slow down"),
        "our account": refusing(401, "No such key"),
        "nonsense": response(200, b"<html></html>", content_type="text/html"),
    }
    for title, reply in failures.items():
        places.canned.reply = reply
        for mode in ("whole", "streamed with usage"):
            asked = Wire(SECOND_AFTER_CANNED).body({}, "chunk=9", **MODES[mode])
            stage.ask(f"{title}, {mode}", asked)
    for mode in ("whole", "streamed with usage"):
        stage.ask(f"not there, {mode}", Wire(SECOND_AFTER_AWAY).body({}, "chunk=9", **MODES[mode]))
    return stage


@story("failover/there is no other")
def _(places: Places) -> Stage:
    stage = places.stage()
    places.canned.reply = refusing(503, "Overloaded")
    for mode in ("whole", "streamed with usage"):
        forced = {"x-quantized-provider": "recorded-canned"}
        stage.ask(f"one was forced, {mode}", Wire(SECOND_AFTER_CANNED).body({}, **MODES[mode]), headers=forced)
        both_down = Wire(SECOND_AFTER_CANNED).body({}, "fault=http:502", **MODES[mode])
        stage.ask(f"both are down, {mode}", both_down)
    places.canned.reply = refusing(400, "Bad request")
    stage.ask("a refusal is no failure", Wire(SECOND_AFTER_CANNED).body({}))
    return stage


# --- Requests that are refused -----------------------------------------------------------------------

GOOD = compact(WIRES["openrouter"].body({})).encode()
BODIES = {
    "nothing": b"",
    "white space": b" \n",
    "no JSON": b"model=x",
    "cut off": GOOD[:-20],
    "something after its end": GOOD + b" {}",
    "invalid UTF-8": b'{"model": "x\xff"}',
    "NaN": GOOD[:-1] + b', "temperature": NaN}',
    "an array": b"[]",
    "an integer": b"7",
    "null": b"null",
    "an empty object": b"{}",
}


def user(content: Any) -> list[Asked]:
    return [{"role": "user", "content": content}]


FIELDS: dict[str, list[Asked]] = {
    "model": [{"model": 7}, {"model": None}, {"model": ""}, {"model": "x" * 257}],
    "messages": [
        {"messages": None},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [7]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": user(7)},
        {"messages": user([])},
        {"messages": user([{"type": "video"}])},
        {"messages": user([{"type": "image_url"}])},
        {"messages": user([{"type": "image_url", "image_url": {"url": "ftp://example.com/a"}}])},
        {"messages": user([{"type": "input_audio", "input_audio": {"data": "x", "format": "ogg"}}])},
        {"messages": user([{"type": "file", "file": {"file_id": "file-1"}}])},
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]},
        {"messages": [FRANCE, {"role": "tool", "content": "x"}]},
    ],
    "ranges": [
        {"temperature": 2.01},
        {"temperature": "warm"},
        {"top_p": -0.1},
        {"top_k": -1},
        {"top_k": 1.5},
        {"frequency_penalty": 3},
        {"repetition_penalty": 2.1},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": 32_769},
        {"max_completion_tokens": "many"},
        {"seed": 2**63},
        {"stop": []},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"top_logprobs": 21, "logprobs": True},
        {"logit_bias": {"1": 101}},
        {"metadata": {"a": 1}},
        {"metadata": {"k" * 65: "v"}},
        {"user": 7},
    ],
    "choices": [
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"modalities": ["smell"]},
        {"audio": {"voice": "alloy", "format": "ogg"}},
        {"tools": []},
        {"tools": [{"type": "function", "function": {}}]},
        {"tools": [{"type": "retrieval"}]},
        {"tools": [WEATHER], "tool_choice": "perhaps"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tool_choice": "required"},
        {"reasoning": {"effort": "heroic"}},
        {"reasoning": {"depth": 3}},
        {"reasoning": {"effort": "low", "max_tokens": 9}},
        {"web_search_options": {"search_context_size": "huge"}},
        {"stream": "yes"},
        {"stream": True, "stream_options": {"include_usages": True}},
        {"stream_options": {"include_usage": True}},
        {"top_logprobs": 2},
    ],
    "unknown fields": [
        {name: value}
        for name, value in {
            "temprature": 1,
            "max_tokns": 5,
            "n": 2,
            "functions": [],
            "function_call": "auto",
            "reasoning_effort": "low",
            "best_of": 2,
            "provider": {},
            "store": True,
            "service_tier": "auto",
            "zzz": None,
            "prediction": {},
        }.items()
    ],
}
CAPABILITIES: list[Asked] = [
    {"reasoning": {"effort": "high"}},
    {"modalities": ["text", "image"]},
    {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "wav"}},
    {"messages": saying(SOUND)},
]
ANTHROPIC_CAPABILITIES: list[Asked] = [
    {"frequency_penalty": 0.5},
    {"seed": 7},
    {"logprobs": True},
    {"logit_bias": {"1": 1}},
    {"response_format": {"type": "json_object"}},
    {"metadata": {"purpose": "none"}},
    {"messages": saying(SOUND)},
    {"temperature": 1.5},
    {"temperature": 0.5, "top_p": 0.5},
    {"reasoning": {"max_tokens": 100}},
    {"messages": [*user("Hello"), {"role": "user", "content": "Hello", "name": "bob"}]},
    {"messages": user([{"type": "text", "text": "x", "cache_control": {"type": "eternal"}}])},
]


def title_of(fields: Asked) -> str:
    text = compact(fields)
    return text if len(text) < 90 else f"{text[:60]}…{text[-25:]}"


def refused(wire: Wire, requests: list[Asked]) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage()
        for fields in requests:
            stage.ask(title_of(fields), wire.body(fields), headers=wire.headers)
        return stage

    return told


for name, requests in FIELDS.items():
    story(f"requests-refused/{name}")(refused(WIRES["openrouter"], requests))
story("requests-refused/what no route can do")(refused(WIRES["openrouter"], CAPABILITIES))
story("requests-refused/what anthropic cannot do")(refused(WIRES["anthropic"], ANTHROPIC_CAPABILITIES))


@story("requests-refused/bodies")
def _(places: Places) -> Stage:
    stage = places.stage()
    for title, body in BODIES.items():
        stage.ask(title, body)
    stage.ask("a stream of an unknown field", WIRES["openrouter"].body({"temprature": 1}, **WITH_USAGE))
    too_large = {"content-length": str(40 * 2**20)}
    stage.ask("larger than it may be", b"{", headers=too_large)
    stage.call("larger than it may be, elsewhere", "POST", "/v1/auth/token", b"{", headers=too_large)
    return stage


@story("requests-refused/models and providers")
def _(places: Places) -> Stage:
    stage = places.stage()
    wire = WIRES["openrouter"]
    for model in ("openai/gpt-4.1-mimi", f"{MODEL}:free", "x/y"):
        stage.ask(f"model {model}", wire.body({"model": model}))
    for provider in ("anthropic", "nobody", "OpenRouter"):
        stage.ask(f"provider {provider}", wire.body({}), headers={"x-quantized-provider": provider})
    return stage


@story("requests-refused/methods and paths")
def _(places: Places) -> Stage:
    stage = places.stage()
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
        stage.call(f"{method} of completions", method, PATH)
    for path in ("/v1/models", "/v1/credits", "/v1/key", "/v1/generation", "/v1/usage"):
        stage.call(f"POST of {path}", "POST", path, {})
        stage.call(f"OPTIONS of {path}", "OPTIONS", path)
    for path in ("/v1/auth/token", "/v1/keys/x/rotate", "/.well-known/jwks.json", "/openapi.json"):
        stage.call(f"DELETE of {path}", "DELETE", path)
    for path in ("/v1", "/v1/", "/v1/nothing", "/v1/chat/completions/", "/v1//chat/completions", "/v1/responses"):
        stage.call(f"POST of {path}", "POST", path, {})
        stage.call(f"POST of {path} by nobody", "POST", path, {}, by=None)
    stage.call("POST of a webhook without a signature", "POST", "/webhooks/stripe", {}, by=None)
    return stage


@story("requests-refused/request ids")
def _(places: Places) -> Stage:
    stage = places.stage()
    for given in ("a-request.of_mine-1", "short", "with space in it", "x" * 129):
        stage.ask(f"completions: {given[:20]}", b"{}", headers={"x-request-id": given})
        stage.call(f"credits: {given[:20]}", "GET", "/v1/credits", headers={"x-request-id": given})
    return stage


# --- Callers that are refused ------------------------------------------------------------------------


def both_lanes(stage: Stage, title: str, *, by: str | None = "", headers: dict[str, str] | None = None) -> None:
    stage.ask(f"{title}, completions", WIRES["openrouter"].body({}), by=by, headers=headers)
    stage.call(f"{title}, credits", "GET", "/v1/credits", by=by, headers=headers)


@story("callers-refused/no key that is one")
def _(places: Places) -> Stage:
    stage = places.stage()
    both_lanes(stage, "nothing", by=None)
    for header in ("", "Bearer", "Basic YWxpY2U6cw==", stage.tenant.api_key, "Bearer sk-quantized-abc"):
        both_lanes(stage, f"'{stage.names.text(header)}'", by=None, headers={"authorization": header})
    both_lanes(stage, "a key cut short", by=stage.tenant.api_key[:-1])
    both_lanes(stage, "a token that is none", by="eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.")
    stage.ask("before the body", b"no JSON", by=None)
    return stage


@story("callers-refused/keys that ended")
def _(places: Places) -> Stage:
    stage = places.stage()
    for title, ended in (("expired", "expires_at"), ("revoked", "revoked_at")):
        tenant = stage.new_tenant()
        ApiKey.objects.filter(pk=tenant.key_id).update(**{ended: datetime.now(UTC) - timedelta(seconds=1)})
        both_lanes(stage, title)
    return stage


@story("callers-refused/organizations that may not")
def _(places: Places) -> Stage:
    stage = places.stage()
    Organization.objects.filter(pk=stage.tenant.organization_id).update(status="suspended")
    both_lanes(stage, "suspended")
    for status in ("frozen", "closed"):
        tenant = stage.new_tenant()
        Wallet.objects.filter(pk=tenant.organization_id).update(status=status)
        both_lanes(stage, f"a {status} wallet")
    return stage


@story("callers-refused/sessions and roles")
def _(places: Places) -> Stage:
    stage = places.stage()
    for role in ("owner", "admin", "developer", "billing", "viewer"):
        token = colleague(stage, role).begin_session().access_token
        stage.ask(f"{role}, completions", WIRES["openrouter"].body({}, "chunk=9"), by=token)
        for path in ("/v1/credits", "/v1/key", "/v1/keys?limit=1", "/v1/usage?group_by=model"):
            stage.call(f"{role}, {path}", "GET", path, by=token)
    ended = colleague(stage).begin_session()
    stage.call("revoked", "POST", "/v1/auth/revoke", {"refresh_token": ended.refresh_token}, by=None)
    both_lanes(stage, "an ended session", by=ended.access_token)
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/x")):
        stage.call(f"an API key, {method} {path}", method, path, {} if method == "POST" else None)
    return stage


def owner_of(stage: Stage) -> str:
    """An access token of the organization's owner."""
    return colleague(stage, "owner").begin_session().access_token


def colleague(stage: Stage, role: str = "developer") -> Tenant:
    """Somebody who has a session and never logs in."""
    with override_settings(PASSWORD_HASHERS=QUICK_HASHERS):
        return stage.tenant.member(role, new_email(), password=PASSWORD)


def key_with(stage: Stage, title: str, **settings: Any) -> str:
    """Another key of the tenant, made over HTTP: its secret."""
    made = stage.call(title, "POST", "/v1/keys", settings, by=owner_of(stage))
    stage.names.know(made.json["id"], "key")
    return str(made.json["api_key"])


@story("callers-refused/models that a key may not use")
def _(places: Places) -> Stage:
    stage = places.stage()
    secret = key_with(stage, "made", name="limited", models=["openai/gpt-4.1"])
    for mode in ("whole", "streamed with usage"):
        stage.ask(mode, WIRES["openrouter"].body({}, **MODES[mode]), by=secret)
    stage.ask("another that it may", Wire("openai/gpt-4.1").body({}), by=secret)
    return stage


# --- Credits -----------------------------------------------------------------------------------------


@story("credits/none left")
def _(places: Places) -> Stage:
    wire = WIRES["openrouter"]
    stage = places.stage(0)
    for mode, more in MODES.items():
        stage.ask(f"empty, {mode}", wire.body({}, **more))
        stage.ask(f"empty, no bound, {mode}", wire.body({"max_tokens": None}, **more))
    stage.new_tenant(4_000)
    stage.ask("too large a bound", wire.body({}))
    stage.ask("an affordable one", wire.body({"max_tokens": 10}))
    stage.ask("by anthropic", Wire(SONNET, "anthropic").body({}), headers=Wire(SONNET, "anthropic").headers)
    stage.new_tenant(60_000)
    stage.ask("no bound shrinks it", wire.body({"max_tokens": None}))
    return stage


@story("credits/a key's own limit")
def _(places: Places) -> Stage:
    stage = places.stage()
    secret = key_with(stage, "made", name="limited", limit=13_000, limit_period="month")
    for title in ("first", "second"):
        stage.ask(title, WIRES["openrouter"].body({}), by=secret)
    stage.call("the key", "GET", "/v1/key", by=secret)
    return stage


@story("credits/unlimited")
def _(places: Places) -> Stage:
    stage = places.stage(0, unlimited=True)
    for wire_name, wire in WIRES.items():
        for mode in ("whole", "streamed with usage"):
            stage.ask(f"{wire_name}, {mode}", wire.body({}, "chunk=9", **MODES[mode]), headers=wire.headers)
    stage.call("balance", "GET", "/v1/credits")
    return stage


@story("credits/overdrawn")
def _(places: Places) -> Stage:
    """The provider counts more than the hold covers: the floor takes part of it, the rest is ours."""
    stage = places.stage(15_000, overdraft_micro=2_000)
    stage.ask("more than the wallet has", WIRES["openrouter"].body({}, "prompt=100000"))
    stage.call("balance", "GET", "/v1/credits")
    stage.ask("afterwards", WIRES["openrouter"].body({}))
    return stage


@story("credits/balance")
def _(places: Places) -> Stage:
    stage = places.stage(1_000_000)
    stage.call("before", "GET", "/v1/credits")
    stage.ask("call", WIRES["openrouter"].body({}))
    for method in ("GET", "HEAD"):
        stage.call(f"after, {method}", method, "/v1/credits")
    return stage


# --- The same request again --------------------------------------------------------------------------


def again(wire: Wire, mode: str) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage()
        headers = {**wire.headers, "idempotency-key": "once"}
        body = wire.body({}, "chunk=9", **MODES[mode])
        for title in ("first", "again", "and again"):
            stage.ask(title, body, headers=headers)
        stage.ask("another request", {**body, "temperature": 0.25}, headers=headers)
        return stage

    return told


for wire_name in ("openrouter", "anthropic"):
    for mode in MODES:
        story(f"idempotency/{wire_name}, {mode}")(again(WIRES[wire_name], mode))


@story("idempotency/refusals")
def _(places: Places) -> Stage:
    stage = places.stage()
    wire = WIRES["openrouter"]
    for key in ("", "x" * 256):
        stage.ask(f"a key of {len(key)}", wire.body({}), headers={"idempotency-key": key})
    for title in ("failed", "failed again"):
        stage.ask(title, wire.body({}, "fault=http:503"), headers={"idempotency-key": "mine"})
    stage.ask("and then not", wire.body({}), headers={"idempotency-key": "mine"})
    forced = {"idempotency-key": "mine", "x-quantized-provider": "openrouter"}
    stage.ask("another provider", wire.body({}), headers=forced)
    return stage


@story("idempotency/in progress")
def _(places: Places) -> Stage:
    stage = places.stage()
    headers = {"idempotency-key": "slow"}
    body = WIRES["openrouter"].body({}, "tokens=5 delay_ms=400", **WITH_USAGE)
    rest = stage.begin(body, headers)
    stage.ask("while it runs", body, headers=headers, has_books=False)
    rest("the first")
    stage.ask("afterwards", body, headers=headers)
    return stage


# --- Rate limits -------------------------------------------------------------------------------------


def limited(title: str, mode: str, **limits: int) -> Story:
    def told(places: Places) -> Stage:
        stage = places.stage()
        secret = key_with(stage, "made", name=title, rate_limits=limits)
        for count in ("first", "second", "third"):
            body = WIRES["openrouter"].body({"max_tokens": 16}, "chunk=9", **MODES[mode])
            stage.ask(count, body, by=secret)
        return stage

    return told


LIMITS = {
    "requests": {"requests_per_minute": 2},
    "tokens": {"tokens_per_minute": 60},
    "fewer tokens than one call": {"tokens_per_minute": 10},
    "all of them": {"requests_per_minute": 2, "tokens_per_minute": 1000, "concurrency": 2},
}
for name, limits in LIMITS.items():
    for mode in ("whole", "streamed with usage"):
        story(f"rate-limits/{name}, {mode}")(limited(name, mode, **limits))


@story("rate-limits/calls at the same time")
def _(places: Places) -> Stage:
    stage = places.stage()
    secret = key_with(stage, "made", name="limited", rate_limits={"concurrency": 1})
    body = WIRES["openrouter"].body({}, "tokens=5 delay_ms=400", **WITH_USAGE)
    rest = stage.begin(body, {"authorization": f"Bearer {secret}"})
    stage.ask("while one runs", body, by=secret, has_books=False)
    rest("the one")
    stage.ask("afterwards", WIRES["openrouter"].body({}), by=secret)
    return stage


# --- Models ------------------------------------------------------------------------------------------


def shipped_alone(body: bytes) -> bytes:
    """The list without the models that tests have added to the catalog."""
    catalog = tomllib.loads((CHECKOUT / "catalog.toml").read_text())
    ids = {model["id"] for model in catalog["models"]}
    listed = compact_object(body)
    return compact({**listed, "data": [model for model in listed["data"] if model["id"] in ids]}).encode()


def compact_object(body: bytes) -> dict[str, Any]:
    """What the body says, if writing that gives the body again."""
    from_body: dict[str, Any] = json.loads(body)
    assert compact(from_body).encode() == body, "it is not written as compactly as can be"
    return from_body


@story("models/list")
def _(places: Places) -> Stage:
    stage = places.stage()
    stage.call("the list", "GET", "/v1/models", by=None, transform=shipped_alone)
    return stage


@story("models/one")
def _(places: Places) -> Stage:
    stage = places.stage()
    for model in (MODEL, SONNET, HAIKU_5, "openai/gpt-6-luna", LOCAL, SECOND_AFTER_AWAY):
        stage.call(model, "GET", f"/v1/models/{model}", by=None)
    stage.call("with a key", "GET", f"/v1/models/{MODEL}")
    for model in ("openai/gpt-4.1-mimi", "x", "a/b/c", f"{MODEL}:free"):
        stage.call(f"none: {model}", "GET", f"/v1/models/{model}", by=None)
    stage.call("HEAD", "HEAD", f"/v1/models/{MODEL}", by=None)
    return stage


# --- Receipts and usage ------------------------------------------------------------------------------


@story("receipts/one")
def _(places: Places) -> Stage:
    stage = places.stage()
    answer = stage.ask("a call", WIRES["openrouter"].body({}))
    path = f"/v1/generation?id={answer.headers['x-generation-id']}"
    stage.call("its receipt", "GET", path)
    stage.call("by its member", "GET", path, by=owner_of(stage))
    stage.call("by nobody", "GET", path, by=None)
    stage.call("by another organization", "GET", path, by=stage.new_tenant().api_key)
    for query in ("", "?id=", "?id=x", "?id=gen-" + "0" * 32, "?id=gen-1&ids=2", "?generation=x"):
        stage.call(f"of '{query}'", "GET", f"/v1/generation{query}")
    return stage


@story("receipts/while it runs")
def _(places: Places) -> Stage:
    stage = places.stage()
    rest = stage.begin(WIRES["openrouter"].body({}, "tokens=5 delay_ms=300", **WITH_USAGE))
    stage.call("balance", "GET", "/v1/credits")
    stage.call("key", "GET", "/v1/key")
    rest("the call")
    return stage


GROUPS = ("day", "model", "key", "member")


@story("usage/reports")
def _(places: Places) -> Stage:
    stage = places.stage()
    owner = colleague(stage, "owner")
    stage.names.know_field("group", str(owner.user.pk), "user")
    stage.names.know(f"{owner.user.pk},{owner.email}", "user and address")  # a row of CSV
    token = owner.begin_session().access_token
    for wire_name in ("openrouter", "anthropic"):
        wire = WIRES[wire_name]
        stage.ask(f"a call by {wire_name}", wire.body({}), headers=wire.headers)
    stage.ask("a call that failed", WIRES["openrouter"].body({}, "fault=http:503"))
    stage.ask("a call by a member", WIRES["openrouter"].body({}), by=token)
    today = datetime.now(UTC).date()
    for group in GROUPS:
        for form in ("json", "csv"):
            for caller, by in (("a member", token), ("a key", "")):
                path = f"/v1/usage?group_by={group}&format={form}&from={today}&to={today}"
                stage.call(f"by {group} as {form}, {caller}", "GET", path, by=by)
    stage.call("untold", "GET", "/v1/usage", by=token)
    stage.call("at a change of clocks", "GET", "/v1/usage?from=2024-03-31&to=2024-04-01&time_zone=Europe/Berlin")
    stage.call("a day by hours", "GET", "/v1/usage?from=2024-10-27&to=2024-10-27&time_zone=Europe/Berlin&group_by=hour")
    return stage


@story("usage/this hour")
def _(places: Places) -> Stage:
    stage = places.stage()
    stage.ask("a call", WIRES["openrouter"].body({}))
    now = datetime.now(UTC)
    begins, ends = (f"{hour:%Y-%m-%dT%H:00:00Z}" for hour in (now, now + timedelta(hours=1)))
    stage.names.know(begins, "this hour")
    stage.names.know(ends, "the next hour")
    stage.call("as json", "GET", f"/v1/usage?group_by=hour&from={begins}&to={ends}")
    stage.call("as csv", "GET", f"/v1/usage?group_by=hour&format=csv&from={begins}&to={ends}")
    return stage


@story("usage/refusals")
def _(places: Places) -> Stage:
    stage = places.stage()
    for query in (
        *("group_by=year", "format=xml", "time_zone=Mars/Olympus", "from=yesterday", "from=2024-02-30"),
        *("from=2024-02-02&to=2024-02-01", "from=2020-01-01&to=2024-01-01", "form=json", "group_by=day&group_by=key"),
        "from=2024-01-01&to=2024-03-01&group_by=hour",
    ):
        stage.call(query, "GET", f"/v1/usage?{query}")
    stage.call("by nobody", "GET", "/v1/usage", by=None)
    return stage


# --- Keys --------------------------------------------------------------------------------------------


@story("keys/a key's life")
def _(places: Places) -> Stage:
    stage = places.stage()
    by = owner_of(stage)
    stage.call("the first", "GET", "/v1/keys", by=by)
    made = stage.call("made", "POST", "/v1/keys", {"name": "ci", "limit": 500_000, "limit_period": "total"}, by=by)
    path = f"/v1/keys/{made.json['id']}"
    everything = {
        "name": " nightly ",
        "limit": 5_000_000,
        "limit_period": "total",
        "models": [MODEL, "a/b", MODEL],
        "expires_at": "2999-12-31T12:00:00+02:00",
        "rate_limits": {"requests_per_minute": 60, "tokens_per_minute": 100_000, "concurrency": 4},
    }
    stage.call("made with every setting", "POST", "/v1/keys", everything, by=by)
    stage.call("made with none", "POST", "/v1/keys", b"", by=by)
    stage.call("looked at", "GET", path, by=by)
    stage.call("looked at by itself", "GET", "/v1/key", by=made.json["api_key"])
    for change in ({"name": "new"}, {"limit": None}, {"models": [MODEL]}, {"rate_limits": {"concurrency": 2}}, {}):
        stage.call(f"changed: {compact(change)}", "PATCH", path, change, by=by)
    rotated = stage.call("rotated", "POST", f"{path}/rotate", {"overlap_seconds": 60}, by=by)
    stage.call("rotated at once", "POST", f"/v1/keys/{rotated.json['id']}/rotate", {"overlap_seconds": 0}, by=by)
    stage.call("rotated after its end", "POST", f"/v1/keys/{rotated.json['id']}/rotate", by=by)
    for title in ("revoked", "revoked again"):
        stage.call(title, "DELETE", path, by=by)
    stage.call("changed after that", "PATCH", path, {"name": "late"}, by=by)
    stage.call("the list", "GET", "/v1/keys", by=by)
    stage.call("the list of all", "GET", "/v1/keys?include_revoked=true&limit=100", by=by)
    first = stage.call("a page", "GET", "/v1/keys?limit=2", by=by)
    stage.call("the next", "GET", f"/v1/keys?limit=2&after={first.json['data'][-1]['id']}", by=by)
    stage.call("HEAD", "HEAD", "/v1/keys", by=by)
    return stage


@story("keys/refusals")
def _(places: Places) -> Stage:
    stage = places.stage()
    by = owner_of(stage)
    for settings in (
        {"name": 7},
        {"name": "x" * 101},
        {"name": "tab\there"},
        {"nmae": "x"},
        {"limit": 0, "limit_period": "day"},
        {"limit": 5},
        {"limit_period": "day"},
        {"limit": 5, "limit_period": "year"},
        {"models": []},
        {"models": "all"},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"rate_limits": {"requests": 1}},
        {"rate_limits": {"concurrency": 0}},
    ):
        stage.call(title_of(settings), "POST", "/v1/keys", settings, by=by)
    for body in (b"no JSON", b"[]"):
        stage.call(f"body {body.decode()}", "POST", "/v1/keys", body, by=by)
    for query in ("limit=0", "limit=101", "limit=x", "after=x", "include_revoked=perhaps", "page=2"):
        stage.call(query, "GET", f"/v1/keys?{query}", by=by)
    for path in ("/v1/keys/x", "/v1/keys/00000000-0000-4000-8000-000000000000"):
        for method, more, body in (
            ("GET", "", None),
            ("PATCH", "", {"name": "x"}),
            ("DELETE", "", None),
            ("POST", "/rotate", {}),
        ):
            stage.call(f"{method} {path}{more}", method, path + more, body, by=by)
    key = f"/v1/keys/{stage.tenant.key_id}"
    for body in ({"overlap_seconds": -1}, {"overlap_seconds": 604_801}, {"overlap": 1}, {"overlap_seconds": "1"}):
        stage.call(f"rotate {compact(body)}", "POST", f"{key}/rotate", body, by=by)
    stage.new_tenant()
    stage.call("by another organization", "GET", key, by=owner_of(stage))
    return stage


# --- Sessions ----------------------------------------------------------------------------------------


def log_in(stage: Stage, title: str, member: Tenant, **fields: Any) -> Any:
    LogInThrottle.objects.all().delete()  # all tests call from one address
    body = {"email": member.email, "password": PASSWORD, **fields}
    return stage.call(title, "POST", "/v1/auth/token", body, by=None)


@story("sessions/a session's life")
def _(places: Places) -> Stage:
    stage = places.stage()
    member = stage.tenant.member(email=new_email(), password=PASSWORD)
    stage.names.know_field("sub", str(member.user.pk), "user")
    first = log_in(stage, "log in", member).json
    header, said = claims(first["access_token"])
    stage.names.know_field("exp", said["iat"] + 900, "iat + 900")
    stage.note("the access token", [header, said])
    stage.call("the token works", "GET", "/v1/credits", by=first["access_token"])
    stage.ask("for completions too", WIRES["openrouter"].body({}), by=first["access_token"])
    told = {"refresh_token": first["refresh_token"]}
    renewed = stage.call("renew", "POST", "/v1/auth/refresh", told, by=None).json
    stage.call("renew with the same again", "POST", "/v1/auth/refresh", told, by=None)
    late = {"refresh_token": renewed["refresh_token"]}
    stage.call("renew after the end", "POST", "/v1/auth/refresh", late, by=None)
    for title in ("revoke", "revoke again"):
        stage.call(title, "POST", "/v1/auth/revoke", late, by=None)
    stage.call("revoke what is none", "POST", "/v1/auth/revoke", {"refresh_token": "x"}, by=None)
    stage.call("renew what is none", "POST", "/v1/auth/refresh", {"refresh_token": "x"}, by=None)
    return stage


@story("sessions/refusals")
def _(places: Places) -> Stage:
    stage = places.stage()
    member = stage.tenant.member(email=new_email(), password=PASSWORD)
    log_in(stage, "a wrong password", member, password="wrong-horse-1")
    log_in(stage, "an address that nobody has", member, email="nobody@example.org")
    log_in(stage, "another organization", member, organization="00000000-0000-4000-8000-000000000000")
    log_in(stage, "no organization's id", member, organization="x")
    for fields in ({"email": 7}, {"email": ""}, {"password": None}, {"passwort": "x"}, {"code": 7}):
        log_in(stage, title_of(fields), member, **fields)
    for path in ("token", "refresh", "revoke"):
        for body in (b"no JSON", b"{}", b"[]"):
            stage.call(f"{path} {body.decode()}", "POST", f"/v1/auth/{path}", body, by=None)
    first = str(stage.tenant.organization_id)
    second = stage.new_tenant()
    second.member("viewer", user=member.user, password=PASSWORD)
    log_in(stage, "of several organizations", member)
    log_in(stage, "one of several", member, organization=first)
    Organization.objects.filter(pk=second.organization_id).update(status="suspended")
    log_in(stage, "a suspended one", member, organization=str(second.organization_id))
    return stage


@story("sessions/a second factor")
def _(places: Places) -> Stage:
    stage = places.stage()
    member = stage.tenant.member(email=new_email(), password=PASSWORD)
    TOTP.activate(member.user, generate_totp_secret())
    log_in(stage, "no code", member)
    log_in(stage, "a wrong code", member, code="000000")
    return stage


@story("sessions/too many log-ins")
def _(places: Places) -> Stage:
    stage = places.stage()
    member = stage.tenant.member(email=new_email(), password=PASSWORD)
    LogInThrottle.objects.all().delete()
    wrong = {"email": member.email, "password": "wrong-horse-1"}
    stage.call("the first attempt", "POST", "/v1/auth/token", wrong, by=None)
    LogInThrottle.objects.update(attempts=9)
    for title in ("the tenth", "the eleventh"):
        stage.call(title, "POST", "/v1/auth/token", wrong, by=None)
    LogInThrottle.objects.all().delete()
    return stage


# --- The server itself -------------------------------------------------------------------------------


@story("server/health")
def _(places: Places) -> Stage:
    stage = places.stage()
    for path in ("/healthz", "/readyz"):
        stage.call(path, "GET", path, by=None)
        stage.call(f"{path} with a request id", "GET", path, by=None, headers={"x-request-id": "a-request-of-mine"})
        stage.call(f"HEAD {path}", "HEAD", path, by=None)
    for path in ("/.well-known/jwks.json", "/robots.txt"):
        stage.call(path, "GET", path, by=None)
    return stage


@story("server/metrics")
def _(places: Places) -> Stage:
    """Which there are, with their labels: figures are every run's own, and some families wait for their first event."""
    stage = places.stage()
    wire = WIRES["openrouter"]
    stage.ask("a call", wire.body({}), has_books=False)
    stage.ask("a stream", wire.body({}, **WITH_USAGE), has_books=False)
    stage.ask("a refusal", wire.body({"model": "x/y"}), has_books=False)
    stage.call("the page", "GET", "/metrics", by=None, transform=families)
    stage.call("through a proxy", "GET", "/metrics", by=None, headers={"x-forwarded-for": "203.0.113.7"})
    return stage


def families(page: bytes) -> bytes:
    """A line for each metric: its type, name, help, the labels of its samples, the bounds of its buckets."""
    found = []
    for family in text_string_to_metric_families(page.decode()):
        told = {f"{sample.name}({', '.join(sample.labels)})" for sample in family.samples}
        bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
        samples = "as it comes" if family.name in AS_IT_COMES else "; ".join(sorted(told))
        buckets = f" in {', '.join(sorted(bounds, key=float))}" if bounds else ""
        found.append(f"{family.type} {family.name}: {family.documentation} [{samples}]{buckets}\n")
    return "".join(sorted(found)).encode()


# What other tests have left behind, if they ran before: tasks, the verifier, calls that went to a second provider.
AS_IT_COMES = {
    "quantized_failovers",
    "quantized_rollup_lag_seconds",
    *(f"quantized_task_{what}_seconds" for what in ("failure_age", "success_age")),
    "quantized_task_seconds",
    *(f"quantized_verifier_{what}" for what in ("age_seconds", "failed", "run_seconds", "violations")),
}


@story("server/openapi")
def _(places: Places) -> Stage:
    stage = places.stage()
    stage.call("the document", "GET", "/openapi.json", by=None)
    return stage
