"""A Chat as the pipeline knows it. Pure."""

from completions.ask import Ask, Demand
from completions.chat.request import Chat
from completions.chat.tokens import estimate_prompt_tokens

# What a search model may do with one question: OpenRouter searches ten times for the context size "high".
WEB_SEARCHES_MAX = 10
NO_UNITS: dict[str, int] = {}


def ask_of(chat: Chat, endpoint: str) -> Ask:
    fields = chat.fields
    is_new_name = fields.max_completion_tokens is not None
    demand = Demand(
        prompt_tokens_max=estimate_prompt_tokens(chat),
        output_tokens=fields.max_completion_tokens if is_new_name else fields.max_tokens,
        output_field="max_completion_tokens" if is_new_name else "max_tokens",
        may_write_cache=chat.marks_cache,
        units={"web_searches": WEB_SEARCHES_MAX} if fields.web_search_options else NO_UNITS,
    )
    return Ask("chat", endpoint, fields.model, bool(fields.stream), chat.body, demand, chat)
