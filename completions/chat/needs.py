"""What a request really asks of a route. Pure.

A neutral value (a penalty of 0, `logprobs: false`, null) asks for nothing and is accepted everywhere.
"""

from typing import Any

from completions.chat.request import (
    AudioPart,
    Chat,
    Fields,
    FilePart,
    ImagePart,
    Message,
    Reasoning,
    ResponseFormat,
    UserMessage,
)

_EMPTY: tuple[Any, ...] = (None, [], {})

# Values that ask for nothing beyond what every model does.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "top_k": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": (ResponseFormat(type="text"),),
    "modalities": (["text"],),
    "tool_choice": ("auto",),
    "parallel_tool_calls": (True,),
    "user": ("",),
}
_OF_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
# Fields that the gateway honours itself, whatever the route can do.
_ALWAYS_HONOURED = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options"})


def present_fields(chat: Chat) -> list[str]:
    """The names of the fields of a request that have a value: not null, not empty, and none of tool choice without
    tools."""
    fields = chat.fields
    return [name for name in chat.raw if not _is_empty(name, getattr(fields, name), fields)]


def effective_fields(chat: Chat) -> frozenset[str]:
    """The names of the present fields that a route must be able to honour: whose value is not the neutral one."""
    fields = chat.fields
    return frozenset(
        name
        for name in chat.raw.keys() - _ALWAYS_HONOURED
        if not _is_empty(name, value := getattr(fields, name), fields) and not _is_neutral(name, value)
    )


def _is_empty(name: str, value: Any, fields: Fields) -> bool:
    # `web_search_options: {}` asks for a search with the defaults; it decodes to a struct, never to {}.
    if name == "reasoning" and value is not None:
        return bool(value == Reasoning())
    return value in _EMPTY or (name in _OF_TOOLS and not fields.tools)


def _is_neutral(name: str, value: Any) -> bool:
    if name == "reasoning":
        return bool(value.is_off)
    return value in _NEUTRAL.get(name, ())


# Which capability of a route (completions/models.py has the words) a field needs.
_CAPABILITY = {
    "tools": "tools",
    "tool_choice": "tools",
    "parallel_tool_calls": "tools",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "reasoning": "reasoning",
    "web_search_options": "web_search",
    "audio": "audio_output",
}
_FORMAT_CAPABILITY = {"json_object": "json_mode", "json_schema": "structured_outputs"}
_OUTPUT_CAPABILITY = {"audio": "audio_output", "image": "image_output"}
_PART_CAPABILITY: dict[type, str] = {
    ImagePart: "image_input",
    AudioPart: "audio_input",
    FilePart: "file_input",
}


def needs(chat: Chat) -> list[tuple[str, str]]:
    """(capability, the field that asks for it) for everything a route may be unable to do."""
    found = [(_CAPABILITY[name], name) for name in sorted(effective_fields(chat)) if name in _CAPABILITY]
    found += _format_needs(chat.fields)
    found += [
        (_OUTPUT_CAPABILITY[word], "modalities") for word in chat.fields.modalities or () if word in _OUTPUT_CAPABILITY
    ]
    found += _message_needs(chat.fields.messages)
    return found


def gate(name: str) -> str | None:
    """The capability without which a route refuses even a neutral value of this field by its name."""
    return _CAPABILITY.get(name)


def _format_needs(fields: Fields) -> list[tuple[str, str]]:
    if fields.response_format is None or fields.response_format.type == "text":
        return []
    return [(_FORMAT_CAPABILITY[fields.response_format.type], "response_format")]


def _message_needs(messages: list[Message]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for at, message in enumerate(messages):
        if type(message) is UserMessage and type(message.content) is list:
            for part_at, part in enumerate(message.content):
                capability = _PART_CAPABILITY.get(type(part))
                if capability is not None:
                    found.setdefault(capability, f"messages[{at}].content[{part_at}]")
    return list(found.items())
