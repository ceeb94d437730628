"""Saying no to a request: msgspec's words become ours, with the field and the rule by name. Pure.

Only runs when something is wrong, so it may be slow. Tests hold the figures here against the schema's.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from completions import errors

SHOWN_CHARS_MAX = 100  # of a client's own field name in a message


class Refusal(ValueError):
    """What a rule between fields says no with; msgspec adds the place."""

    def __init__(self, kind: type[errors.InvalidRequest], field: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.message = message


# What a value must be, in our words; indexes left out of the path.
RULES = {
    "model": "a string of 1 to 256 characters",
    "messages": "an array of 1 to 100000 messages",
    "messages[].role": "one of 'system', 'developer', 'user', 'assistant', 'tool'",
    "messages[].content": "a string or a non-empty array of content parts",
    "messages[].content[].type": "a content part's type that this role may send: "
    "'text' ('refusal' for assistant; 'image_url', 'input_audio', 'file' for user)",
    "messages[].content[].image_url.url": "an http(s) URL or a base64 data URL",
    "messages[].content[].image_url.detail": "one of 'auto', 'low', 'high', 'original'",
    "messages[].content[].input_audio.format": "'wav' or 'mp3'",
    "messages[].tool_calls[].type": "'function'",
    "messages[].tool_call_id": "a non-empty string",
    "max_tokens": "an integer between 1 and 2147483647",
    "max_completion_tokens": "an integer between 1 and 2147483647",
    "temperature": "a number between 0 and 2",
    "top_p": "a number between 0 and 1",
    "top_k": "a whole number, 0 or above",
    "frequency_penalty": "a number between -2 and 2",
    "presence_penalty": "a number between -2 and 2",
    "repetition_penalty": "a number between 0 and 2",
    "stop": "a string or an array of 1 to 4 strings",
    "stop[]": "a string",
    "seed": "a 64-bit integer",
    "logprobs": "a boolean",
    "top_logprobs": "an integer between 0 and 20",
    "logit_bias": "an object of token ids and numbers between -100 and 100",
    "logit_bias[]": "a number between -100 and 100",
    "response_format": "an object with a 'type'",
    "response_format.type": "one of 'text', 'json_object', 'json_schema'",
    "response_format.json_schema.name": "1 to 64 of a-z, A-Z, 0-9, underscore and dash",
    "modalities": "an array of 'text', 'audio', 'image'",
    "modalities[]": "one of 'text', 'audio', 'image'",
    "audio.format": "one of 'wav', 'aac', 'mp3', 'flac', 'opus', 'pcm16'",
    "tools": "an array of at most 1024 tools",
    "tools[].type": "'function'",
    "tools[].function.name": "1 to 64 of a-z, A-Z, 0-9, underscore and dash",
    "tool_choice": '\'none\', \'auto\', \'required\', or {"type": "function", "function": {"name": ...}}',
    "tool_choice.type": "'function'",
    "tool_choice.function.name": "1 to 64 of a-z, A-Z, 0-9, underscore and dash",
    "parallel_tool_calls": "a boolean",
    "reasoning": "an object",
    "reasoning.effort": "one of 'max', 'xhigh', 'high', 'medium', 'low', 'minimal', 'none'",
    "reasoning.max_tokens": "an integer between 1 and 2147483647",
    "reasoning.summary": "one of 'auto', 'concise', 'detailed'",
    "reasoning.context": "one of 'auto', 'all_turns', 'current_turn'",
    "web_search_options.search_context_size": "one of 'low', 'medium', 'high'",
    "web_search_options.user_location.type": "'approximate'",
    "metadata": "an object of at most 16 pairs, keys of up to 64 and string values of up to 512 characters",
    "metadata[]": "a string of up to 512 characters",
    "user": "a string",
    "stream": "a boolean",
    "stream_options": "an object",
    "stream_options.include_usage": "a boolean",
}

# Fields of other APIs that clients send, and what to do instead.
HINTS = {
    "n": "One choice is given per request: send several requests.",
    "best_of": "One choice is given per request.",
    "reasoning_effort": "Use 'reasoning': {\"effort\": ...}.",
    "include_reasoning": "Use 'reasoning': {\"exclude\": ...}.",
    "thinking": "Use 'reasoning': {\"max_tokens\": ...}.",
    "verbosity": "Say it in the messages.",
    "functions": "Use 'tools'.",
    "function_call": "Use 'tool_choice'.",
    "provider": "Use the header X-Quantized-Provider.",
    "models": "Send one 'model'; fail-over between its providers is automatic.",
    "route": "Fail-over between a model's providers is automatic.",
    "transforms": "Prompts are never shortened: leave it out.",
    "plugins": "Use 'web_search_options' for web search.",
    "usage": "Usage is always in the answer; for streams use 'stream_options': {\"include_usage\": true}.",
    "service_tier": "There is one tier: leave it out.",
    "store": "Completions are never stored: leave it out.",
    "prediction": "Predicted outputs are not offered: leave it out.",
    "prompt_cache_key": "Leave it out, or mark parts with 'cache_control'.",
    "prompt_cache_retention": "Leave it out, or mark parts with 'cache_control'.",
    "cache_control": "Mark content parts with 'cache_control' instead.",
    "safety_identifier": "Use 'user'.",
    "session_id": "Use 'user' or 'metadata'.",
    "min_p": "Use 'top_p' or 'top_k'.",
    "top_a": "Use 'top_p' or 'top_k'.",
    "system": "Send a message with the role 'system'.",
    "prompt": "Use 'messages'.",
    "input": "Use 'messages'.",
    "instructions": "Send a message with the role 'system'.",
    "max_output_tokens": "Use 'max_completion_tokens'.",
    "stop_sequences": "Use 'stop'.",
    "extra_body": "Send the fields in it at the top level.",
}

_JSON_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}

_PLACE = re.compile(r" - at (?:`(?:key|value)` in )?`\$\.?(?P<path>[^`]*)`\Z")
_QUOTED_FIELD = re.compile(r"field `(?P<field>.*)`\Z", re.DOTALL)
_TYPES = re.compile(r"\AExpected `(?P<expected>[^`]*)`(?:, got `(?P<got>[^`]*)`)?\Z")
_INDEX = re.compile(r"\[[^\]]*\]")


class Words(NamedTuple):
    """What to say about one kind of request: its fields, what each must be, and what to use instead of others."""

    known: Sequence[str]
    rules: Mapping[str, str]
    hints: Mapping[str, str] = {}


def refused(exc: Exception, body: bytes, words: Words) -> errors.InvalidRequest:
    if isinstance(exc, RecursionError):
        return errors.InvalidJson("The request body is nested too deeply.")
    if isinstance(exc, msgspec.ValidationError):
        return invalid(exc, words)
    return errors.InvalidJson(_why_not_json(exc, body))


def _why_not_json(exc: Exception, body: bytes) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"The request body is not valid UTF-8 (byte {exc.start})."
    if not body.strip():
        return "The request body is empty."
    reason = str(exc).removeprefix("JSON is malformed: ").replace("Input data was truncated", "it is cut off")
    return f"The request body is not valid JSON: {reason}."


def invalid(exc: msgspec.ValidationError, words: Words) -> errors.InvalidRequest:
    text = str(exc)
    place = _PLACE.search(text)
    path = place["path"] if place else ""
    text = text[: place.start()] if place else text
    if isinstance(exc.__cause__, Refusal):
        return _by_rule(exc.__cause__, path)
    field = _QUOTED_FIELD.search(text)
    if field is not None and text.startswith("Object missing"):
        return errors.MissingField(_join(path, field["field"]))
    if field is not None and text.startswith("Object contains unknown"):
        return _unknown(path, field["field"], words)
    return _wrong(path, text, words)


def _by_rule(refusal: Refusal, path: str) -> errors.InvalidRequest:
    param = _join(path, refusal.field)
    if refusal.kind is errors.MissingField:
        return errors.MissingField(param)
    return refusal.kind(f"'{param}' {refusal.message}.", param=param)


def _unknown(path: str, field: str, words: Words) -> errors.UnknownField:
    shown = _join(path, field[:SHOWN_CHARS_MAX])
    if path:
        return errors.UnknownField(shown)
    return errors.UnknownField(shown, words.hints.get(field) or _nearest(field[:SHOWN_CHARS_MAX], words.known))


def _nearest(field: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(field.lower(), known, n=1)
    return f"Did you mean '{near[0]}'?" if near else ""


def _wrong(path: str, text: str, words: Words) -> errors.InvalidRequest:
    types = _TYPES.match(text)
    kind: type[errors.InvalidRequest] = errors.InvalidType if types else errors.OutOfRange
    rule = words.rules.get(_INDEX.sub("[]", path)) or _plain_rule(text, types)
    subject = f"'{path}'" if path else "The request body"
    got = f", not {_json_name(types['got'])}" if types and types["got"] else ""
    return kind(f"{subject} must be {rule}{got}.", param=_param(path))


def _plain_rule(text: str, types: re.Match[str] | None) -> str:
    """For a value without words of its own: msgspec's, in JSON's names."""
    if types is not None:
        return " or ".join(_json_name(name) for name in types["expected"].split(" | "))
    return "in range" if text.startswith(("Expected", "Number")) else "one of the allowed values"


def _json_name(name: str) -> str:
    return _JSON_NAMES.get(name, name)


def _join(path: str, field: str) -> str:
    return ".".join(part for part in (path, field) if part)


def _param(path: str) -> str | None:
    # msgspec writes `[...]` for the key of an object: the object is what we can name.
    return path.replace("[...]", "") or None
