"""What becomes of every field at Anthropic. Pure data; what is refused here no Claude model can."""

from completions.providers.fields import FORWARDED, REFUSED, ROUTED, Treatment, column, translated


def _sampled(note: str) -> Treatment:
    return Treatment("forwarded", f"{note}; where the route's rules permit `sampling`, and not while the model thinks")


_BOUND = translated("one bound, `max_tokens`")

FIELDS = column(
    {
        "model": ROUTED,
        "messages": translated("`system` and `messages`, see below"),
        "max_tokens": _BOUND,
        "max_completion_tokens": _BOUND,
        "temperature": _sampled("0 to 1"),
        "top_p": _sampled("not beside `temperature`"),
        "top_k": _sampled("as an integer"),
        "stop": translated("`stop_sequences`; none may be blank"),
        "response_format": translated("`json_schema` to `output_config.format`; `json_object` is refused"),
        "modalities": Treatment("refused", "other than `text`"),
        "tools": translated("`tools` with `input_schema`"),
        "tool_choice": translated("`auto`, `none`, `any`, `tool`; the last two where the rules permit `forced_tools`"),
        "parallel_tool_calls": translated("`disable_parallel_tool_use`"),
        "reasoning": translated("`thinking` and `output_config.effort` by the route's rules, see below"),
        "web_search_options": translated("the tool `web_search_20250305` with `max_uses` 1, 5 or 10"),
        "user": translated("`metadata.user_id`; no e-mail address, no telephone number"),
        "stream": FORWARDED,
        "stream_options": translated("usage always comes, and is shown if you asked for it"),
    },
    others=REFUSED,
)
