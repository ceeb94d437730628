"""Anthropic's Messages API. Pure; each part of the translation has a file of its own.

    messages    messages → system and turns          answer    answer → Progress
    parts       content parts → blocks               stream    events → Progress
    tools       tools, choice, web search            usage     usage → Reported
    schema      JSON schemas                         failure   errors → UpstreamFailure
    reasoning   thinking, effort, signatures         rules     what one model takes

What a model cannot do is refused by name before anything is sent (fields.py lists what no Claude
model can; the route's rules say the rest). The API version is the one in which models up to 4.6
still take sampling parameters.
"""

import re
from collections.abc import Mapping

import msgspec

from completions.ask import Ask, Reader, Unsupported
from completions.chat.needs import effective_fields
from completions.chat.request import Chat, Fields
from completions.providers.anthropic import reasoning, tools
from completions.providers.anthropic.answer import answer
from completions.providers.anthropic.failure import failure_of_response
from completions.providers.anthropic.fields import FIELDS
from completions.providers.anthropic.messages import Conversation, conversation
from completions.providers.anthropic.parts import Block
from completions.providers.anthropic.reasoning import Thinking
from completions.providers.anthropic.rules import Rules, rules_of
from completions.providers.anthropic.schema import closed_schema
from completions.providers.anthropic.stream import AnthropicStreamDecoder
from completions.providers.base import BodyReader, EventReader, Untranslatable, unsupported_by
from completions.providers.fields import refused
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure
from completions.upstream.request import UpstreamRequest

VERSION = "2023-06-01"
USER_CHARS_MAX = 512
TEMPERATURE_MAX = 1
NEVER = refused(FIELDS)

_PERSONAL = re.compile(r"\S+@\S+\.\S+|\+[\d\s().-]{7,}")
_encoder = msgspec.json.Encoder()


class Anthropic:
    """See `Translator`: of chat."""

    def unsupported(self, ask: Ask, route: Route) -> list[Unsupported]:
        chat: Chat = ask.content
        missing = unsupported_by(chat, route)
        missing += [Unsupported(name) for name in sorted(effective_fields(chat) & NEVER)]
        if missing:
            return missing
        try:
            translated(chat, route, ask.demand.output_tokens or route.max_output_tokens)
        except Untranslatable as stop:
            return [stop.unsupported]
        return []

    def output_tokens_min(self, ask: Ask, route: Route) -> int:
        return reasoning.output_tokens_min(ask.content.fields.reasoning, rules_of(route))

    def request(self, ask: Ask, route: Route, output_bound: int | None) -> UpstreamRequest:
        body = translated(ask.content, route, output_bound or route.max_output_tokens)
        if ask.stream:
            body["stream"] = True
        # A base URL is the origin; some write it as far as the version.
        path = "/messages" if route.provider.base_url.endswith("/v1") else "/v1/messages"
        return UpstreamRequest(path, _headers(route.provider.secret, ask.stream), _encoder.encode(body))

    def reader(self, _ask: Ask, route: Route, *, streamed: bool) -> Reader:
        if streamed:
            return EventReader(AnthropicStreamDecoder(route.context_length))
        return BodyReader(answer, route.context_length)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return failure_of_response(status, headers, body)


def translated(chat: Chat, route: Route, output_bound: int) -> Block:
    """The request's body; raises Untranslatable at the first thing this model or API has no word for."""
    fields, rules = chat.fields, rules_of(route)
    thinking = reasoning.thinking(fields.reasoning, rules, output_bound)
    said = conversation(chat.messages, rules, thinking)
    parts: Block = {
        "model": route.upstream_model,
        "max_tokens": output_bound,
        "system": said.system,
        "thinking": thinking.parameter,
        "output_config": _output_config(fields, thinking),
        **_sampling(chat, rules, thinking),
        "stop_sequences": _stop_sequences(fields.stop),
        "metadata": _metadata(fields.user),
        **_tooling(fields, said, rules, thinking),
        "messages": said.messages,
    }
    return {name: part for name, part in parts.items() if part is not None}


def _headers(secret: str, stream: bool) -> tuple[tuple[str, str], ...]:
    """One kind of authentication: both at once may be refused."""
    return (
        ("x-api-key", secret),
        ("anthropic-version", VERSION),
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if stream else "application/json"),
    )


def _output_config(fields: Fields, thinking: Thinking) -> Block | None:
    config = {"effort": thinking.effort, "format": _format(fields)}
    return {name: part for name, part in config.items() if part is not None} or None


def _format(fields: Fields) -> Block | None:
    wanted = fields.response_format
    if wanted is None or wanted.type == "text":
        return None
    where = "response_format.json_schema.schema"
    if wanted.type == "json_object" or wanted.json_schema is None:
        raise Untranslatable("response_format", "give a json_schema")
    if wanted.json_schema.schema is None:
        raise Untranslatable(where, "a schema is needed")
    schema = closed_schema(tools.decoded({**wanted.json_schema.schema}, where), where)
    if wanted.json_schema.description:  # it has no place beside the schema, but one in it
        schema.setdefault("description", wanted.json_schema.description)
    return {"type": "json_schema", "schema": schema}


def _sampling(chat: Chat, rules: Rules, thinking: Thinking) -> Block:
    """At most one of temperature and top_p, and nothing at all beside thinking."""
    asked = effective_fields(chat)
    wanted: Block = {name: getattr(chat.fields, name) for name in ("temperature", "top_p", "top_k") if name in asked}
    for name, value in wanted.items():
        if not rules.sampling:
            raise Untranslatable(name)
        if thinking.is_on:
            raise Untranslatable(name, "the model thinks")
        if name == "temperature" and value > TEMPERATURE_MAX:
            raise Untranslatable(name, f"it must be at most {TEMPERATURE_MAX}")
    if {"temperature", "top_p"} <= wanted.keys():
        raise Untranslatable("top_p", "'temperature' is given")
    if "top_k" in wanted:
        wanted["top_k"] = int(wanted["top_k"])
    return wanted


def _stop_sequences(stop: str | list[str] | None) -> list[str] | None:
    given = [stop] if isinstance(stop, str) else stop
    for at, sequence in enumerate(given or ()):
        if not sequence.strip():
            raise Untranslatable("stop" if isinstance(stop, str) else f"stop[{at}]", "it must not be blank")
    return given


def _metadata(user: str | None) -> Block | None:
    if not user:
        return None
    if len(user) > USER_CHARS_MAX:
        raise Untranslatable("user", f"it may have {USER_CHARS_MAX} characters")
    if _PERSONAL.fullmatch(user):
        raise Untranslatable("user", "it must not be an e-mail address or a telephone number")
    return {"user_id": user}


def _tooling(fields: Fields, said: Conversation, rules: Rules, thinking: Thinking) -> Block:
    choice = tools.tool_choice(fields, said.called, rules, has_budget=bool(thinking.budget_tokens))
    return {"tool_choice": choice, "tools": tools.tools(fields, said.called) or None}
