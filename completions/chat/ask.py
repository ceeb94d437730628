"""A Chat as the pipeline knows it. Pure."""

import re

from completions.ask import Ask, Demand
from completions.chat.request import Chat
from completions.chat.tokens import estimate_prompt_tokens

# What a search model may do with one question: OpenRouter searches ten times for the context size "high".
WEB_SEARCHES_MAX = 10
NO_UNITS: dict[str, int] = {}
CACHE_MARK = b'"cache_control"'
ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # nobody needs to write one so, but it could spell the mark


def ask_of(chat: Chat, endpoint: str) -> Ask:
    fields = chat.fields
    is_new_name = fields.max_completion_tokens is not None
    demand = Demand(
        prompt_tokens_max=estimate_prompt_tokens(chat),
        output_tokens=fields.max_completion_tokens if is_new_name else fields.max_tokens,
        output_field="max_completion_tokens" if is_new_name else "max_tokens",
        # Whether anything is marked for the prompt cache: too often rather than too rarely true.
        may_write_cache=CACHE_MARK in chat.body or ESCAPED_LETTER.search(chat.body) is not None,
        units={"web_searches": WEB_SEARCHES_MAX} if fields.web_search_options else NO_UNITS,
    )
    return Ask("chat", endpoint, fields.model, bool(fields.stream), chat.body, demand, chat)
