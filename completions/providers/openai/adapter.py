"""Any server that speaks OpenAI's Chat Completions: vLLM, Ollama, llama.cpp, LiteLLM, OpenAI itself. Pure.

Every field the client sent goes on as it came, byte for byte, except:

    model                      the route's upstream model
    max_tokens, max_completion_tokens   one bound, under the name the server knows
    stream, stream_options     ours; usage is always asked for
    top_k                      as an integer
    reasoning                  {"effort"} becomes `reasoning_effort`, its other keys are refused by name
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from completions.ask import Ask, Progress, Reader, Reported, Unsupported
from completions.chat.answer import Choice, FunctionCall, Message, ToolCall, message_bytes
from completions.chat.needs import effective_fields, gate, present_fields
from completions.chat.request import Chat, Reasoning, given
from completions.providers.base import BodyReader, EventReader, unsupported_by
from completions.providers.openai.failure import failure_of_error, failure_of_response
from completions.providers.openai.stream import FINISH_REASON_CHARS_MAX, OpenAIStreamDecoder, new_call_id
from completions.providers.openai.usage import reported
from completions.providers.openai.wire import AnswerIn, ChoiceIn, MessageIn, ToolCallIn
from completions.routes import Route
from completions.upstream.failure import UpstreamFailure, malformed
from completions.upstream.request import UpstreamRequest

PATH = "/chat/completions"
# OpenAI's newer models refuse `max_tokens`; Ollama and older servers know nothing else, and a bound
# they ignored would be money (https://github.com/simonw/llm/issues/724).
HOSTS_OF_NEW_BOUND = ("api.openai.com", ".openai.azure.com")

_OURS = frozenset({"model", "max_tokens", "max_completion_tokens", "stream", "stream_options"})
_USAGE_PLEASE = {"include_usage": True}
_NULL = Raw(b"null")

_encoder = msgspec.json.Encoder()


class OpenAICompatible:
    """See `Translator`: of chat."""

    extra_headers: tuple[tuple[str, str], ...] = ()

    def unsupported(self, ask: Ask, route: Route) -> list[Unsupported]:
        chat: Chat = ask.content
        missing = unsupported_by(chat, route)
        if chat.fields.reasoning is not None and "reasoning" in route.capabilities:
            missing += untranslatable(chat.fields.reasoning)
        return missing

    def output_tokens_min(self, _ask: Ask, _route: Route) -> int:
        return 1

    def request(self, ask: Ask, route: Route, output_bound: int | None) -> UpstreamRequest:
        body = self.fields(ask.content, route)
        body["model"] = route.upstream_model
        body["stream"] = ask.stream
        if ask.stream:
            body["stream_options"] = _USAGE_PLEASE
        if output_bound is not None:
            body[self.bound_field(route)] = output_bound
        return UpstreamRequest(PATH, self.headers(route.provider.secret, ask.stream), _encoder.encode(body))

    def reader(self, _ask: Ask, route: Route, *, streamed: bool) -> Reader:
        if streamed:
            return EventReader(OpenAIStreamDecoder(route.context_length))
        return BodyReader(answer, route.context_length)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        return failure_of_response(status, headers, body)

    def fields(self, chat: Chat, route: Route) -> dict[str, Any]:
        """What of the client's fields goes upstream."""
        body = forwarded(chat, route)
        if body.pop("reasoning", None) is not None and chat.fields.reasoning is not None:
            wanted = effort(chat.fields.reasoning)
            body |= {"reasoning_effort": wanted} if wanted else {}
        return body

    def bound_field(self, route: Route) -> str:
        host = urlsplit(route.provider.base_url).hostname or ""
        return "max_completion_tokens" if host.endswith(HOSTS_OF_NEW_BOUND) else "max_tokens"

    def headers(self, secret: str, stream: bool) -> tuple[tuple[str, str], ...]:
        authorization = (("authorization", f"Bearer {secret}"),) if secret else ()
        accept = "text/event-stream" if stream else "application/json"
        return (*authorization, ("content-type", "application/json"), ("accept", accept), *self.extra_headers)


