"""What becomes of every field of a request, at every kind of provider. Pure data, shown in docs/providers.md.

A field is forwarded (the client's own bytes, or the same value), translated (said in the provider's
words), or refused by its name. None is dropped: a value that asks for nothing is accepted everywhere.
Whether one model honours a field is its route's business (capabilities and rules).
"""

from typing import Literal

from msgspec import Struct

Outcome = Literal["forwarded", "translated", "refused"]


class Treatment(Struct, frozen=True):
    outcome: Outcome
    note: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.note}" if self.note else self.outcome


class Row(Struct, frozen=True):
    """One field at each kind of provider; the names are those of completions/models.py."""

    openrouter: Treatment
    openai: Treatment
    anthropic: Treatment


_AS_IT_IS = Treatment("forwarded")
_AS_INTEGER = Treatment("forwarded", "as an integer")
_REFUSED = Treatment("refused")
_CAPABLE = Treatment("forwarded", "where the route has the capability")
_ROUTED = Treatment("translated", "the route's name for it")


def _one_bound(name: str) -> Treatment:
    return Treatment("translated", name)


def _sampled(note: str) -> Treatment:
    return Treatment("forwarded", f"{note}; where the route's rules permit `sampling`, and not while the model thinks")


_BOUND = Row(
    _one_bound("one bound, `max_tokens`"),
    _one_bound("one bound, `max_tokens`, or `max_completion_tokens` where the host is OpenAI's"),
    _one_bound("one bound, `max_tokens`"),
)

FIELDS: dict[str, Row] = {
    "model": Row(_ROUTED, _ROUTED, _ROUTED),
    "messages": Row(_AS_IT_IS, _AS_IT_IS, Treatment("translated", "`system` and `messages`, see below")),
    "max_tokens": _BOUND,
    "max_completion_tokens": _BOUND,
    "temperature": Row(_AS_IT_IS, _AS_IT_IS, _sampled("0 to 1")),
    "top_p": Row(_AS_IT_IS, _AS_IT_IS, _sampled("not beside `temperature`")),
    "top_k": Row(_AS_INTEGER, _AS_INTEGER, _sampled("as an integer")),
    "frequency_penalty": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "presence_penalty": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "repetition_penalty": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "stop": Row(_AS_IT_IS, _AS_IT_IS, Treatment("translated", "`stop_sequences`; none may be blank")),
    "seed": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "logprobs": Row(_CAPABLE, _CAPABLE, _REFUSED),
    "top_logprobs": Row(_CAPABLE, _CAPABLE, _REFUSED),
    "logit_bias": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "response_format": Row(
        _CAPABLE, _CAPABLE, Treatment("translated", "`json_schema` to `output_config.format`; `json_object` is refused")
    ),
    "modalities": Row(_CAPABLE, _CAPABLE, Treatment("refused", "other than `text`")),
    "audio": Row(_CAPABLE, _CAPABLE, _REFUSED),
    "tools": Row(_CAPABLE, _CAPABLE, Treatment("translated", "`tools` with `input_schema`")),
    "tool_choice": Row(
        _CAPABLE,
        _CAPABLE,
        Treatment("translated", "`auto`, `none`, `any`, `tool`; the last two where the rules permit `forced_tools`"),
    ),
    "parallel_tool_calls": Row(_CAPABLE, _CAPABLE, Treatment("translated", "`disable_parallel_tool_use`")),
    "reasoning": Row(
        _CAPABLE,
        Treatment("translated", "`reasoning_effort`; its keys other than `effort` and `enabled` are refused"),
        Treatment("translated", "`thinking` and `output_config.effort` by the route's rules, see below"),
    ),
    "web_search_options": Row(
        _CAPABLE, _CAPABLE, Treatment("translated", "the tool `web_search_20250305` with `max_uses` 1, 5 or 10")
    ),
    "metadata": Row(_AS_IT_IS, _AS_IT_IS, _REFUSED),
    "user": Row(
        _AS_IT_IS, _AS_IT_IS, Treatment("translated", "`metadata.user_id`; no e-mail address, no telephone number")
    ),
    "stream": Row(_AS_IT_IS, _AS_IT_IS, _AS_IT_IS),
    "stream_options": Row(
        *2 * (Treatment("translated", "usage is always asked for, and shown if you asked for it"),),
        Treatment("translated", "usage always comes, and is shown if you asked for it"),
    ),
}

REFUSED_BY_ANTHROPIC = frozenset(name for name, row in FIELDS.items() if row.anthropic.outcome == "refused")
