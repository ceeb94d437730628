from completions.providers.fields import FORWARDED, REFUSED, ROUTED, column, translated

_BOUND = translated("`words_max`")

FIELDS = column(
    {
        "model": ROUTED,
        "messages": translated("`thoughts`; text alone"),
        "max_tokens": _BOUND,
        "max_completion_tokens": _BOUND,
        "temperature": FORWARDED,
        "stream": translated("it always thinks line by line"),
        "stream_options": translated("what it took always comes, and is shown if you asked for it"),
    },
    others=REFUSED,
)
