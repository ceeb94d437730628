"""What becomes of every field at an OpenAI-compatible server. Pure data."""

from completions.providers.fields import AS_INTEGER, CAPABLE, FORWARDED, ROUTED, column, translated

_BOUND = translated("one bound, `max_tokens`, or `max_completion_tokens` where the host is OpenAI's")

FIELDS = column(
    {
        "model": ROUTED,
        "max_tokens": _BOUND,
        "max_completion_tokens": _BOUND,
        "top_k": AS_INTEGER,
        "logprobs": CAPABLE,
        "top_logprobs": CAPABLE,
        "response_format": CAPABLE,
        "modalities": CAPABLE,
        "audio": CAPABLE,
        "tools": CAPABLE,
        "tool_choice": CAPABLE,
        "parallel_tool_calls": CAPABLE,
        "reasoning": translated("`reasoning_effort`; its keys other than `effort` and `enabled` are refused"),
        "web_search_options": CAPABLE,
        "stream_options": translated("usage is always asked for, and shown if you asked for it"),
    },
    others=FORWARDED,
)
