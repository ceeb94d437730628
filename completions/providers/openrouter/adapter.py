"""OpenRouter's completions: OpenAI's, and every field of the public API is taken as it is. Pure.

Its quirks live in completions/providers/openai, beside the code that handles them: roles and finish reasons repeated
(stream.py), three shapes of the usage chunk (usage.py), errors in events, in choices and in 200s (failure.py).
"""

from typing import Any

from completions.ask import Ask, Unsupported
from completions.chat.request import Chat
from completions.providers.base import unsupported_by
from completions.providers.openai.adapter import OpenAICompatible, forwarded
from completions.routes import Route

REFERER = "https://quantized.us"
TITLE = "Quantized"


class OpenRouter(OpenAICompatible):
    extra_headers = (("http-referer", REFERER), ("x-openrouter-title", TITLE))

    def unsupported(self, ask: Ask, route: Route) -> list[Unsupported]:
        return unsupported_by(ask.content, route)

    def fields(self, chat: Chat, route: Route) -> dict[str, Any]:
        return forwarded(chat, route)

    def bound_field(self, _route: Route) -> str:
        return "max_tokens"