def forwarded(chat: Chat, route: Route) -> dict[str, Any]:
    """The client's own bytes of every field that goes on. A neutral value whose very name a route
    without the capability may refuse is left out: it asks for nothing."""
    sent = present_fields(chat)
    gated = {name for name in sent if (needed := gate(name)) is not None and needed not in route.capabilities}
    unasked = gated - effective_fields(chat) if gated else gated
    body: dict[str, Any] = {name: chat.raw[name] for name in sent if name not in _OURS and name not in unasked}
    if chat.fields.top_k is not None:
        body["top_k"] = int(chat.fields.top_k)
    return body


def untranslatable(reasoning: Reasoning) -> list[Unsupported]:
    """The keys of `reasoning` that have no word in OpenAI's own API."""
    asked = {
        "reasoning.max_tokens": reasoning.max_tokens is not None,
        "reasoning.exclude": bool(reasoning.exclude),
        "reasoning.summary": reasoning.summary is not None,
        "reasoning.context": reasoning.context is not None,
    }
    return [Unsupported(name) for name, is_asked in asked.items() if is_asked]


def effort(reasoning: Reasoning) -> str | None:
    """OpenRouter's words in OpenAI's: only switched on means medium."""
    if reasoning.enabled is False:
        return "none"
    return reasoning.effort or ("medium" if reasoning.enabled else None)


# --- A whole answer ---------------------------------------------------------------------------------


_answer_decoder = msgspec.json.Decoder(AnswerIn)


def answer(body: bytes, context_length: int) -> Progress:
    try:
        said = _answer_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return Progress(failure=malformed(f"a body that is no completion: {type(exc).__name__}"))
    choices = tuple(_choice(choice) for choice in said.choices or ())
    return Progress(
        payload=choices,
        has_output=True,
        finish_reason=choices[0].finish_reason if choices else None,
        reported=_reported(said, context_length),
        failure=_failure(said, body),
        provider_ref=said.id,
        system_fingerprint=said.system_fingerprint,
        output_bytes=sum(message_bytes(choice.message) for choice in choices),
    )


def _failure(said: AnswerIn, body: bytes) -> UpstreamFailure | None:
    if given(said.error) or said.object == "error":
        return failure_of_error(body)
    for choice in said.choices or ():
        if given(choice.error) or choice.finish_reason == "error":
            return failure_of_error(bytes(choice.error))
    return None if said.choices else malformed("a completion without choices")


def _reported(said: AnswerIn, context_length: int) -> Reported:
    images = sum(len(choice.message.images or ()) for choice in said.choices or ())
    return reported(said.usage, images=images, context_length=context_length) or Reported()


def _choice(said: ChoiceIn) -> Choice:
    message = _message(said.message)
    likely = "tool_calls" if message.tool_calls else "stop"
    finish_reason = (said.finish_reason or likely)[:FINISH_REASON_CHARS_MAX]
    return Choice(said.index, message, finish_reason, said.logprobs if given(said.logprobs) else _NULL)


def _message(said: MessageIn) -> Message:
    return Message(
        role="assistant",
        content=said.content,
        refusal=said.refusal,
        reasoning=said.reasoning or said.reasoning_content or None,
        reasoning_details=_list(said.reasoning_details),
        tool_calls=tuple(map(_tool_call, said.tool_calls)) if said.tool_calls else None,
        annotations=_list(said.annotations),
        images=Raw(_encoder.encode(said.images)) if said.images else None,
        audio=said.audio if given(said.audio) else None,
    )


def _tool_call(said: ToolCallIn) -> ToolCall:
    return ToolCall(
        said.id or new_call_id(), "function", FunctionCall(said.function.name, said.function.arguments or "")
    )


def _list(raw: Raw) -> Raw | None:
    """A list that holds something, else nothing."""
    return raw if given(raw) and raw != Raw(b"[]") else None
